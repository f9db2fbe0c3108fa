"""Reads a configuration from its file, presets and all, as Snakemake does."""

import json
from pathlib import Path

from pydantic import ValidationError

from pipeline_steps.config.checks import over_presets, read_settings
from pipeline_steps.config.explain import explain
from pipeline_steps.config.pipeline import PipelineConfig
from pipeline_steps.errors import UserError


def read_config(path: Path) -> PipelineConfig:
    """Read and check a configuration; whether the files it names are there is not asked.

    Raises:
        UserError: it cannot be read, or holds a wrong setting.
    """
    raw = over_presets(read_settings(path))
    try:
        return PipelineConfig.model_validate_json(json.dumps(raw), strict=True)
    except ValidationError as error:
        raise UserError(f"{path}: " + "; ".join(map(explain, error.errors()))) from error
