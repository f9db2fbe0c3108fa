# Needs:  everything that the page shows, of all cultures
# Leaves: {results}/report.html                     one self-contained page
#         {results}/sbom.cdx.json, licences.md      (on request) the software behind the run


rule report:
    input:
        template="resources/report/page.html",
        style="resources/report/page.css",
        images=of_cultures("images.parquet"),
        depth=of_cultures("depth.parquet"),
        negatives=of_cultures("negatives.parquet") if SETTINGS.report.negatives else [],
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
        negatives=lambda wildcards, input: ["--negatives", *input.negatives] if input.negatives else [],
        tables=lambda wildcards, input: ["--tables", *input.tables] if input.tables else [],
        figures=lambda wildcards, input: ["--figures", *input.figures] if input.figures else [],
        settings=SETTINGS.model_dump_json(),
    shell:
        """
        python -m pipeline_steps.report.report \
            --page {output.page:q} \
            --template {input.template:q} \
            --style {input.style:q} \
            --images {input.images:q} \
            --depth {input.depth:q} \
            {params.negatives:q} \
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


rule sbom:
    input:
        lock="envs/requirements.lock",
    output:
        inventory=f"{RESULTS}/sbom.cdx.json",
        table=f"{RESULTS}/licences.md",
    log:
        f"{RESULTS}/logs/sbom.log",
    benchmark:
        f"{RESULTS}/benchmarks/sbom.tsv"
    conda:
        "../../envs/pipeline.yaml"
    shell:
        """
        python -m pipeline_steps.report.sbom \
            --lock {input.lock:q} \
            --inventory {output.inventory:q} \
            --table {output.table:q} \
            2>&1 | tee {log:q}
        """
