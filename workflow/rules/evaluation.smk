# Needs:  images.parquet, lora.safetensors of the variants
# Leaves: {results}/{culture}/{run}samples/{variant}.parquet       pictures of the test prompts
#         {results}/{culture}/{run}features/{variant}.safetensors  what each network sees in them
#         {results}/{culture}/{run}scores/{variant}.parquet        every score with its interval
#         {results}/{culture}/scores.parquet                       those of the configured variants
#         {results}/{culture}/features/{images,reconstructed}.safetensors    the real pictures' own
#         {results}/{culture}/reconstructed.parquet                the real pictures as the VAE shows them
#
# A run is a named one, a training of Fig. 7, or a set of other prompts: captions of training pictures,
# MS-COCO's captions, prompts that name no culture.


def lora_read(variant):
    """What a variant's LoRA depends on: what its training reads, and the filter where it looks at negatives."""
    return lambda settings: (
        settings.train,
        settings.seed,
        settings.filter if variant in PERCEPTUAL else None,
    )


def lora_of(wildcards):
    """The variant's LoRA: none for the un-tuned model."""
    if wildcards.variant == "sd":
        return []
    folder = lora_folder(own(wildcards.run, lora_read(wildcards.variant)), wildcards.variant)
    return f"{RESULTS}/{{culture}}/{folder}lora.safetensors"


def prompts(wildcards):
    """The file of prompts that a run draws."""
    return {
        None: place(culture(wildcards).prompts or SETTINGS.evaluation.prompts),
        "train_prompts": f"{RESULTS}/{{culture}}/train_prompts.txt",
        "coco_prompts": f"{COCO}/prompts.txt",
        "generic_prompts": place(SETTINGS.evaluation.generic_prompts),
    }[RUNS[wildcards.run].prompt_set]


def prompts_suffix(wildcards):
    """Test prompts end with the culture's suffix; others are drawn as they stand."""
    return [] if RUNS[wildcards.run].prompt_set else optional("--suffix", suffix(wildcards))


def real(file):
    """A file of the real pictures that a run is scored against."""

    def of(wildcards):
        coco = RUNS[wildcards.run].prompt_set == "coco_prompts"
        return f"{COCO if coco else f'{RESULTS}/{{culture}}'}/{file}"

    return of


def pictures(wildcards):
    """The table of pictures whose features are asked for."""
    generated = wildcards.seen in VARIANTS
    return f"{RESULTS}/{{culture}}/{{run}}{'samples/' if generated else ''}{{seen}}.parquet"


rule train_prompts:
    input:
        images=f"{RESULTS}/{{culture}}/images.parquet",
    output:
        prompts=f"{RESULTS}/{{culture}}/train_prompts.txt",
    log:
        f"{RESULTS}/logs/{{culture}}/train_prompts.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/train_prompts.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        total=SETTINGS.evaluation.train_prompts,
        seed=seed,
    shell:
        """
        python -m pipeline_steps.evaluation.train_prompts \
            --images {input.images:q} \
            --prompts {output.prompts:q} \
            --culture {wildcards.culture:q} \
            --count {params.total} \
            --seed {params.seed} \
            2>&1 | tee {log:q}
        """


rule sample:
    input:
        images=f"{RESULTS}/{{culture}}/images.parquet",
        prompts=prompts,
        lora=lora_of,
    output:
        samples=f"{RESULTS}/{{culture}}/{{run}}{{shard}}samples/{{variant}}.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/{{run}}{{shard}}sample_{{variant}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/{{run}}{{shard}}sample_{{variant}}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: THREADS
    resources:
        gpu=1,
    params:
        lora=lambda wildcards, input: optional("--lora", input.lora),
        suffix=prompts_suffix,
        seed=seed,
        base=model("base"),
        config=section("sample"),
        shard=shard,
    shell:
        """
        python -m pipeline_steps.evaluation.sample \
            --images {input.images:q} \
            --prompts {input.prompts:q} \
            {params.lora:q} \
            --samples {output.samples:q} \
            --culture {wildcards.culture:q} \
            {params.suffix:q} \
            --seed {params.seed} \
            --base {params.base:q} \
            --config {params.config:q} \
            --shard {params.shard} \
            --threads {threads} \
            --gpus {resources.gpu} \
            2>&1 | tee {log:q}
        """


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
        config=section("cache", "batch_size"),
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


rule features:
    input:
        pictures=pictures,
    output:
        features=f"{RESULTS}/{{culture}}/{{run}}features/{{seen}}.safetensors",
    log:
        f"{RESULTS}/logs/{{culture}}/{{run}}features_{{seen}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/{{run}}features_{{seen}}.tsv"
    wildcard_constraints:
        culture=r"[^/]+|reference/coco",
        seen="|".join(("images", "reconstructed", *VARIANTS)),
    conda:
        "../../envs/pipeline.yaml"
    threads: THREADS
    resources:
        gpu=1,
    params:
        kind=lambda wildcards: "samples" if wildcards.seen in VARIANTS else "images",
        clip=model("clip"),
        inception=model("inception"),
        dino=model("dino"),
        dreamsim=model("dreamsim"),
        oracle=optional("--oracle", SETTINGS.models.oracle and model("oracle")),
        config=section("features"),
    shell:
        """
        python -m pipeline_steps.evaluation.features \
            --pictures {input.pictures:q} \
            --features {output.features:q} \
            --kind {params.kind} \
            --clip {params.clip:q} \
            --inception {params.inception:q} \
            --dino {params.dino:q} \
            --dreamsim {params.dreamsim:q} \
            {params.oracle:q} \
            --config {params.config:q} \
            --threads {threads} \
            --gpus {resources.gpu} \
            2>&1 | tee {log:q}
        """


rule score:
    input:
        samples=f"{RESULTS}/{{culture}}/{{run}}samples/{{variant}}.parquet",
        features=f"{RESULTS}/{{culture}}/{{run}}features/{{variant}}.safetensors",
        images=real("images.parquet"),
        reference=real("features/images.safetensors"),
    output:
        scores=f"{RESULTS}/{{culture}}/{{run}}scores/{{variant}}.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/{{run}}score_{{variant}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/{{run}}score_{{variant}}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        config=section("score", "neighbours"),
    shell:
        """
        python -m pipeline_steps.evaluation.score \
            --samples {input.samples:q} \
            --features {input.features:q} \
            --images {input.images:q} \
            --reference {input.reference:q} \
            --scores {output.scores:q} \
            --variant {wildcards.variant:q} \
            --config {params.config:q} \
            2>&1 | tee {log:q}
        """


rule merge_scores:
    input:
        parts=expand(f"{RESULTS}/{{{{culture}}}}/scores/{{variant}}.parquet", variant=SETTINGS.score.variants),
    output:
        scores=f"{RESULTS}/{{culture}}/scores.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/merge_scores.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/merge_scores.tsv"
    conda:
        "../../envs/pipeline.yaml"
    shell:
        """
        python -m pipeline_steps.evaluation.merge_scores \
            --parts {input.parts:q} \
            --scores {output.scores:q} \
            2>&1 | tee {log:q}
        """
