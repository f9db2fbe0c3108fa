# Needs:  images.parquet, lora.safetensors of the variants
# Leaves: {results}/{culture}/{run}samples/{variant}.parquet       pictures of the test prompts
#         {results}/{culture}/{run}features/{variant}.safetensors  what each network sees in them
#         {results}/{culture}/{run}scores/{variant}.parquet        every score with its interval
#         {results}/{culture}/{run}scores.parquet                  those of the configured variants
#         {results}/{culture}/{run}breakdown.parquet               theirs by category, era and prompt
#         {results}/{culture}/features/{images,reconstructed}.safetensors    the real pictures' own
#         {results}/{culture}/reconstructed.parquet                the real pictures as the VAE shows them
#         {results}/bleed.csv                                      each LoRA on others' prompts, and on generic ones
#         {results}/reference/prompt_sets/{set}/…                  sets of prompts from the hub
#
# A run is a named one, a training of Fig. 7, or a set of other prompts: captions of training pictures,
# MS-COCO's captions, prompts that name no culture, the further sets of evaluation.prompt_sets.
from pipeline_steps.config.runs import abroad_run
from pipeline_steps.config.runs import folder as run_folder


def lora_read(variant):
    """What a variant's LoRA depends on: what its training reads, and the filter where it looks at negatives."""
    return lambda settings: (
        settings.train.read_by(DEFINITIONS[variant].losses),
        settings.seed,
        settings.filter if variant in (*PERCEPTUAL, *BASELINES) else None,
    )


def lora_of(wildcards):
    """The variant's LoRA: none for the un-tuned model."""
    if wildcards.variant == "sd":
        return []
    folder = lora_folder(own(wildcards.run, lora_read(wildcards.variant)), wildcards.variant)
    return f"{RESULTS}/{{culture}}/{folder}lora.safetensors"


def further(wildcards):
    """The settings of a run's further set of prompts, or None where it draws others."""
    return SETTINGS.evaluation.prompt_sets.get(RUNS[wildcards.run].prompt_set)


def set_file(name):
    """Where the file of a further set of prompts lies, or is fetched to."""
    path = str(SETTINGS.evaluation.prompt_sets[name].path)
    found = HUB_FILE.fullmatch(path)
    return f"{RESULTS}/reference/prompt_sets/{name}/{found[3]}" if found else place(path)


def prompted(wildcards):
    """The settings of the culture whose prompts a run draws."""
    return SETTINGS.cultures.get(RUNS[wildcards.run].abroad) or culture(wildcards)


def given_prompts(wildcards):
    """The file of prompts that the settings name for a run."""
    if further(wildcards):
        return set_file(RUNS[wildcards.run].prompt_set)
    generic = RUNS[wildcards.run].prompt_set == "generic_prompts"
    own = prompted(wildcards).prompts or SETTINGS.evaluation.prompts
    return place(SETTINGS.evaluation.generic_prompts if generic else own)


def prompts(wildcards):
    """The file of prompts that a run draws."""
    made = {
        "train_prompts": f"{RESULTS}/{{culture}}/train_prompts.txt",
        "coco_prompts": f"{COCO}/prompts.txt",
    }
    name = RUNS[wildcards.run].prompt_set
    if name in made:
        return made[name]
    given = given_prompts(wildcards)
    carried = not SHARED and not str(given).startswith(f"{RESULTS}/")
    return f"{RESULTS}/{{culture}}/{{run}}prompts{Path(given).suffix}" if carried else given


def prompts_suffix(wildcards):
    """Test prompts and sets that name no country end with the culture's suffix; others are drawn as they
    stand."""
    own = RUNS[wildcards.run].prompt_set and not (
        further(wildcards) and not further(wildcards).names_countries
    )
    return [] if own else optional("--suffix", prompted(wildcards).suffix)


def prompt_set(wildcards):
    """How a further set of prompts is read, and what it may call the culture."""
    named = further(wildcards)
    if not named:
        return []
    if wildcards.culture not in (named.cultures or CULTURES):
        raise WorkflowError(
            f"evaluation.prompt_sets.{RUNS[wildcards.run].prompt_set}.cultures does not name {wildcards.culture}"
        )
    spellings = named.spellings(wildcards.culture, culture(wildcards).name)
    read = named.model_dump_json(include={"path", "format", "columns", "most"})
    return ["--prompt-set", read, *(["--country", *spellings] if named.names_countries else [])]


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


