# Needs:  images.parquet, captions.parquet, negatives_kept.parquet, data_card.md
# Leaves: {results}/{culture}/train_cache.safetensors                    latents and text
#         {results}/{culture}/targets.safetensors                        perceptual features of x+ and x-
#         {results}/{culture}/lora.safetensors                           SCoFT+MPC
#         {results}/{culture}/ablations/{variant}/lora.safetensors       ldm, scoft_m, scoft_mp
#         train_log.parquet beside each LoRA
#         {results}/{culture}/lora_kohya.safetensors, model_card.md      for other programs, for people


rule cache:
    input:
        images=f"{RESULTS}/{{culture}}/images.parquet",
        captions=f"{RESULTS}/{{culture}}/captions.parquet",
    output:
        train_cache=f"{RESULTS}/{{culture}}/train_cache.safetensors",
    log:
        f"{RESULTS}/logs/{{culture}}/cache.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/cache.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: THREADS
    resources:
        gpu=1,
    params:
        base=model("base"),
        config=section("cache"),
        shard=[1, 1],
    shell:
        """
        python -m pipeline_steps.training.cache \
            --images {input.images:q} \
            --captions {input.captions:q} \
            --train-cache {output.train_cache:q} \
            --culture {wildcards.culture:q} \
            --base {params.base:q} \
            --config {params.config:q} \
            --shard {params.shard} \
            --threads {threads} \
            --gpus {resources.gpu} \
            2>&1 | tee {log:q}
        """


rule targets:
    input:
        images=f"{RESULTS}/{{culture}}/images.parquet",
        negatives_kept=f"{RESULTS}/{{culture}}/negatives_kept.parquet",
    output:
        targets=f"{RESULTS}/{{culture}}/targets.safetensors",
    log:
        f"{RESULTS}/logs/{{culture}}/targets.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/targets.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: THREADS
    resources:
        gpu=1,
    params:
        seed=SETTINGS.seed,
        extractor=extractor(),
        perceptual=SETTINGS.train.perceptual.model_dump_json(),
        config=section("cache"),
    shell:
        """
        python -m pipeline_steps.training.targets \
            --images {input.images:q} \
            --negatives-kept {input.negatives_kept:q} \
            --targets {output.targets:q} \
            --culture {wildcards.culture:q} \
            --seed {params.seed} \
            --extractor {params.extractor:q} \
            --perceptual {params.perceptual:q} \
            --config {params.config:q} \
            --threads {threads} \
            --gpus {resources.gpu} \
            2>&1 | tee {log:q}
        """


rule train:
    input:
        train_cache=f"{RESULTS}/{{culture}}/train_cache.safetensors",
        targets=f"{RESULTS}/{{culture}}/targets.safetensors",
        # Not read: no LoRA without a card of its data. Its age says nothing about the LoRA's.
        card=ancient(f"{RESULTS}/{{culture}}/data_card.md"),
    output:
        lora=f"{RESULTS}/{{culture}}/lora.safetensors",
        train_log=f"{RESULTS}/{{culture}}/train_log.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/train_scoft_mpc.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/train_scoft_mpc.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: THREADS
    resources:
        gpu=SETTINGS.train.processes,
    params:
        launch=launch(SETTINGS.train.processes),
        variant=FULL_VARIANT,
        targets=lambda wildcards, input: optional("--targets", input.targets),
        seed=SETTINGS.seed,
        base=model("base"),
        extractor=extractor(),
        config=section("train"),
    shell:
        """
        {params.launch} pipeline_steps.training.train \
            --train-cache {input.train_cache:q} \
            {params.targets:q} \
            --lora {output.lora:q} \
            --train-log {output.train_log:q} \
            --culture {wildcards.culture:q} \
            --variant {params.variant} \
            --seed {params.seed} \
            --base {params.base:q} \
            --extractor {params.extractor:q} \
            --config {params.config:q} \
            --threads {threads} \
            --gpus {resources.gpu} \
            2>&1 | tee {log:q}
        """


use rule train as train_ablation with:
    input:
        train_cache=f"{RESULTS}/{{culture}}/train_cache.safetensors",
        targets=ablation_targets,
        card=ancient(f"{RESULTS}/{{culture}}/data_card.md"),
    output:
        lora=f"{RESULTS}/{{culture}}/ablations/{{variant}}/lora.safetensors",
        train_log=f"{RESULTS}/{{culture}}/ablations/{{variant}}/train_log.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/train_{{variant}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/train_{{variant}}.tsv"
    wildcard_constraints:
        variant="ldm|scoft_m|scoft_mp",
    params:
        variant="{variant}",


rule export:
    input:
        lora=f"{RESULTS}/{{culture}}/lora.safetensors",
        data_card=f"{RESULTS}/{{culture}}/data_card.md",
    output:
        kohya=f"{RESULTS}/{{culture}}/lora_kohya.safetensors",
        model_card=f"{RESULTS}/{{culture}}/model_card.md",
    log:
        f"{RESULTS}/logs/{{culture}}/export.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/export.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        suffix=suffix,
    shell:
        """
        python -m pipeline_steps.training.export \
            --lora {input.lora:q} \
            --data-card {input.data_card:q} \
            --kohya {output.kohya:q} \
            --model-card {output.model_card:q} \
            --culture {wildcards.culture:q} \
            --suffix {params.suffix:q} \
            2>&1 | tee {log:q}
        """
