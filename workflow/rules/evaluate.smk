# Needs:  images.parquet, lora.safetensors of the variants
# Leaves: {results}/{culture}/samples/{variant}.parquet       pictures of the test prompts
#         {results}/{culture}/features/{variant}.safetensors  what each network sees in them
#         {results}/{culture}/scores/{variant}.parquet        every score with its interval
#         {results}/{culture}/scores.parquet                  those of the configured variants
#         {results}/{culture}/runs/{prompt_set}/…             the same for other prompts: training captions,
#                                                             MS-COCO captions, prompts that name no culture
#         {results}/table1.csv, {results}/table2.csv          the paper's tables, its own figures beside ours
#         {results}/figures/…                                 Fig. 6 and 8, the power of KID


def lora_of(wildcards):
    """The variant's LoRA: none for the un-tuned model."""
    if wildcards.variant == "sd":
        return []
    if wildcards.variant == FULL_VARIANT:
        return f"{RESULTS}/{{culture}}/lora.safetensors"
    return f"{RESULTS}/{{culture}}/ablations/{{variant}}/lora.safetensors"


rule sample:
    input:
        images=f"{RESULTS}/{{culture}}/images.parquet",
        prompts=prompts_file,
        lora=lora_of,
    output:
        samples=f"{RESULTS}/{{culture}}/samples/{{variant}}.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/sample_{{variant}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/sample_{{variant}}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: THREADS
    resources:
        gpu=1,
    params:
        lora=lambda wildcards, input: optional("--lora", input.lora),
        suffix=lambda wildcards: optional("--suffix", suffix(wildcards)),
        seed=SETTINGS.seed,
        base=model("base"),
        config=section("sample"),
    shell:
        """
        python -m pipeline_steps.sample \
            --images {input.images:q} \
            --prompts {input.prompts:q} \
            {params.lora:q} \
            --samples {output.samples:q} \
            --culture {wildcards.culture:q} \
            {params.suffix:q} \
            --seed {params.seed} \
            --base {params.base:q} \
            --config {params.config:q} \
            --threads {threads} \
            2>&1 | tee {log:q}
        """


rule features:
    input:
        pictures=f"{RESULTS}/{{culture}}/images.parquet",
    output:
        features=f"{RESULTS}/{{culture}}/features/images.safetensors",
    log:
        f"{RESULTS}/logs/{{culture}}/features_images.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/features_images.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: THREADS
    resources:
        gpu=1,
    params:
        kind=lambda wildcards, input: "images" if input.pictures.endswith("/images.parquet") else "samples",
        clip=model("clip"),
        inception=model("inception"),
        dino=model("dino"),
        dreamsim=model("dreamsim"),
        oracle=optional("--oracle", SETTINGS.models.oracle and model("oracle")),
        batch_size=SETTINGS.score.batch_size,
    shell:
        """
        python -m pipeline_steps.features \
            --pictures {input.pictures:q} \
            --features {output.features:q} \
            --kind {params.kind} \
            --clip {params.clip:q} \
            --inception {params.inception:q} \
            --dino {params.dino:q} \
            --dreamsim {params.dreamsim:q} \
            {params.oracle:q} \
            --batch-size {params.batch_size} \
            --threads {threads} \
            2>&1 | tee {log:q}
        """


use rule features as features_samples with:
    input:
        pictures=f"{RESULTS}/{{culture}}/samples/{{variant}}.parquet",
    output:
        features=f"{RESULTS}/{{culture}}/features/{{variant}}.safetensors",
    log:
        f"{RESULTS}/logs/{{culture}}/features_{{variant}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/features_{{variant}}.tsv"


rule score:
    input:
        samples=f"{RESULTS}/{{culture}}/samples/{{variant}}.parquet",
        features=f"{RESULTS}/{{culture}}/features/{{variant}}.safetensors",
        images=f"{RESULTS}/{{culture}}/images.parquet",
        reference=f"{RESULTS}/{{culture}}/features/images.safetensors",
    output:
        scores=f"{RESULTS}/{{culture}}/scores/{{variant}}.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/score_{{variant}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/score_{{variant}}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        config=section("score"),
    shell:
        """
        python -m pipeline_steps.score \
            --samples {input.samples:q} \
            --features {input.features:q} \
            --images {input.images:q} \
            --reference {input.reference:q} \
            --scores {output.scores:q} \
            --variant {wildcards.variant} \
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
        python -m pipeline_steps.merge_scores \
            --parts {input.parts:q} \
            --scores {output.scores:q} \
            2>&1 | tee {log:q}
        """


# --- other prompts: the same samples, features and scores under runs/{prompt_set} ---


