"""Where fetched models lie, and the list of files by which a whole one is known from half a one."""

import json
import re
from pathlib import Path
from typing import Any

from pipeline_steps.config import ModelRef
from pipeline_steps.errors import UserError

STORE = Path("models")
"""Folder that `snakemake models` fills; make it a link to keep models elsewhere."""
MANIFEST = "fetched.json"
"""In each fetched folder: its revision and the size and SHA-256 of every file; written last."""
COMMAND = "on a machine with network, run 'snakemake models' with the same --configfile"
CONFIGS = ("config.json", "model_index.json", "tokenizer_config.json", "preprocessor_config.json")


def is_hub_id(ref: ModelRef) -> bool:
    """Whether the path is an owner and a name on the hub and no file or folder of this machine."""
    hub_like = re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", ref.path) is not None
    return ref.url is None and hub_like and not Path(ref.path).exists()


def locate(ref: ModelRef, role: str) -> Path:
    """Return the local file or folder of a model, which is whole and asks for no code to be run.

    Args:
        ref: the model.
        role: its key in "models", for messages.

    Raises:
        UserError: missing, half-downloaded, of another revision, or with code of its own.
    """
    path = STORE / ref.path if is_hub_id(ref) else Path(ref.path)
    if not path.exists():
        raise UserError(f"models.{role}: '{ref.path}' is not on this machine; {COMMAND}, or name a folder")
    if is_hub_id(ref):
        _check_whole(path, ref, role)
    elif ref.url and path.is_dir() and not (path / MANIFEST).exists():
        raise UserError(f"models.{role}: '{ref.path}' is half-downloaded; {COMMAND}")
    if path.is_dir():
        _refuse_code(path, role)
    return path


def _check_whole(folder: Path, ref: ModelRef, role: str) -> None:
    manifest = read_json(folder / MANIFEST)
    if not manifest:
        raise UserError(f"models.{role}: '{ref.path}' is half-downloaded; {COMMAND}")
    if ref.revision and manifest["revision"] != ref.revision:
        raise UserError(
            f"models.{role}: '{ref.path}' is here as {manifest['revision']}, not as {ref.revision}; {COMMAND}"
        )
    for name, expected in manifest["files"].items():
        file = folder / name
        if not file.exists() or file.stat().st_size != expected["size"]:
            raise UserError(f"models.{role}: '{ref.path}': {name} is missing or cut short; {COMMAND}")


def _refuse_code(folder: Path, role: str) -> None:
    """A folder may ask for its own Python to be run; none ever is."""
    for file in sorted(file for name in CONFIGS for file in folder.rglob(name)):
        settings = read_json(file)
        if "auto_map" in settings or isinstance(settings.get("_class_name"), list):
            raise UserError(
                f"models.{role}: {file} asks for code of its own to be run, which is never done; "
                "name a model whose class is in diffusers or transformers"
            )


def read_json(file: Path) -> dict[str, Any]:
    """Return a JSON file's object; empty where there is no file."""
    if not file.exists():
        return {}
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file}: not JSON ({error}); delete it and fetch the model again") from error
