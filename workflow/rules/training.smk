# Needs:  images.parquet, captions.parquet, negatives_kept.parquet, data_card.md
# Leaves: {results}/{culture}/train_cache.safetensors                    latents and text
#         {results}/{culture}/{run}targets.safetensors                   perceptual features of x+ and x-
#         {results}/{culture}/{run}negative_cache.safetensors            latents of negatives, for dpo and mapo
#         {results}/{culture}/lora.safetensors                           SCoFT+MPC
#         {results}/{culture}/ablations/{variant}/lora.safetensors       ldm, scoft_m, scoft_mp, dpo, mapo
#         {results}/{culture}/runs/{run}/{variant}/lora.safetensors      those of a run
#         train_log.parquet beside each LoRA
#         {results}/{culture}/scoft_{culture}_{base}.safetensors         for other programs; the same file is
#         {results}/{culture}/lora_kohya.safetensors                     by a name that commands can tell
#         {results}/{culture}/model_card.md                              for people
#         {results}/{culture}/hub                                        a folder ready for a hub (wants samples, scores)
#
# Up to its LoRAs a run shares every file whose settings it leaves alone with the default run, or with the
# first run that has the same; its pictures are its own.

LORAS = {
    lora_folder(run, variant): (run, variant)
    for run in RUNS
    for variant in TRAINED
    if RUNS[run].prompt_set is None
}
# What a hub's visitor compares.
BEFORE_AND_AFTER = ("sd", FULL_VARIANT)
# What a LoRA is called where those of many makers lie in one folder.
NAMED_LORA = f"{RESULTS}/{{culture}}/scoft_{{culture}}_{SETTINGS.models.base.short_name}.safetensors"


wildcard_constraints:
    lora="(" + "|".join(LORAS) + ")",


def generic_captions():
    """The captions that belong to no picture, if any, where the cache's job sees them."""
    given = SETTINGS.cache.generic_captions
    if not given:
        return []
    return place(given) if SHARED else f"{RESULTS}/generic_captions{given.suffix}"


def negatives_read(settings):
    return settings.filter


def targets_read(settings):
    """What targets depend on; views are drawn from the seed, the one that is the whole picture is not."""
    perceptual = settings.train.perceptual
    return settings.filter, perceptual, settings.seed if perceptual.views > 1 else None


def targets_of(wildcards):
    """The perceptual targets that a variant's losses look at, or nothing."""
    run, variant = LORAS[wildcards.lora]
    if variant not in PERCEPTUAL:
        return []
    return f"{RESULTS}/{{culture}}/{own(run, targets_read)}targets.safetensors"


def negatives_of(wildcards):
    """The latents of negatives that a baseline trains on, or nothing."""
    run, variant = LORAS[wildcards.lora]
    if variant not in BASELINES:
        return []
    return f"{RESULTS}/{{culture}}/{own(run, negatives_read)}negative_cache.safetensors"


def of_lora(read):
    """What `read` returns of the settings of the run whose LoRA is asked for."""
    return lambda wildcards: read(RUNS[LORAS[wildcards.lora][0]].settings)


def extractor(settings):
    """The weights behind a perceptual distance as JSON: its own, or the model of the same name."""
    perceptual = settings.train.perceptual
    own = perceptual.model or getattr(SETTINGS.models, perceptual.extractor)
    return pinned(own).model_dump_json()


def training(wildcards):
    """What a variant's training reads of the section."""
    run, variant = LORAS[wildcards.lora]
    return RUNS[run].settings.train.read_by(DEFINITIONS[variant].losses).model_dump_json()


def seen_through(wildcards):
    """The flag that names the extractor, where the variant's losses look at pictures."""
    run, variant = LORAS[wildcards.lora]
    return ["--extractor", extractor(RUNS[run].settings)] if variant in PERCEPTUAL else []


def launch(settings):
    """What starts a training: one process a GPU; a single one needs no launcher."""
    count = settings.train.processes
    if count == 1:
        return "python -m"
    return f"python -m pipeline_steps.machine.gpus {count} torchrun --standalone --nproc_per_node {count} -m"


def watch(wildcards, input):
    """How a training is watched, and where it keeps its checkpoints."""
    address = SETTINGS.watch.checkpoints
    folder = moved(f"{RESULTS}/{wildcards.culture}/{wildcards.lora}checkpoints")
    own = address and os.path.join(address, folder.lstrip(os.sep))
    return SETTINGS.watch.model_copy(update={"checkpoints": own}).model_dump_json()


rule cache:
    input:
        images=f"{RESULTS}/{{culture}}/images.parquet",
        captions=f"{RESULTS}/{{culture}}/captions.parquet",
        generic_captions=generic_captions(),
    output:
        train_cache=f"{RESULTS}/{{culture}}/{{shard}}train_cache.safetensors",
    log:
        f"{RESULTS}/logs/{{culture}}/{{shard}}cache.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/{{shard}}cache.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: THREADS
    resources:
        gpu=1,
    params:
        base=model("base"),
        config=section("cache", "batch_size", "held_out"),
        generic_captions=lambda wildcards, input: optional("--generic-captions", input.generic_captions),
        shard=shard,
    shell:
        """
        python -m pipeline_steps.training.cache \
            --images {input.images:q} \
            --captions {input.captions:q} \
            --train-cache {output.train_cache:q} \
            --culture {wildcards.culture:q} \
            --base {params.base:q} \
            --config {params.config:q} \
            {params.generic_captions:q} \
            --shard {params.shard} \
            --threads {threads} \
            --gpus {resources.gpu} \
            2>&1 | tee {log:q}
        """


