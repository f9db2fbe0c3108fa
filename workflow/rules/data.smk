# Needs:  a culture's folder of pictures and captions, its table of links, or its name on the hub; its
#         withdrawn list, if any; MS-COCO's val2017 and annotations for Table 1.
# Leaves: {results}/{culture}/download/             pictures of a table of links, failures.csv
#         {results}/{culture}/data_set/             a data set of the Hugging Face hub
#         {results}/{culture}/images.parquet       pictures, captions, split
#         {results}/{culture}/findings.parquet     what was odd about them
#         {results}/{culture}/data_sets/           which pictures each fingerprint stands for
#         {results}/{culture}/data_report.html     what to mend, worst first
#         {results}/{culture}/data_card.md         what a LoRA stands on
#         {results}/reference/coco/                 MS-COCO's pictures and captions
#         {results}/withdraw_report.tsv            (on request) what still holds withdrawn pictures
from snakemake.io import IOFile

from pipeline_steps.config import HUB
from pipeline_steps.data.folder import state

DOWNLOADED = f"{RESULTS}/{{culture}}/download/metadata.jsonl"
DATA_SET = f"{RESULTS}/{{culture}}/data_set"


def withdrawn_list(entry):
    """The list that the settings name, or the folder's own, where it has one."""
    own = entry.own_list
    return entry.withdrawn or (own if own and find(own).is_file() else None)


WITHDRAWN = {
    name: place(listed)
    for name, entry in sorted(SETTINGS.cultures.items())
    if (listed := withdrawn_list(entry))
}


def is_drawn(path):
    """Whether a folder or file belongs to the drawn world that comes with the pipeline."""
    return find("resources/mini").resolve() in find(path).resolve().parents


def not_drawn(path, key, instead):
    """A path, unless it is the drawn world's and the models are those of real pictures."""
    if SETTINGS.models.oracle is None and is_drawn(path):
        raise WorkflowError(f"{key}: '{path}' belongs to the drawn world of the embedded models; {instead}")
    return path


if workflow.is_main_process and is_drawn(SETTINGS.models.base.path):
    for name in CULTURES:
        if not is_drawn(SETTINGS.cultures[name].images):
            logger.warning(
                f"cultures.{name}: its pictures meet the embedded models, which are 64 pixels wide and know only the "
                "drawn world; for a LoRA of use name models of real size, such as presets: [sd15, authors]"
            )


def pictures_of(wildcards):
    """The culture's folder or file, or what is downloaded: from the hub, or from its table of links."""
    key = f"cultures.{wildcards.culture}.images"
    images = not_drawn(culture(wildcards).images, key, "name real pictures, or leave the culture out")
    if str(images).startswith(HUB):
        return DATA_SET
    if culture(wildcards).has_links:
        return DOWNLOADED
    # `state` says whether what is read there has changed; a folder's own time changes with any file beside it.
    return ancient(place(images))


def read_state(wildcards):
    """What `ingest` reads, for Snakemake to compare with its record; where it has none, it notices nothing."""
    # Not from `output`: what asks for that Snakemake takes for derived from it, and compares nothing.
    made, records = moved(f"{RESULTS}/{wildcards.culture}/images.parquet"), workflow.persistence
    if workflow.is_main_process and records and Path(made).exists() and made not in WITHOUT_RECORD:
        if records.metadata(IOFile(made)) is None:
            WITHOUT_RECORD.append(made)
            logger.warning(
                f"{made}: Snakemake has no record of how it was made, as where results were moved and .snakemake was "
                "not: no refusal, no new picture and no changed setting is noticed. Make it anew: add -R ingest -- "
                "before the target"
            )
    return state(Path(place(culture(wildcards).images)))


WITHOUT_RECORD = []


rule download:
    input:
        links=lambda wildcards: place(culture(wildcards).images),
        withdrawn=lambda wildcards: WITHDRAWN.get(wildcards.culture, []),
    output:
        metadata=DOWNLOADED,
        failures=f"{RESULTS}/{{culture}}/download/failures.csv",
    log:
        f"{RESULTS}/logs/{{culture}}/download.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/download.tsv"
    # The nodes of a cluster may have no network.
    localrule: True
    conda:
        "../../envs/pipeline.yaml"
    params:
        country=lambda wildcards: optional("--country", culture(wildcards).country),
        withdrawn=lambda wildcards, input: optional("--withdrawn", input.withdrawn),
        config=section("data", "caption_column", "require_consent", "max_megabytes", "allowed_hosts"),
    shell:
        """
        python -m pipeline_steps.data.download \
            --links {input.links:q} \
            --metadata {output.metadata:q} \
            --failures {output.failures:q} \
            {params.country:q} \
            {params.withdrawn:q} \
            --config {params.config:q} \
            2>&1 | tee {log:q}
        """


