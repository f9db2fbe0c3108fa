# Needs:  captions.parquet, depth.parquet, images.parquet
# Leaves: {results}/{culture}/negatives.parquet         the un-tuned model's own pictures of each scene
#         {results}/{culture}/negatives_kept.parquet    those that are no false negatives
#         {results}/{culture}/distances.parquet         DreamSim distance of each to its positive
# On request (snakemake purge_negatives) all pictures of negatives are deleted.


rule synthesize:
    input:
        captions=f"{RESULTS}/{{culture}}/captions.parquet",
        depth=f"{RESULTS}/{{culture}}/depth.parquet",
    output:
        negatives=f"{RESULTS}/{{culture}}/negatives.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/synthesize.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/synthesize.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: THREADS
    resources:
        gpu=1,
    params:
        suffix=suffix,
        seed=SETTINGS.seed,
        base=model("base"),
        controlnet=model("controlnet"),
        config=section("negatives"),
        shard=[1, 1],
    shell:
        """
        python -m pipeline_steps.negatives.synthesize \
            --captions {input.captions:q} \
            --depth {input.depth:q} \
            --negatives {output.negatives:q} \
            --culture {wildcards.culture:q} \
            --suffix {params.suffix:q} \
            --seed {params.seed} \
            --base {params.base:q} \
            --controlnet {params.controlnet:q} \
            --config {params.config:q} \
            --shard {params.shard} \
            --threads {threads} \
            --gpus {resources.gpu} \
            2>&1 | tee {log:q}
        """


rule filter:
    input:
        images=f"{RESULTS}/{{culture}}/images.parquet",
        negatives=f"{RESULTS}/{{culture}}/negatives.parquet",
    output:
        negatives_kept=f"{RESULTS}/{{culture}}/negatives_kept.parquet",
        distances=f"{RESULTS}/{{culture}}/distances.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/filter.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/filter.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: THREADS
    resources:
        gpu=1,
    params:
        dreamsim=model("dreamsim"),
        config=section("filter"),
    shell:
        """
        python -m pipeline_steps.negatives.filter \
            --images {input.images:q} \
            --negatives {input.negatives:q} \
            --negatives-kept {output.negatives_kept:q} \
            --distances {output.distances:q} \
            --culture {wildcards.culture:q} \
            --dreamsim {params.dreamsim:q} \
            --config {params.config:q} \
            --threads {threads} \
            --gpus {resources.gpu} \
            2>&1 | tee {log:q}
        """


# Without inputs and outputs: it deletes whatever lies there, and runs whenever it is asked for.
rule purge_negatives:
    log:
        f"{RESULTS}/logs/purge_negatives.log",
    conda:
        "../../envs/pipeline.yaml"
    params:
        results=RESULTS,
        pages=f"{RESULTS}/report.html",
    shell:
        """
        python -m pipeline_steps.negatives.purge_negatives \
            --results {params.results:q} \
            --pages {params.pages:q} \
            2>&1 | tee {log:q}
        """
