# The settings object, and every function and constant that rules ask for, in run order. Everything is
# checked here, before the first job.
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.utils import validate

from pipeline_steps.config import FULL_VARIANT, HUB, VARIANTS
from pipeline_steps.config.checks import load_config
from pipeline_steps.errors import UserError
from pipeline_steps.machine.gpu_hours import GpuHours
from pipeline_steps.machine.locks import release_stale_locks

if release_stale_locks():
    logger.info("Released the lock of a Snakemake that was killed: no other is alive here.")
try:
    SETTINGS = load_config(config, [Path(file) for file in dict.fromkeys(workflow.configfiles)])
except UserError as error:
    raise WorkflowError(str(error)) from None
validate(config, "../schemas/config.schema.yaml", set_default=False)

logger.addHandler(GpuHours(logger))

RESULTS = str(SETTINGS.results)
CULTURES = sorted(SETTINGS.cultures)
THREADS = SETTINGS.threads


wildcard_constraints:
    culture=r"[^/]+",
    variant="|".join(VARIANTS),


def section(name):
    """One section of the settings as JSON: what a step takes as --config."""
    return getattr(SETTINGS, name).model_dump_json()


def model(role):
    """One model as JSON."""
    return getattr(SETTINGS.models, role).model_dump_json()


def extractor(settings=SETTINGS):
    """The weights behind a training's perceptual distance as JSON."""
    return weights_of(settings.train.perceptual)


def weights_of(perceptual):
    """The weights behind a perceptual distance as JSON: its own, or the model of the same name."""
    own = perceptual.model or getattr(SETTINGS.models, perceptual.extractor)
    return own.model_dump_json()


def optional(flag, path):
    """A flag and its file, or nothing where a rule has no such input."""
    return [flag, path] if path else []


def culture(wildcards):
    """The settings of the culture in the target's name."""
    if wildcards.culture not in SETTINGS.cultures:
        raise WorkflowError(
            f"cultures.{wildcards.culture}: no such culture in the configuration (there are: "
            f"{', '.join(CULTURES)}); add the entry to config/config.yaml"
        )
    return SETTINGS.cultures[wildcards.culture]


def prompts_file(wildcards):
    return str(culture(wildcards).prompts or SETTINGS.evaluation.prompts)


def suffix(wildcards):
    return culture(wildcards).suffix


# --- data ---

DOWNLOADED = f"{RESULTS}/{{culture}}/download/metadata.jsonl"
DATA_SET = f"{RESULTS}/{{culture}}/data_set"
WITHDRAWN = {
    name: str(entry.withdrawn) for name, entry in sorted(SETTINGS.cultures.items()) if entry.withdrawn
}


DRAWN = Path("resources/mini")


def not_drawn(path, key):
    """A path, unless it is the drawn world's and the models are those of real pictures."""
    if SETTINGS.models.oracle is None and DRAWN in Path(path).parents:
        raise WorkflowError(
            f"{key}: '{path}' belongs to the drawn world of the embedded models; name real pictures, or leave it out"
        )
    return path


def pictures_of(wildcards):
    """The culture's folder or file, or what is downloaded: from the hub, or from its table of links."""
    images = not_drawn(culture(wildcards).images, f"cultures.{wildcards.culture}.images")
    if str(images).startswith(HUB):
        return DATA_SET
    return DOWNLOADED if images.suffix.lower() == ".csv" else str(images)


# --- training ---


def launch(processes):
    """What starts a training: one process a GPU; a single one needs no launcher."""
    if processes == 1:
        return "python -m"
    return f"python -m pipeline_steps.machine.gpus {processes} torchrun --standalone --nproc_per_node {processes} -m"


PERCEPTUAL = ("scoft_mp", "scoft_mpc")


def ablation_targets(wildcards):
    return f"{RESULTS}/{{culture}}/targets.safetensors" if wildcards.variant in PERCEPTUAL else []


# --- evaluation ---

COCO = f"{RESULTS}/reference/coco"
TABLE1 = ("sd", "scoft_m", "scoft_mp", "scoft_mpc")
TABLE2 = ("ldm", "scoft_m")
FIG8 = ("sd", "ldm", FULL_VARIANT)
FIG7 = f"{RESULTS}/{{culture}}/runs/fig7"
FIG7_RUN = f"{FIG7}/{{extractor}}_{{record}}_{{updates}}"


