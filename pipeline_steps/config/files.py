"""Reads a configuration from its file, presets and all, as Snakemake does."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline_steps.config.checks import explain, preset_files
from pipeline_steps.config.pipeline import PipelineConfig, changed
from pipeline_steps.errors import UserError


def read_config(path: Path) -> PipelineConfig:
    """Read and check a configuration; whether the files it names are there is not asked.

    Raises:
        UserError: it cannot be read, or holds a wrong setting.
    """
    import yaml

    def read(file: Path) -> dict[str, Any]:
        try:
            found = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
            json.dumps(found)
        except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
            raise UserError(f"{file}: cannot be read as YAML ({str(error).splitlines()[0]})") from error
        if not isinstance(found, dict):
            raise UserError(f"{file}: holds no settings; write one 'name: value' a line")
        return found

    own, raw = read(path), dict[str, Any]()
    for settings in (*map(read, preset_files(own)), own):
        raw = changed(raw, settings)
    try:
        return PipelineConfig.model_validate_json(json.dumps(raw), strict=True)
    except ValidationError as error:
        raise UserError(f"{path}: " + "; ".join(map(explain, error.errors()))) from error