rule cache_negatives:
    input:
        images=f"{RESULTS}/{{culture}}/images.parquet",
        negatives_kept=lambda wildcards: (
            f"{RESULTS}/{{culture}}/{own(wildcards.run, negatives_read)}negatives_kept.parquet"
        ),
    output:
        negative_cache=f"{RESULTS}/{{culture}}/{{run}}negative_cache.safetensors",
    log:
        f"{RESULTS}/logs/{{culture}}/{{run}}cache_negatives.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/{{run}}cache_negatives.tsv"
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
        python -m pipeline_steps.training.cache_negatives \
            --images {input.images:q} \
            --negatives-kept {input.negatives_kept:q} \
            --negative-cache {output.negative_cache:q} \
            --culture {wildcards.culture:q} \
            --base {params.base:q} \
            --config {params.config:q} \
            --threads {threads} \
            --gpus {resources.gpu} \
            2>&1 | tee {log:q}
        """


rule targets:
    input:
        images=f"{RESULTS}/{{culture}}/images.parquet",
        negatives_kept=lambda wildcards: (
            f"{RESULTS}/{{culture}}/{own(wildcards.run, negatives_read)}negatives_kept.parquet"
        ),
    output:
        targets=f"{RESULTS}/{{culture}}/{{run}}targets.safetensors",
    log:
        f"{RESULTS}/logs/{{culture}}/{{run}}targets.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/{{run}}targets.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: THREADS
    resources:
        gpu=1,
    params:
        seed=seed,
        extractor=lambda wildcards: extractor(settings(wildcards)),
        perceptual=lambda wildcards: settings(wildcards).train.perceptual.model_dump_json(),
        config=section("targets"),
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
        targets=targets_of,
        negative_cache=negatives_of,
        # Not read: no LoRA without a card of its data. Its age says nothing about the LoRA's.
        card=ancient(f"{RESULTS}/{{culture}}/data_card.md"),
    output:
        lora=f"{RESULTS}/{{culture}}/{{lora}}lora.safetensors",
        train_log=f"{RESULTS}/{{culture}}/{{lora}}train_log.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/{{lora}}train.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/{{lora}}train.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: THREADS
    resources:
        gpu=of_lora(lambda settings: settings.train.processes),
    params:
        launch=of_lora(launch),
        variant=lambda wildcards: LORAS[wildcards.lora][1],
        targets=lambda wildcards, input: optional("--targets", input.targets),
        negative_cache=lambda wildcards, input: optional("--negative-cache", input.negative_cache),
        seed=of_lora(lambda settings: settings.seed),
        base=model("base"),
        extractor=seen_through,
        config=training,
        # What asks for `input` Snakemake takes for derived from it: how a training is watched makes no LoRA anew.
        watch=watch,
        suffix=suffix,
    shell:
        """
        {params.launch} pipeline_steps.training.train \
            --train-cache {input.train_cache:q} \
            {params.targets:q} \
            {params.negative_cache:q} \
            --lora {output.lora:q} \
            --train-log {output.train_log:q} \
            --culture {wildcards.culture:q} \
            --variant {params.variant} \
            --seed {params.seed} \
            --base {params.base:q} \
            {params.extractor:q} \
            --config {params.config:q} \
            --watch {params.watch:q} \
            --suffix {params.suffix:q} \
            --threads {threads} \
            --gpus {resources.gpu} \
            2>&1 | tee {log:q}
        """


rule export:
    input:
        lora=f"{RESULTS}/{{culture}}/lora.safetensors",
        data_card=f"{RESULTS}/{{culture}}/data_card.md",
    output:
        named=NAMED_LORA,
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
        config=section("export"),
    shell:
        """
        python -m pipeline_steps.training.export \
            --lora {input.lora:q} \
            --data-card {input.data_card:q} \
            --named {output.named:q} \
            --kohya {output.kohya:q} \
            --model-card {output.model_card:q} \
            --culture {wildcards.culture:q} \
            --suffix {params.suffix:q} \
            --config {params.config:q} \
            2>&1 | tee {log:q}
        """


rule hub:
    input:
        lora=f"{RESULTS}/{{culture}}/lora.safetensors",
        named=NAMED_LORA,
        model_card=f"{RESULTS}/{{culture}}/model_card.md",
        data_card=f"{RESULTS}/{{culture}}/data_card.md",
        samples=expand(f"{RESULTS}/{{{{culture}}}}/samples/{{variant}}.parquet", variant=BEFORE_AND_AFTER),
        scores=expand(f"{RESULTS}/{{{{culture}}}}/scores/{{variant}}.parquet", variant=BEFORE_AND_AFTER),
    output:
        folder=directory(f"{RESULTS}/{{culture}}/hub"),
    log:
        f"{RESULTS}/logs/{{culture}}/hub.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/hub.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        suffix=suffix,
        sampling=section("sample", "steps", "guidance_scale"),
        config=section("export", "licence"),
    shell:
        """
        python -m pipeline_steps.training.hub \
            --lora {input.lora:q} \
            --named {input.named:q} \
            --model-card {input.model_card:q} \
            --data-card {input.data_card:q} \
            --samples {input.samples:q} \
            --scores {input.scores:q} \
            --folder {output.folder:q} \
            --culture {wildcards.culture:q} \
            --suffix {params.suffix:q} \
            --sampling {params.sampling:q} \
            --config {params.config:q} \
            2>&1 | tee {log:q}
        """