def lora_of(wildcards):
    """The variant's LoRA: none for the un-tuned model."""
    if wildcards.variant == "sd":
        return []
    if wildcards.variant == FULL_VARIANT:
        return f"{RESULTS}/{{culture}}/lora.safetensors"
    return f"{RESULTS}/{{culture}}/ablations/{{variant}}/lora.safetensors"


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


def all_scores(folder, variants):
    """Score files of all cultures."""
    return expand(f"{RESULTS}/{{culture}}/{folder}/{{variant}}.parquet", culture=CULTURES, variant=variants)


def fig7_perceptual(wildcards):
    """The distance S of the run."""
    return SETTINGS.evaluation.fig7_extractors[wildcards.extractor]


def fig7_train(wildcards):
    """Training settings of the run."""
    changes = {
        "updates": int(wildcards.updates),
        "perceptual": fig7_perceptual(wildcards),
        "denoising": SETTINGS.train.denoising.model_copy(update={"record": wildcards.record}),
    }
    return SETTINGS.train.model_copy(update=changes).model_dump_json()


def fig7_scores(wildcards):
    """Every extractor with the first recording, and the first extractor with every recording."""
    if min(SETTINGS.evaluation.fig7_updates) <= SETTINGS.train.warmup:
        raise WorkflowError("evaluation.fig7_updates: every length must be more than train.warmup")
    extractors = list(SETTINGS.evaluation.fig7_extractors)
    runs = [(name, "first") for name in extractors] + [(extractors[0], name) for name in ("last", "random")]
    return [
        f"{FIG7_RUN}/scores.parquet".format(culture=name, extractor=extractor, record=record, updates=updates)
        for name in SETTINGS.evaluation.fig7_cultures or CULTURES
        for extractor, record in runs
        for updates in SETTINGS.evaluation.fig7_updates
    ]


# --- runs ---

RUNS = {name: SETTINGS.of_run(name) for name in SETTINGS.runs}
RUN = f"{RESULTS}/{{culture}}/runs/{{run}}"


def own_extractors():
    """A flag and the weights that perceptual distances name for themselves, or nothing where none does."""
    trained = [settings.train.perceptual for settings in (SETTINGS, *RUNS.values())]
    compared = SETTINGS.evaluation.fig7_extractors.values()
    own = [perceptual.model.model_dump_json() for perceptual in (*trained, *compared) if perceptual.model]
    return ["--extractors", *dict.fromkeys(own)] if own else []


def run_section(name):
    """One section of a run's settings as JSON."""
    return lambda wildcards: getattr(RUNS[wildcards.run], name).model_dump_json()


def run_processes(wildcards):
    """GPUs that train one LoRA of the run."""
    return RUNS[wildcards.run].train.processes


def run_negatives(wildcards):
    """The run's own negatives where it filters otherwise than the default run."""
    own = RUNS[wildcards.run].filter != SETTINGS.filter
    return f"{RUN if own else f'{RESULTS}/{{culture}}'}/negatives_kept.parquet"


def run_targets(wildcards):
    """The run's own targets where its negatives, its distance S or, with drawn views, its seed differ."""
    if wildcards.variant not in PERCEPTUAL:
        return []
    run, views = RUNS[wildcards.run], SETTINGS.train.perceptual.views
    own = (
        run.filter != SETTINGS.filter
        or run.train.perceptual != SETTINGS.train.perceptual
        or (views > 1 and run.seed != SETTINGS.seed)
    )
    return f"{RUN if own else f'{RESULTS}/{{culture}}'}/targets.safetensors"


def run_lora(wildcards):
    """The run's own LoRA of the variant where the training, its seed or what it reads differ."""
    run = RUNS[wildcards.run]
    own = run.train != SETTINGS.train or run.seed != SETTINGS.seed
    own = own or (run.filter != SETTINGS.filter and wildcards.variant in PERCEPTUAL)
    own = own and wildcards.variant != "sd"
    return f"{RUN}/{{variant}}/lora.safetensors" if own else lora_of(wildcards)


