"""What stands in the header of any file of the pipeline."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image

from pipeline_steps.artifacts.origin import UNREADABLE
from pipeline_steps.artifacts.tensors import header
from pipeline_steps.errors import UserError


def raw_metadata(path: Path) -> dict[str, str]:
    """Return what stands in the header of any Parquet, safetensors or PNG file; nothing for other files."""
    try:
        if path.suffix == ".png":
            with Image.open(path, formats=["PNG"]) as picture:
                return {str(key): str(value) for key, value in picture.info.items()}
        if path.suffix == ".parquet":
            found = pq.read_metadata(path).metadata or {}
            return {
                key.decode(errors="replace"): value.decode(errors="replace") for key, value in found.items()
            }
        if path.suffix == ".safetensors":
            return header(path, "any")
    except (*UNREADABLE, UserError):
        pass
    return {}


def any_note(path: Path) -> dict[str, Any]:
    """Return what a file of the pipeline says it is, whatever its kind; nothing of other files."""
    note: dict[str, Any] = json.loads(raw_metadata(path).get("scoft", "{}"))
    return note
