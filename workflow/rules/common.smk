# The settings, and what at least two rule files ask for. Everything is checked here, before the first job.
import os
import re
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.settings.types import SharedFSUsage
from snakemake.utils import validate

from pipeline_steps.config import (
    BASELINES,
    DEFINITIONS,
    FULL_VARIANT,
    HUB_FILE,
    PAPER,
    PERCEPTUAL,
    TRAINED,
    VARIANTS,
)
from pipeline_steps.config.checks import load_config
from pipeline_steps.config.runs import all_runs
from pipeline_steps.errors import UserError
from pipeline_steps.home import HOME, find, other_copy, source
from pipeline_steps.machine.gpu_hours import GpuHours
from pipeline_steps.machine.locks import release_stale_locks
from pipeline_steps.machine.progress import Progress
from pipeline_steps.models.bases import refuse_ddpm, refuse_depth
from pipeline_steps.models.store import pinned

if release_stale_locks():
    logger.info("Released the lock of a Snakemake that was killed: no other is alive here.")
try:
    # What people hand in lies where the run was started, which has looked at it; a job may run elsewhere.
    SETTINGS = load_config(
        config, dict.fromkeys(map(Path, [*workflow.configfiles, *PRESETS])), there=not workflow.remote_exec
    )
    if SETTINGS.negatives.structure == "depth":
        refuse_depth(SETTINGS.models.base)
    refuse_ddpm(SETTINGS)
except UserError as error:
    raise WorkflowError(str(error)) from None
validate(config, "../schemas/config.schema.yaml", set_default=False)

if workflow.is_main_process and (other := other_copy()):
    logger.warning(
        f"{other} is not the version that is installed: the plan is made by the one, and the steps run the other. "
        "Install it again: python -m pip install ."
    )

if not any(isinstance(handler, GpuHours) for handler in logger.handlers):  # a module is read more than once
    logger.addHandler(GpuHours(logger))
    logger.addHandler(Progress(logger, SETTINGS.results / "benchmarks"))

# What envs/pipeline.yaml installs beside the packages it pins.
os.environ.setdefault("SCOFT_SOURCE", source())
if SETTINGS.container:
    # What the package brings lies outside the working directory, which is all that a container sees.
    bound = filter(None, os.environ.get("APPTAINER_BIND", "").split(","))
    os.environ["APPTAINER_BIND"] = ",".join(dict.fromkeys([*bound, str(HOME)]))


container: SETTINGS.container


RESULTS = str(SETTINGS.results)
CULTURES = sorted(SETTINGS.cultures)
THREADS = SETTINGS.threads
RUNS = all_runs(SETTINGS)
COCO = f"{RESULTS}/reference/coco"
SURVEY = f"{RESULTS}/survey"
# Whether jobs see the files of the machine that they are planned on, or those of the storage alone.
SHARED = SharedFSUsage.INPUT_OUTPUT in workflow.storage_settings.shared_fs_usage
# Of a module: it moves the results, and no file that the settings name.
PREFIX = workflow.modifier.path_modifier.replace_prefix("")
if workflow.modifier.path_modifier.modifies_prefixes:
    raise WorkflowError("replace_prefix: give prefix:, or the setting 'results', which moves all results")


# A stage is one rule. Its outputs may lie in a run's folder, and those of a stage that is shared out among
# several jobs in a shard's; where they do not, the wildcard is empty.
wildcard_constraints:
    culture=r"[^/]+",
    variant="|".join(VARIANTS),
    run="(" + "|".join(RUNS) + ")",
    shard=r"(shards/\d+_of_\d+/)?",


def place(path):
    """Where an input lies that no rule makes: in the working directory, or with the package. Neither a module's
    prefix nor a default storage moves it; a job that reads it runs where it lies."""
    found = str(find(path))
    if re.search(r"[{}]", found):
        raise WorkflowError(f"{found}: braces are Snakemake's wildcards; give it a name without")
    return local(found)


def page(name):
    """A page's template, and what every template stands on: edited, they make the page anew."""
    return [
        place(f"resources/report/{name}")
        for name in (f"{name}.html", "frame.html", "parts.html", "words.yaml")
    ]


PAGE_STYLE = place("resources/report/page.css")


def moved(path):
    """Where a result lies, for what Snakemake does not move itself: params, and looking whether it is there."""
    return path if Path(path).is_absolute() else PREFIX + path


def on_disk(path):
    """As `moved`, for a step that goes through folders: there are none in an object store."""

    def of(wildcards):
        if provider := workflow.storage_settings.default_storage_provider:
            raise WorkflowError(
                f"{path}: results lie in the storage ({provider}), which this step cannot go through; copy them to a "
                "folder, run it there without --default-storage-provider, and delete in the storage what it deletes"
            )
        return moved(path)

    return of


def settings(wildcards):
    """The settings of the run in the target's name."""
    return RUNS[wildcards.get("run", "")].settings


def included(fields):
    """What pydantic is to write out: `a` and `b.c` name a field and one inside another; none stands for all."""
    tree = {}
    for field in fields:
        name, _, inner = field.partition(".")
        tree[name] = tree.get(name, set()) | {inner} if inner else True
    return tree or None


@cache
def _json(run, name, fields):
    return getattr(RUNS[run].settings, name).model_dump_json(include=included(fields))


def section(name, *fields):
    """A section of the run's settings as JSON, whole or what a step reads of it: what is not handed to a
    step does not make it run again."""
    return lambda wildcards: _json(wildcards.get("run", ""), name, fields)


def fields_but(name, *left_out):
    """The fields of a section, less some that change nothing of what a step leaves."""
    return [field for field in type(getattr(SETTINGS, name)).model_fields if field not in left_out]


def seed(wildcards):
    return settings(wildcards).seed


def model(role, *fields):
    """One model as JSON, whole or what a step reads of it, with the commit that lies here."""
    return pinned(getattr(SETTINGS.models, role)).model_dump_json(include=included(fields))


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


def shown_name(wildcards):
    """The culture's name as people write it."""
    return culture(wildcards).name or wildcards.culture


def suffix(wildcards):
    return culture(wildcards).suffix


def shard(wildcards):
    """Which share of a stage's work a job does: the k-th of n."""
    return re.findall(r"\d+", wildcards.shard) or [1, 1]


def own(run, read):
    """The folder of the run that has the file: the default one or the parent where the settings are the same
    as far as `read` looks, or the run itself."""
    wanted = read(RUNS[run].settings)
    return next(name for name in ("", RUNS[run].parent, run) if read(RUNS[name].settings) == wanted)


def lora_folder(run, variant):
    """Where a run's LoRA of a variant lies inside a culture's folder."""
    if run:
        return f"{run}{variant}/"
    return "" if variant == FULL_VARIANT else f"ablations/{variant}/"


def of_cultures(name, **wildcards):
    """One file of every culture."""
    return expand(f"{RESULTS}/{{culture}}/{name}", culture=CULTURES, **wildcards)


def collected():
    """The survey's answers of people, as far as there are any."""
    files = Path(find(SETTINGS.survey.answers)).rglob("*")
    return [place(path) for path in sorted(files) if path.is_file() and path.name[0] != "."]
