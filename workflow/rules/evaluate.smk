# Needs:  images.parquet, lora.safetensors of the variants
# Leaves: {results}/{culture}/samples/{variant}.parquet    pictures of the test prompts
#         {results}/{culture}/scores/{variant}.parquet     KID, CLIPScore
#         {results}/{culture}/scores.parquet               those of the configured variants


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
        suffix=suffix,
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
            --suffix {params.suffix:q} \
            --seed {params.seed} \
            --base {params.base:q} \
            --config {params.config:q} \
            --threads {threads} \
            2>&1 | tee {log:q}
        """


rule score:
    input:
        samples=f"{RESULTS}/{{culture}}/samples/{{variant}}.parquet",
        images=f"{RESULTS}/{{culture}}/images.parquet",
    output:
        scores=f"{RESULTS}/{{culture}}/scores/{{variant}}.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/score_{{variant}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/score_{{variant}}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: THREADS
    resources:
        gpu=1,
    params:
        oracle=optional("--oracle", SETTINGS.models.oracle and model("oracle")),
        clip=model("clip"),
        inception=model("inception"),
        config=section("score"),
    shell:
        """
        python -m pipeline_steps.score \
            --samples {input.samples:q} \
            --images {input.images:q} \
            --scores {output.scores:q} \
            --variant {wildcards.variant} \
            --clip {params.clip:q} \
            --inception {params.inception:q} \
            {params.oracle:q} \
            --config {params.config:q} \
            --threads {threads} \
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