def bleed_runs(culture):
    """Whose prompts a culture's LoRA is tried on, and the folder of the run that draws them."""
    return {name: "" if name == culture else run_folder(abroad_run(name)) for name in CULTURES} | {
        "no culture": run_folder("generic_prompts")
    }


def bleed_files(folder, variant, ending):
    return [
        f"{RESULTS}/{culture}/{run}{folder}/{variant}.{ending}"
        for culture in CULTURES
        for run in bleed_runs(culture).values()
    ]


def bleed_prompts():
    """Whose prompts each of those files shows, in the same order."""
    return [whose for culture in CULTURES for whose in bleed_runs(culture)]


rule fetch_prompt_set:
    output:
        file=f"{RESULTS}/reference/prompt_sets/{{prompt_set}}/{{file}}",
    log:
        f"{RESULTS}/logs/reference/prompt_sets/{{prompt_set}}/{{file}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/reference/prompt_sets/{{prompt_set}}/fetch_prompt_set_{{file}}.tsv"
    wildcard_constraints:
        prompt_set=r"[^/]+",
    # The nodes of a cluster may have no network.
    localrule: True
    conda:
        "../../envs/pipeline.yaml"
    params:
        source=lambda wildcards: str(SETTINGS.evaluation.prompt_sets[wildcards.prompt_set].path),
    shell:
        """
        python -m pipeline_steps.evaluation.fetch_prompt_set \
            --source {params.source:q} \
            --file {output.file:q} \
            2>&1 | tee {log:q}
        """


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
        prompt_set=prompt_set,
        seed=seed,
        base=model("base"),
        config=section("sample", *fields_but("sample", "offload")),
        # What asks for `input` Snakemake takes for derived from it: where networks wait changes no picture.
        offload=lambda wildcards, input: ["--offload"] if settings(wildcards).sample.offload else [],
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
            {params.prompt_set:q} \
            --seed {params.seed} \
            --base {params.base:q} \
            --config {params.config:q} \
            {params.offload:q} \
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
        parts=expand(
            f"{RESULTS}/{{{{culture}}}}/{{{{run}}}}scores/{{variant}}.parquet",
            variant=SETTINGS.score.variants,
        ),
    output:
        scores=f"{RESULTS}/{{culture}}/{{run}}scores.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/{{run}}merge_scores.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/{{run}}merge_scores.tsv"
    conda:
        "../../envs/pipeline.yaml"
    shell:
        """
        python -m pipeline_steps.evaluation.merge_scores \
            --parts {input.parts:q} \
            --scores {output.scores:q} \
            2>&1 | tee {log:q}
        """


rule breakdown:
    input:
        samples=expand(
            f"{RESULTS}/{{{{culture}}}}/{{{{run}}}}samples/{{variant}}.parquet",
            variant=SETTINGS.score.variants,
        ),
        features=expand(
            f"{RESULTS}/{{{{culture}}}}/{{{{run}}}}features/{{variant}}.safetensors",
            variant=SETTINGS.score.variants,
        ),
        images=real("images.parquet"),
        reference=real("features/images.safetensors"),
        prompts=prompts,
    output:
        breakdown=f"{RESULTS}/{{culture}}/{{run}}breakdown.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/{{run}}breakdown.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/{{run}}breakdown.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        prompt_set=prompt_set,
    shell:
        """
        python -m pipeline_steps.evaluation.breakdown \
            --samples {input.samples:q} \
            --features {input.features:q} \
            --images {input.images:q} \
            --reference {input.reference:q} \
            --prompts {input.prompts:q} \
            --breakdown {output.breakdown:q} \
            {params.prompt_set:q} \
            2>&1 | tee {log:q}
        """


rule bleed:
    input:
        samples=bleed_files("samples", FULL_VARIANT, "parquet"),
        features=bleed_files("features", FULL_VARIANT, "safetensors"),
        plain=bleed_files("features", "sd", "safetensors"),
    output:
        table=report(
            f"{RESULTS}/bleed.csv",
            caption="../report/bleed.rst",
            category="Tables",
            labels={"result": "Each LoRA on others' prompts"},
        ),
    log:
        f"{RESULTS}/logs/bleed.log",
    benchmark:
        f"{RESULTS}/benchmarks/bleed.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        prompts=bleed_prompts(),
    shell:
        """
        python -m pipeline_steps.evaluation.bleed \
            --samples {input.samples:q} \
            --features {input.features:q} \
            --plain {input.plain:q} \
            --prompts {params.prompts:q} \
            --table {output.table:q} \
            2>&1 | tee {log:q}
        """