def study_files(folder, ending):
    """One file of every culture and variant, of the default run and of those with other seeds."""
    runs = ["", *(f"runs/{run}/" for run in SETTINGS.study.seeds)]
    path = f"{RESULTS}/{{culture}}/{{run}}{folder}/{{variant}}.{ending}"
    return expand(path, culture=CULTURES, run=runs, variant=VARIANTS)


def control_scores():
    """Scores of the full variant with other negatives."""
    path = f"{RUN}/scores/{FULL_VARIANT}.parquet"
    return expand(path, culture=SETTINGS.study.control_cultures, run=SETTINGS.study.controls)


def curve_points():
    """Culture, run ("" is the default one), variant and updates of every point of the curves."""
    lengths = {"": SETTINGS.train.updates, **{run: RUNS[run].train.updates for run in SETTINGS.study.lengths}}
    return [
        (name, run, variant, updates)
        for name in SETTINGS.study.length_cultures
        for run, updates in lengths.items()
        for variant in VARIANTS[1:]
    ]


def curve_scores():
    """Scores of every point."""
    return [
        f"{RESULTS}/{name}/{f'runs/{run}/' if run else ''}scores/{variant}.parquet"
        for name, run, variant, _ in curve_points()
    ]


def curve_benchmarks():
    """Snakemake's clock time of every point's training."""
    return [
        f"{RESULTS}/benchmarks/{name}/{f'runs/{run}/' if run else ''}train_{variant}.tsv"
        for name, run, variant, _ in curve_points()
    ]


# --- shards ---

SHARDS = SETTINGS.shards
SHARD = f"{{shard}}_of_{SHARDS}"


def shard(wildcards):
    """Which share of a stage's work a job does: the k-th of n."""
    return [wildcards.shard, SHARDS]


# --- survey ---

SURVEY = f"{RESULTS}/survey"
SURVEYED = list(SETTINGS.survey.cultures) or CULTURES


def survey_settings(*names):
    """Some of the survey's settings as JSON: what is not named does not make the step run again."""
    return SETTINGS.survey.model_dump_json(include=set(names))


def answers_folder(wildcards):
    return f"{SURVEY}/simulated/collected" if wildcards.survey != "survey" else str(SETTINGS.survey.answers)


def collected():
    """The answers of people, as far as there are any."""
    files = SETTINGS.survey.answers.rglob("*")
    return sorted(str(path) for path in files if path.is_file() and path.name[0] != ".")


def answer_files(wildcards):
    """The collected files, so that a new or changed one is noticed."""
    if wildcards.survey != "survey":
        return [f"{SURVEY}/simulated/collected/simulated.parquet"]
    if not collected():
        folder = SETTINGS.survey.answers
        raise WorkflowError(f"survey.answers: no file in {folder}; put the collected answers there")
    return collected()


def ranks_of_people(wildcards):
    """The survey's statistics, once somebody has answered."""
    return f"{SURVEY}/statistics.parquet" if collected() else []


def answers_drawn(wildcards):
    """Answers of people; while there are none, of simulated participants."""
    return f"{SURVEY}/answers.parquet" if collected() else f"{SURVEY}/simulated/answers.parquet"


# --- report ---

INCLUDED = {
    "table1": [f"{RESULTS}/table1.csv"],
    "table2": [f"{RESULTS}/table2.csv"],
    "fig5": [f"{RESULTS}/figures/fig5.svg"],
    "fig6": expand(f"{RESULTS}/{{culture}}/figures/fig6.png", culture=CULTURES),
    "fig7": [f"{RESULTS}/figures/fig7.svg"],
    "fig8": expand(f"{RESULTS}/{{culture}}/figures/fig8.png", culture=CULTURES),
    "kid_power": expand(f"{RESULTS}/{{culture}}/figures/kid_power.svg", culture=CULTURES),
}


def of_cultures(name):
    """One file of every culture."""
    return expand(f"{RESULTS}/{{culture}}/{name}", culture=CULTURES)


def of_variants(folder, ending):
    """One file of every culture and variant on the page."""
    path = f"{RESULTS}/{{culture}}/{folder}/{{variant}}.{ending}"
    return expand(path, culture=CULTURES, variant=SETTINGS.score.variants)


def included(ending):
    """The paper's tables (csv) or figures that the settings ask for."""
    paths = [path for name in SETTINGS.report.include for path in INCLUDED[name]]
    return [path for path in paths if path.endswith(ending)]