wildcard_constraints:
    prompt_set="train_prompts|coco_prompts|generic_prompts",


COCO = f"{RESULTS}/reference/coco"


rule train_prompts:
    input:
        images=f"{RESULTS}/{{culture}}/images.parquet",
    output:
        prompts=f"{RESULTS}/{{culture}}/runs/train_prompts/prompts.txt",
    log:
        f"{RESULTS}/logs/{{culture}}/train_prompts.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/train_prompts.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        total=SETTINGS.evaluation.train_prompts,
        seed=SETTINGS.seed,
    shell:
        """
        python -m pipeline_steps.train_prompts \
            --images {input.images:q} \
            --prompts {output.prompts:q} \
            --culture {wildcards.culture:q} \
            --count {params.total} \
            --seed {params.seed} \
            2>&1 | tee {log:q}
        """


rule coco:
    input:
        folder=str(SETTINGS.evaluation.coco),
    output:
        images=f"{COCO}/images.parquet",
        prompts=f"{COCO}/prompts.txt",
    log:
        f"{RESULTS}/logs/reference/coco.log",
    benchmark:
        f"{RESULTS}/benchmarks/reference/coco.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        total=SETTINGS.evaluation.coco_pictures,
        seed=SETTINGS.seed,
        config=section("data"),
    shell:
        """
        python -m pipeline_steps.coco \
            --folder {input.folder:q} \
            --images {output.images:q} \
            --prompts {output.prompts:q} \
            --count {params.total} \
            --seed {params.seed} \
            --config {params.config:q} \
            2>&1 | tee {log:q}
        """


use rule features as features_coco with:
    input:
        pictures=f"{COCO}/images.parquet",
    output:
        features=f"{COCO}/features.safetensors",
    log:
        f"{RESULTS}/logs/reference/features.log",
    benchmark:
        f"{RESULTS}/benchmarks/reference/features.tsv"


def set_prompts(wildcards):
    """The prompts of a set, drawn or the user's own."""
    return {
        "train_prompts": f"{RESULTS}/{{culture}}/runs/train_prompts/prompts.txt",
        "coco_prompts": f"{COCO}/prompts.txt",
        "generic_prompts": str(SETTINGS.evaluation.generic_prompts),
    }[wildcards.prompt_set]


def set_images(wildcards):
    """The real pictures a set is scored against."""
    return (
        f"{COCO}/images.parquet"
        if wildcards.prompt_set == "coco_prompts"
        else f"{RESULTS}/{{culture}}/images.parquet"
    )


def set_reference(wildcards):
    coco = wildcards.prompt_set == "coco_prompts"
    return f"{COCO}/features.safetensors" if coco else f"{RESULTS}/{{culture}}/features/images.safetensors"


def set_config(wildcards):
    """Sampling settings: one picture for each MS-COCO caption."""
    once = {"images_per_prompt": 1} if wildcards.prompt_set == "coco_prompts" else {}
    return SETTINGS.sample.model_copy(update=once).model_dump_json()


use rule sample as sample_set with:
    input:
        images=f"{RESULTS}/{{culture}}/images.parquet",
        prompts=set_prompts,
        lora=lora_of,
    output:
        samples=f"{RESULTS}/{{culture}}/runs/{{prompt_set}}/samples/{{variant}}.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/sample_{{prompt_set}}_{{variant}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/sample_{{prompt_set}}_{{variant}}.tsv"
    params:
        lora=lambda wildcards, input: optional("--lora", input.lora),
        suffix=[],
        seed=SETTINGS.seed,
        base=model("base"),
        config=set_config,


use rule features as features_set with:
    input:
        pictures=f"{RESULTS}/{{culture}}/runs/{{prompt_set}}/samples/{{variant}}.parquet",
    output:
        features=f"{RESULTS}/{{culture}}/runs/{{prompt_set}}/features/{{variant}}.safetensors",
    log:
        f"{RESULTS}/logs/{{culture}}/features_{{prompt_set}}_{{variant}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/features_{{prompt_set}}_{{variant}}.tsv"


use rule score as score_set with:
    input:
        samples=f"{RESULTS}/{{culture}}/runs/{{prompt_set}}/samples/{{variant}}.parquet",
        features=f"{RESULTS}/{{culture}}/runs/{{prompt_set}}/features/{{variant}}.safetensors",
        images=set_images,
        reference=set_reference,
    output:
        scores=f"{RESULTS}/{{culture}}/runs/{{prompt_set}}/scores/{{variant}}.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/score_{{prompt_set}}_{{variant}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/score_{{prompt_set}}_{{variant}}.tsv"
