# Needs:  negatives.parquet, train_cache.safetensors, images.parquet; "runs" and "study" in the configuration
# Leaves: {results}/{culture}/runs/{run}/{variant}/lora.safetensors, train_log.parquet
#         {results}/{culture}/runs/{run}/{samples,features,scores}/{variant}.…    as of the default run
#         {results}/{culture}/reconstructed.parquet       the real pictures as the VAE shows them
#         {results}/embedded_world.csv, embedded_world.md all variants over cultures and seeds
#         {results}/figures/curves.html, curves.csv       scores against the length of training
#
# Up to its LoRAs a run shares every file whose settings it leaves alone with the default run; its pictures are its own.


wildcard_constraints:
    run="|".join(RUNS) or "no_run_is_configured",


use rule filter as filter_run with:
    output:
        negatives_kept=f"{RUN}/negatives_kept.parquet",
        distances=f"{RUN}/distances.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/runs/{{run}}/filter.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/runs/{{run}}/filter.tsv"
    params:
        config=run_section("filter"),


use rule targets as targets_run with:
    input:
        images=f"{RESULTS}/{{culture}}/images.parquet",
        negatives_kept=run_negatives,
    output:
        targets=f"{RUN}/targets.safetensors",
    log:
        f"{RESULTS}/logs/{{culture}}/runs/{{run}}/targets.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/runs/{{run}}/targets.tsv"
    params:
        seed=lambda wildcards: RUNS[wildcards.run].seed,
        extractor=lambda wildcards: extractor(RUNS[wildcards.run]),
        perceptual=lambda wildcards: RUNS[wildcards.run].train.perceptual.model_dump_json(),


use rule train as train_run with:
    input:
        train_cache=f"{RESULTS}/{{culture}}/train_cache.safetensors",
        targets=run_targets,
        card=ancient(f"{RESULTS}/{{culture}}/data_card.md"),
    output:
        lora=f"{RUN}/{{variant}}/lora.safetensors",
        train_log=f"{RUN}/{{variant}}/train_log.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/runs/{{run}}/train_{{variant}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/runs/{{run}}/train_{{variant}}.tsv"
    resources:
        gpu=run_processes,
    params:
        launch=lambda wildcards: launch(run_processes(wildcards)),
        variant="{variant}",
        seed=lambda wildcards: RUNS[wildcards.run].seed,
        extractor=lambda wildcards: extractor(RUNS[wildcards.run]),
        config=run_section("train"),


use rule sample as sample_run with:
    input:
        images=f"{RESULTS}/{{culture}}/images.parquet",
        prompts=prompts_file,
        lora=run_lora,
    output:
        samples=f"{RUN}/samples/{{variant}}.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/runs/{{run}}/sample_{{variant}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/runs/{{run}}/sample_{{variant}}.tsv"
    params:
        seed=lambda wildcards: RUNS[wildcards.run].seed,
        config=run_section("sample"),


use rule features as features_run with:
    input:
        pictures=f"{RUN}/samples/{{variant}}.parquet",
    output:
        features=f"{RUN}/features/{{variant}}.safetensors",
    log:
        f"{RESULTS}/logs/{{culture}}/runs/{{run}}/features_{{variant}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/runs/{{run}}/features_{{variant}}.tsv"


use rule score as score_run with:
    input:
        samples=f"{RUN}/samples/{{variant}}.parquet",
        features=f"{RUN}/features/{{variant}}.safetensors",
        images=f"{RESULTS}/{{culture}}/images.parquet",
        reference=f"{RESULTS}/{{culture}}/features/images.safetensors",
    output:
        scores=f"{RUN}/scores/{{variant}}.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/runs/{{run}}/score_{{variant}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/runs/{{run}}/score_{{variant}}.tsv"


# --- the study of the embedded world ---


rule reconstruct:
    input:
        images=f"{RESULTS}/{{culture}}/images.parquet",
    output:
        reconstructed=f"{RESULTS}/{{culture}}/reconstructed.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/reconstruct.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/reconstruct.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: THREADS
    resources:
        gpu=1,
    params:
        base=model("base"),
        config=section("cache"),
    shell:
        """
        python -m pipeline_steps.evaluation.reconstruct \
            --images {input.images:q} \
            --reconstructed {output.reconstructed:q} \
            --culture {wildcards.culture:q} \
            --base {params.base:q} \
            --config {params.config:q} \
            --threads {threads} \
            --gpus {resources.gpu} \
            2>&1 | tee {log:q}
        """


use rule features as features_reconstructed with:
    input:
        pictures=f"{RESULTS}/{{culture}}/reconstructed.parquet",
    output:
        features=f"{RESULTS}/{{culture}}/features/reconstructed.safetensors",
    log:
        f"{RESULTS}/logs/{{culture}}/features_reconstructed.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/features_reconstructed.tsv"
    params:
        kind="images",


rule embedded_world:
    input:
        scores=study_files("scores", "parquet"),
        features=study_files("features", "safetensors"),
        images=expand(f"{RESULTS}/{{culture}}/images.parquet", culture=CULTURES),
        reconstructed=expand(f"{RESULTS}/{{culture}}/features/reconstructed.safetensors", culture=CULTURES),
        bleed=all_scores("runs/generic_prompts/scores", VARIANTS),
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
        f"{RESULTS}/logs/embedded_world.log",
    benchmark:
        f"{RESULTS}/benchmarks/embedded_world.tsv"
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
        scores=curve_scores(),
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
        updates=[updates for *_, updates in curve_points()],
    shell:
        """
        python -m pipeline_steps.report.curves \
            --scores {input.scores:q} \
            --updates {params.updates} \
            --benchmarks {input.benchmarks:q} \
            --chart {output.chart:q} \
            --table {output.table:q} \
            2>&1 | tee {log:q}
        """
