# The settings object and what rules ask of it. Everything is checked here, before the first job.
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

from pipeline_steps.config import FULL_VARIANT, VARIANTS, load_config
from pipeline_steps.errors import UserError

try:
    SETTINGS = load_config(config)
except UserError as error:
    raise WorkflowError(str(error)) from None
validate(config, "../schemas/config.schema.yaml", set_default=False)

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


def extractor():
    """The weights behind the perceptual distance as JSON: its own, or the model of the same name."""
    perceptual = SETTINGS.train.perceptual
    own = perceptual.model or getattr(SETTINGS.models, perceptual.extractor, None)
    if own is None:
        raise WorkflowError(
            f"train.perceptual.model: '{perceptual.extractor}' has no entry in models; name its weights here"
        )
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
    return str(culture(wildcards).prompts)


def suffix(wildcards):
    return culture(wildcards).suffix
