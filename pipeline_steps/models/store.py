"""Where fetched models lie, and the list of files by which a whole one is known from half a one."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from pipeline_steps.config import HUB_ID, LINK, BaseRef, ModelRef
from pipeline_steps.errors import UserError
from pipeline_steps.home import find

STORE = Path(os.environ.get("SCOFT_MODELS", "models"))
"""Folder that `snakemake --cores 1 models` fills; make it a link to keep models elsewhere, or name another
by the variable where jobs run on machines that have no such folder in common."""
MANIFEST = "fetched.json"
"""In each fetched folder: its commit and the size and SHA-256 of every file; written last."""
LOCK = Path("config/models.lock.json")
"""Commit, sizes and SHA-256 of what a configuration's models were at their first fetch."""
COMMAND = "on a machine with network, run 'snakemake --cores 1 models' with the same configuration"
OPEN_CLIP = "open_clip_model.safetensors"
"""What open_clip reads; in the same folder another library's weights may lie under the usual name."""
CONFIGS = ("config.json", "model_index.json", "tokenizer_config.json", "preprocessor_config.json")


class HubId(NamedTuple):
    """An owner and a name on the hub, and the commit that is asked for."""

    name: str
    revision: str | None


class Link(NamedTuple):
    """An address, and the first digits of the SHA-256 of what lies there."""

    url: str
    sha256: str


def source(ref: ModelRef) -> HubId | Link | None:
    """Return what a model is fetched from; None for a file or folder of this machine."""
    if link := LINK.fullmatch(ref.path):
        return Link(link[1], (link[3] or "").lower())
    hub_id = HUB_ID.fullmatch(ref.path)
    return HubId(hub_id[1], hub_id[2]) if hub_id and not find(ref.path).exists() else None


def place(ref: ModelRef) -> Path:
    """Return where a model lies, or will lie once it is fetched; an archive becomes a folder."""
    match source(ref):
        case HubId(name, _):
            return STORE / name
        case Link(url, _):
            return STORE / url.split("://")[1].removesuffix(".zip")
    return find(ref.path)


def commit(ref: ModelRef) -> str | None:
    """Return the commit on the hub that a fetched model is; None for one from elsewhere."""
    return read_json(place(ref) / MANIFEST).get("revision") if isinstance(source(ref), HubId) else None


def pinned(ref: ModelRef) -> ModelRef:
    """Name a hub's model with its commit: the one in the lock, or of what lies here; others as they are.

    What is handed to a step makes it run again when it changes, and so does another commit.
    """
    changed: dict[str, object] = {}
    if isinstance(ref, BaseRef) and ref.vae:
        changed["vae"] = pinned(ref.vae)
    origin = source(ref)
    if isinstance(origin, HubId) and not origin.revision:
        found = read_json(LOCK).get(origin.name, {}).get("revision") or commit(ref)
        changed |= {"path": f"{origin.name}@{found}"} if found else {}
    return ref.model_copy(update=changed) if changed else ref


def locate(ref: ModelRef, role: str) -> Path:
    """Return the local file or folder of a model, which is whole and asks for no code to be run.

    Args:
        ref: the model.
        role: its key in "models", for messages.

    Raises:
        UserError: missing, half-downloaded, of another commit, or with code of its own.
    """
    path = place(ref)
    if not path.exists():
        raise UserError(f"models.{role}: '{ref.path}' is not on this machine; {COMMAND}, or name a folder")
    origin = source(ref)
    if isinstance(origin, HubId):
        _check_whole(path, origin, role)
    elif origin and path.is_dir() and not (path / MANIFEST).exists():
        raise UserError(f"models.{role}: '{ref.path}' is half-downloaded; {COMMAND}")
    if path.is_dir():
        _refuse_code(path, role)
    return path


def _check_whole(folder: Path, wanted: HubId, role: str) -> None:
    name = wanted.name
    # Another project may have fetched another commit into the same folder.
    revision = wanted.revision or read_json(LOCK).get(name, {}).get("revision")
    manifest = read_json(folder / MANIFEST)
    if not manifest:
        raise UserError(f"models.{role}: '{name}' is half-downloaded; {COMMAND}")
    if revision and not manifest["revision"].startswith(revision):
        raise UserError(
            f"models.{role}: '{name}' is here as {manifest['revision']}, not as {revision}; {COMMAND}"
        )
    for file, expected in manifest["files"].items():
        if not (folder / file).exists() or (folder / file).stat().st_size != expected["size"]:
            raise UserError(f"models.{role}: '{name}': {file} is missing or cut short; {COMMAND}")


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
