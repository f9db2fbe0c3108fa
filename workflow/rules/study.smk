# Needs:  scores, features, benchmarks of the runs that the section `study` names
# Leaves: {results}/embedded_world.csv, embedded_world.md     all variants over cultures and seeds
#         {results}/figures/curves.html, curves.csv           scores against the length of training


def study_files(folder, ending):
    """One file of every culture and variant, of the default run and of those with other seeds."""
    runs = ["", *(f"runs/{run}/" for run in SETTINGS.study.seeds)]
    return of_cultures(f"{{run}}{folder}/{{variant}}.{ending}", run=runs, variant=PAPER)


def control_scores():
    """Scores of the full variant with other negatives."""
    path = f"{RESULTS}/{{culture}}/runs/{{run}}/scores/{FULL_VARIANT}.parquet"
    return expand(path, culture=SETTINGS.study.control_cultures, run=SETTINGS.study.controls)


def curve_points():
    """Culture, run and variant of every point of the curves."""
    runs = ["", *(f"runs/{run}/" for run in SETTINGS.study.lengths)]
    return [
        (c, run, variant)
        for c in SETTINGS.study.length_cultures
        for run in runs
        for variant in PAPER
        if variant != "sd"
    ]


def curve_benchmarks():
    """Snakemake's clock time of every point's training."""
    return [
        f"{RESULTS}/benchmarks/{name}/{lora_folder(run, variant)}train.tsv"
        for name, run, variant in curve_points()
    ]


rule study:
    input:
        scores=study_files("scores", "parquet"),
        features=study_files("features", "safetensors"),
        images=of_cultures("images.parquet"),
        reconstructed=of_cultures("features/reconstructed.safetensors"),
        bleed=of_cultures("runs/generic_prompts/scores/{variant}.parquet", variant=PAPER),
        controls=control_scores(),
    output:
        table=f"{RESULTS}/embedded_world.csv",
        summary=report(
            f"{RESULTS}/embedded_world.md",
            caption="../report/embedded_world.rst",
            category="Tables",
            labels={"result": "The embedded world"},
        ),
    log:
        f"{RESULTS}/logs/study.log",
    benchmark:
        f"{RESULTS}/benchmarks/study.tsv"
    conda:
        "../../envs/pipeline.yaml"
    shell:
        """
        python -m pipeline_steps.report.study \
            --scores {input.scores:q} \
            --features {input.features:q} \
            --images {input.images:q} \
            --reconstructed {input.reconstructed:q} \
            --bleed {input.bleed:q} \
            --controls {input.controls:q} \
            --table {output.table:q} \
            --summary {output.summary:q} \
            2>&1 | tee {log:q}
        """


rule curves:
    input:
        template=page("curves"),
        style=PAGE_STYLE,
        scores=[f"{RESULTS}/{name}/{run}scores/{variant}.parquet" for name, run, variant in curve_points()],
        benchmarks=curve_benchmarks(),
    output:
        chart=report(
            f"{RESULTS}/figures/curves.html",
            caption="../report/curves.rst",
            category="Figures",
            subcategory="all cultures",
            labels={"result": "Scores against the length of training"},
        ),
        table=f"{RESULTS}/figures/curves.csv",
    log:
        f"{RESULTS}/logs/curves.log",
    benchmark:
        f"{RESULTS}/benchmarks/curves.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        updates=[RUNS[run].settings.train.updates for _, run, _ in curve_points()],
    shell:
        """
        python -m pipeline_steps.report.curves \
            --template {input.template[0]:q} \
            --style {input.style:q} \
            --scores {input.scores:q} \
            --updates {params.updates} \
            --benchmarks {input.benchmarks:q} \
            --chart {output.chart:q} \
            --table {output.table:q} \
            2>&1 | tee {log:q}
        """
