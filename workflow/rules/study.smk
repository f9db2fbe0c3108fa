# Needs:  scores and features of every variant, of the seeds and controls that the study names; their trainings' seconds
# Leaves: {results}/embedded_world.csv, embedded_world.md     all variants over cultures and seeds, and the controls
#         {results}/embedded_world_values.csv                 the scores of each training that they sum up
#         {results}/figures/curves.html, curves.csv           scores against the length of training
from pipeline_steps.config.runs import control_run


def study_files(folder, ending):
    """One file of every culture and variant, of the default run and of those with other seeds."""
    runs = ["", *(f"runs/{run}/" for run in SETTINGS.study.seeds)]
    return of_cultures(f"{{run}}{folder}/{{variant}}.{ending}", run=runs, variant=PAPER)


def control_runs():
    """Culture, control and seed of every training that the study sets beside the full variant."""
    controls = SETTINGS.study.controls.items()
    return [(culture, name, seed) for culture in CULTURES for name, c in controls for seed in ("", *c.seeds)]


def control_files(folder, ending):
    """One file of each of them."""
    return [
        f"{RESULTS}/{culture}/runs/{control_run(name, seed)}/{folder}/{SETTINGS.study.controls[name].variant}.{ending}"
        for culture, name, seed in control_runs()
    ]


def curve_points():
    """Culture, run and variant of every point of the curves."""
    runs = ["", *(f"runs/{run}/" for run in SETTINGS.study.lengths)]
    trained = PAPER[1:]  # all but the un-tuned model
    return [(c, run, variant) for c in SETTINGS.study.length_cultures for run in runs for variant in trained]


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
        controls=control_files("scores", "parquet"),
        control_features=control_files("features", "safetensors"),
    output:
        table=f"{RESULTS}/embedded_world.csv",
        summary=report(
            f"{RESULTS}/embedded_world.md",
            caption="../report/embedded_world.rst",
            category="Tables",
            labels={"result": "The embedded world"},
        ),
        values=f"{RESULTS}/embedded_world_values.csv",
    log:
        f"{RESULTS}/logs/study.log",
    benchmark:
        f"{RESULTS}/benchmarks/study.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        controls=[f"{name}:{seed}" for _, name, seed in control_runs()],
        pairs=[":".join(pair) for pair in SETTINGS.study.pairs],
    shell:
        """
        python -m pipeline_steps.report.study \
            --scores {input.scores:q} \
            --features {input.features:q} \
            --images {input.images:q} \
            --reconstructed {input.reconstructed:q} \
            --bleed {input.bleed:q} \
            --controls {input.controls:q} \
            --control-features {input.control_features:q} \
            --control-runs {params.controls:q} \
            --pairs {params.pairs:q} \
            --table {output.table:q} \
            --summary {output.summary:q} \
            --values {output.values:q} \
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