rule fetch_data_set:
    output:
        folder=directory(DATA_SET),
    log:
        f"{RESULTS}/logs/{{culture}}/fetch_data_set.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/fetch_data_set.tsv"
    # As with `download`: the nodes of a cluster may have no network.
    localrule: True
    conda:
        "../../envs/pipeline.yaml"
    params:
        data_set=lambda wildcards: str(culture(wildcards).images),
    shell:
        """
        python -m pipeline_steps.data.fetch_data_set \
            --data-set {params.data_set:q} \
            --folder {output.folder:q} \
            2>&1 | tee {log:q}
        """


rule ingest:
    input:
        folder=pictures_of,
        withdrawn=lambda wildcards: WITHDRAWN.get(wildcards.culture, []),
    output:
        images=f"{RESULTS}/{{culture}}/images.parquet",
        findings=f"{RESULTS}/{{culture}}/findings.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/ingest.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/ingest.tsv"
    # data_sets stay where the run was started.
    localrule: not SHARED
    conda:
        "../../envs/pipeline.yaml"
    params:
        suffix=suffix,
        seed=seed,
        # No output: Snakemake would delete it, and with it what older data sets held.
        data_sets=moved(f"{RESULTS}/{{culture}}/data_sets"),
        withdrawn=lambda wildcards, input: optional("--withdrawn", input.withdrawn),
        # Not a flag: it makes Snakemake see an edited caption, which leaves the folder's own time alone.
        state=read_state,
        config=section(
            "data",
            "caption_column",
            "resolution",
            "aspect",
            "test_share",
            "allow_upscale",
            "require_consent",
            "duplicate_difference",
            "max_megapixels",
            "max_megabytes",
        ),
        # What asks for `input` Snakemake takes for derived from it: another number makes no picture anew.
        neighbours=lambda wildcards, input: SETTINGS.score.neighbours,
    shell:
        """
        python -m pipeline_steps.data.ingest \
            --folder {input.folder:q} \
            --images {output.images:q} \
            --findings {output.findings:q} \
            --data-sets {params.data_sets:q} \
            {params.withdrawn:q} \
            --culture {wildcards.culture:q} \
            --suffix {params.suffix:q} \
            --seed {params.seed} \
            --config {params.config:q} \
            --neighbours {params.neighbours:q} \
            2>&1 | tee {log:q}
        """


rule coco:
    input:
        folder=lambda wildcards: place(
            not_drawn(
                SETTINGS.evaluation.coco,
                "evaluation.coco",
                "Table 1 of real models wants MS-COCO: unpack val2017 and its annotations into a folder, and name it "
                "here (docs/evaluation.md, The paper's tables)",
            )
        ),
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
        seed=seed,
        config=section("data", "resolution", "max_megapixels"),
    shell:
        """
        python -m pipeline_steps.data.coco \
            --folder {input.folder:q} \
            --images {output.images:q} \
            --prompts {output.prompts:q} \
            --count {params.total} \
            --seed {params.seed} \
            --config {params.config:q} \
            2>&1 | tee {log:q}
        """


rule data_report:
    input:
        template=page("data"),
        style=PAGE_STYLE,
        images=f"{RESULTS}/{{culture}}/images.parquet",
        findings=f"{RESULTS}/{{culture}}/findings.parquet",
    output:
        report=f"{RESULTS}/{{culture}}/data_report.html",
    log:
        f"{RESULTS}/logs/{{culture}}/data_report.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/data_report.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        base=model("base", "path"),
        name=shown_name,
        suffix=suffix,
    shell:
        """
        python -m pipeline_steps.data.data_report \
            --template {input.template[0]:q} \
            --style {input.style:q} \
            --images {input.images:q} \
            --findings {input.findings:q} \
            --report {output.report:q} \
            --culture {wildcards.culture:q} \
            --name {params.name:q} \
            --suffix {params.suffix:q} \
            --base {params.base:q} \
            2>&1 | tee {log:q}
        """


rule data_card:
    input:
        images=f"{RESULTS}/{{culture}}/images.parquet",
    output:
        card=f"{RESULTS}/{{culture}}/data_card.md",
    log:
        f"{RESULTS}/logs/{{culture}}/data_card.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/data_card.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        suffix=suffix,
    shell:
        """
        python -m pipeline_steps.data.data_card \
            --images {input.images:q} \
            --card {output.card:q} \
            --culture {wildcards.culture:q} \
            --suffix {params.suffix:q} \
            2>&1 | tee {log:q}
        """


# Without inputs and outputs: it looks at whatever lies there, and runs whenever it is asked for.
rule withdraw_report:
    log:
        f"{RESULTS}/logs/withdraw_report.log",
    localrule: True
    conda:
        "../../envs/pipeline.yaml"
    params:
        results=on_disk(RESULTS),
        report=moved(f"{RESULTS}/withdraw_report.tsv"),
        cultures=["--cultures", *WITHDRAWN] if WITHDRAWN else [],
        withdrawn=["--withdrawn", *WITHDRAWN.values()] if WITHDRAWN else [],
        configured=CULTURES,
    shell:
        """
        python -m pipeline_steps.data.withdraw_report \
            --results {params.results:q} \
            --report {params.report:q} \
            {params.cultures:q} \
            {params.withdrawn:q} \
            --configured {params.configured:q} \
            2>&1 | tee {log:q}
        """
