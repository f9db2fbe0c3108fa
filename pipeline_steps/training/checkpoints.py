"""Checkpoints: safetensors for tensors, plain JSON for the rest, the last few kept."""

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_steps import artifacts
from pipeline_steps.artifacts import CHECKPOINT, Origin
from pipeline_steps.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

LOG = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run, in a folder of its own: go back to earlier settings, and theirs go on.

    Args:
        folder: where those of all settings lie.
        identity: settings, data and inputs; a checkpoint of another identity is not continued.
        origin: of the training pictures.
        kept: how many to keep.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], origin: Origin, kept: int) -> None:
        self.root, self.identity, self.origin, self.kept = folder, dict(identity), origin, kept
        text = json.dumps(self.identity, sort_keys=True)
        self.folder = folder / hashlib.sha256(text.encode()).hexdigest()[:16]

    def latest(self) -> Path | None:
        """Return the newest checkpoint, if any."""
        found = sorted(self.folder.glob("*.safetensors"))
        return found[-1] if found else None

    def save(self, update: int, state: "Mapping[str, Tensor]", rows: list[dict[str, Any]]) -> None:
        """Save the state after ``update`` updates and the log rows so far; drop the oldest.

        The JSON comes first: a checkpoint exists once its tensors do.
        """
        path = self.folder / f"{update:07d}.safetensors"
        artifacts.write_text(path.with_suffix(".json"), json.dumps({"identity": self.identity, "rows": rows}))
        CHECKPOINT.write(path, state, self.origin)
        for old in sorted(self.folder.glob("*.safetensors"))[: -self.kept]:
            old.unlink()
            old.with_suffix(".json").unlink(missing_ok=True)

    def restore(self) -> "tuple[dict[str, Tensor], list[dict[str, Any]]]":
        """Return state and log rows of the newest readable checkpoint of this run; empty if there is none."""
        for path in sorted(self.folder.glob("*.safetensors"), reverse=True):
            try:
                note = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
                state = CHECKPOINT.read(path)
            except (OSError, ValueError, UserError) as error:
                LOG.warning("checkpoint %s is damaged and passed over (%s)", path, error)
                continue
            LOG.info("going on from %s", path)
            return state, note["rows"]
        if self.root.is_dir():
            LOG.info("checkpoints in %s belong to other settings or data, or are damaged", self.root)
        return {}, []

    def remove(self) -> None:
        """Remove the checkpoints of all settings: the run is complete."""
        shutil.rmtree(self.root, ignore_errors=True)
