# Needs:  everything that the page shows, of all cultures
# Leaves: {results}/report.html    one self-contained page

INCLUDED = {
    "table1": [f"{RESULTS}/table1.csv"],
    "table2": [f"{RESULTS}/table2.csv"],
    "fig6": expand(f"{RESULTS}/{{culture}}/figures/fig6.png", culture=CULTURES),
    "fig7": [f"{RESULTS}/figures/fig7.svg"],
    "fig8": expand(f"{RESULTS}/{{culture}}/figures/fig8.png", culture=CULTURES),
    "kid_power": expand(f"{RESULTS}/{{culture}}/figures/kid_power.svg", culture=CULTURES),
}


def of_cultures(name):
    """One file of every culture."""
    return expand(f"{RESULTS}/{{culture}}/{name}", culture=CULTURES)


def of_variants(folder, ending):
    """One file of every culture and variant on the page."""
    path = f"{RESULTS}/{{culture}}/{folder}/{{variant}}.{ending}"
    return expand(path, culture=CULTURES, variant=SETTINGS.score.variants)


def included(ending):
    """The paper's tables (csv) or figures that the settings ask for."""
    paths = [path for name in SETTINGS.report.include for path in INCLUDED[name]]
    return [path for path in paths if path.endswith(ending)]


rule report:
    input:
        template="resources/report/page.html",
        style="resources/report/page.css",
        images=of_cultures("images.parquet"),
        depth=of_cultures("depth.parquet"),
        negatives=of_cultures("negatives.parquet"),
        distances=of_cultures("distances.parquet"),
        samples=of_variants("samples", "parquet"),
        features=of_variants("features", "safetensors"),
        references=of_cultures("features/images.safetensors"),
        scores=of_cultures("scores.parquet"),
        train_logs=of_cultures("train_log.parquet"),
        tables=included(".csv"),
        figures=included((".svg", ".png")),
    output:
        page=report(
            f"{RESULTS}/report.html",
            caption="../report/page.rst",
            category="Overview",
            labels={"result": "The whole run on one page"},
        ),
    log:
        f"{RESULTS}/logs/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/report.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        tables=lambda wildcards, input: ["--tables", *input.tables] if input.tables else [],
        figures=lambda wildcards, input: ["--figures", *input.figures] if input.figures else [],
        settings=SETTINGS.model_dump_json(),
    shell:
        """
        python -m pipeline_steps.report \
            --page {output.page:q} \
            --template {input.template:q} \
            --style {input.style:q} \
            --images {input.images:q} \
            --depth {input.depth:q} \
            --negatives {input.negatives:q} \
            --distances {input.distances:q} \
            --samples {input.samples:q} \
            --features {input.features:q} \
            --references {input.references:q} \
            --scores {input.scores:q} \
            --train-logs {input.train_logs:q} \
            {params.tables:q} \
            {params.figures:q} \
            --settings {params.settings:q} \
            2>&1 | tee {log:q}
        """
