# Needs:  images.parquet
# Leaves: {results}/{culture}/captions.parquet          k BLIP captions a training picture
#         {results}/{culture}/depth.parquet             MiDaS depth of the training pictures
#         {results}/{culture}/negatives.parquet         the un-tuned model's own pictures of each scene
#         {results}/{culture}/{run}negatives_kept.parquet    those that are no false negatives
#         {results}/{culture}/{run}distances.parquet         DreamSim distance of each to its positive
# On request (snakemake --cores 1 purge_negatives) all pictures of negatives are deleted.

STRUCTURE = "images" if SETTINGS.negatives.structure == "noise" else "depth"


rule caption:
    input:
        images=f"{RESULTS}/{{culture}}/images.parquet",
    output:
        captions=f"{RESULTS}/{{culture}}/{{shard}}captions.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/{{shard}}caption.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/{{shard}}caption.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: THREADS
    resources:
        gpu=1,
    params:
        seed=seed,
        captioner=model("captioner"),
        config=section("caption"),
        shard=shard,
    shell:
        """
        python -m pipeline_steps.negatives.caption \
            --images {input.images:q} \
            --captions {output.captions:q} \
            --culture {wildcards.culture:q} \
            --seed {params.seed} \
            --captioner {params.captioner:q} \
            --config {params.config:q} \
            --shard {params.shard} \
            --threads {threads} \
            --gpus {resources.gpu} \
            2>&1 | tee {log:q}
        """


rule depth:
    input:
        images=f"{RESULTS}/{{culture}}/images.parquet",
    output:
        depth=f"{RESULTS}/{{culture}}/{{shard}}depth.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/{{shard}}depth.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/{{shard}}depth.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: THREADS
    resources:
        gpu=1,
    params:
        depth_model=model("depth"),
        config=section("depth"),
        shard=shard,
    shell:
        """
        python -m pipeline_steps.negatives.depth \
            --images {input.images:q} \
            --depth {output.depth:q} \
            --culture {wildcards.culture:q} \
            --depth-model {params.depth_model:q} \
            --config {params.config:q} \
            --shard {params.shard} \
            --threads {threads} \
            --gpus {resources.gpu} \
            2>&1 | tee {log:q}
        """


rule synthesize:
    input:
        captions=f"{RESULTS}/{{culture}}/captions.parquet",
        structure=f"{RESULTS}/{{culture}}/{STRUCTURE}.parquet",
    output:
        negatives=f"{RESULTS}/{{culture}}/{{shard}}negatives.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/{{shard}}synthesize.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/{{shard}}synthesize.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: THREADS
    resources:
        gpu=1,
    params:
        suffix=suffix,
        seed=seed,
        base=model("base"),
        controlnet=model("controlnet"),
        config=section("negatives", *fields_but("negatives", "offload")),
        # What asks for `input` Snakemake takes for derived from it: where networks wait changes no picture.
        offload=lambda wildcards, input: ["--offload"] if SETTINGS.negatives.offload else [],
        shard=shard,
    shell:
        """
        python -m pipeline_steps.negatives.synthesize \
            --captions {input.captions:q} \
            --structure {input.structure:q} \
            --negatives {output.negatives:q} \
            --culture {wildcards.culture:q} \
            --suffix {params.suffix:q} \
            --seed {params.seed} \
            --base {params.base:q} \
            --controlnet {params.controlnet:q} \
            --config {params.config:q} \
            {params.offload:q} \
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
        negatives_kept=f"{RESULTS}/{{culture}}/{{run}}negatives_kept.parquet",
        distances=f"{RESULTS}/{{culture}}/{{run}}distances.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/{{run}}filter.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/{{run}}filter.tsv"
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
        results=on_disk(RESULTS),
        pages=[moved(f"{RESULTS}/{page}") for page in ("report.html", "snakemake_report.html")],
    shell:
        """
        python -m pipeline_steps.negatives.purge_negatives \
            --results {params.results:q} \
            --pages {params.pages:q} \
            2>&1 | tee {log:q}
        """
