# Needs:  a culture's folder of pictures and captions.
# Leaves: {results}/{culture}/images.parquet       pictures, captions, split
#         {results}/{culture}/captions.parquet     k BLIP captions a training picture
#         {results}/{culture}/depth.parquet        MiDaS depth of the training pictures


rule ingest:
    input:
        folder=images_folder,
    output:
        images=f"{RESULTS}/{{culture}}/images.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/ingest.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/ingest.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        suffix=suffix,
        seed=SETTINGS.seed,
        config=section("data"),
    shell:
        """
        python -m pipeline_steps.ingest \
            --folder {input.folder:q} \
            --images {output.images:q} \
            --culture {wildcards.culture:q} \
            --suffix {params.suffix:q} \
            --seed {params.seed} \
            --config {params.config:q} \
            2>&1 | tee {log:q}
        """


rule caption:
    input:
        images=f"{RESULTS}/{{culture}}/images.parquet",
    output:
        captions=f"{RESULTS}/{{culture}}/captions.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/caption.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/caption.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: THREADS
    resources:
        gpu=1,
    params:
        seed=SETTINGS.seed,
        captioner=model("captioner"),
        config=section("caption"),
    shell:
        """
        python -m pipeline_steps.caption \
            --images {input.images:q} \
            --captions {output.captions:q} \
            --culture {wildcards.culture:q} \
            --seed {params.seed} \
            --captioner {params.captioner:q} \
            --config {params.config:q} \
            --threads {threads} \
            2>&1 | tee {log:q}
        """


rule depth:
    input:
        images=f"{RESULTS}/{{culture}}/images.parquet",
    output:
        depth=f"{RESULTS}/{{culture}}/depth.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/depth.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/depth.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: THREADS
    resources:
        gpu=1,
    params:
        depth_model=model("depth"),
        config=section("depth"),
    shell:
        """
        python -m pipeline_steps.depth \
            --images {input.images:q} \
            --depth {output.depth:q} \
            --culture {wildcards.culture:q} \
            --depth-model {params.depth_model:q} \
            --config {params.config:q} \
            --threads {threads} \
            2>&1 | tee {log:q}
        """
