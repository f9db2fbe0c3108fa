"""Checkpoints: safetensors for tensors, plain JSON for the rest, the last few kept."""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec

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
        address: where they lie as well, for another machine to go on from; fsspec's, or a shared folder.
    """

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any],
        origin: Origin,
        kept: int,
        address: str | None = None,
    ) -> None:
        self.root, self.identity, self.origin, self.kept = folder, dict(identity), origin, kept
        text = json.dumps(self.identity, sort_keys=True)
        self.folder = folder / hashlib.sha256(text.encode()).hexdigest()[:16]
        self.store = Store(address, self.folder) if address else None

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
        if self.store:
            self.store.send(path)

    def restore(self) -> "tuple[dict[str, Tensor], list[dict[str, Any]]]":
        """Return state and log rows of the newest readable checkpoint of this run; empty if there is none.

        Raises:
            UserError: the address cannot be read, or the machine cannot read a checkpoint now.
        """
        if self.store:
            self.store.fetch()
        for path in sorted(self.folder.glob("*.safetensors"), reverse=True):
            found = self._read(path)
            if found is None and self.store:
                self.store.fetch()  # its copy there may be whole
                found = self._read(path)
            if found is not None:
                LOG.info("going on from %s", path)
                return found
        if self.root.is_dir():
            LOG.info("checkpoints in %s belong to other settings or data, or are damaged", self.root)
        return {}, []

    def _read(self, path: Path) -> "tuple[dict[str, Tensor], list[dict[str, Any]]] | None":
        """Return a checkpoint's state and rows; put a damaged one aside, or it would count as the newest."""
        files = (path, path.with_suffix(".json"))
        try:
            return CHECKPOINT.read(path), json.loads(files[1].read_text(encoding="utf-8"))["rows"]
        except (OSError, ValueError, KeyError, TypeError, UserError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
                # A fault of the machine says nothing of the file; a training from the start would bury it.
                raise UserError(
                    f"{path}: cannot be read now ({cause}); give the same command again"
                ) from error
            if path.exists():
                LOG.warning("checkpoint %s is damaged and passed over (%s)", path, error)
            for file in files:
                with suppress(OSError):  # not there, or another process was first
                    file.replace(file.with_name(f"{file.name}.damaged"))
            return None

    def remove(self) -> None:
        """Remove the checkpoints of all settings that were trained with here: the run is complete."""
        settings = {self.folder.name, *(path.name for path in self.root.glob("*"))}
        shutil.rmtree(self.root, ignore_errors=True)
        if self.store:
            self.store.remove(settings)


class Store:
    """A copy of a run's checkpoints that outlives the machine.

    What arrives there half is passed over when it is read: every file carries its checksum.

    Args:
        address: of the checkpoints of all settings.
        folder: of this run's own on this machine.
    """

    def __init__(self, address: str, folder: Path) -> None:
        self.address, self.folder = address, folder
        self.files, self.root = fsspec.url_to_fs(address)
        self.own = f"{self.root}/{folder.name}"

    def fetch(self) -> None:
        """Copy here what is there and not here.

        Raises:
            UserError: the address cannot be read.
        """
        try:
            self.files.invalidate_cache()
            found = self.files.ls(self.own, detail=False) if self.files.exists(self.own) else []
            for path in found:
                here = self.folder / path.rpartition("/")[2]
                if not here.exists() and here.suffix in (".json", ".safetensors"):
                    with artifacts.appears_whole(here) as part:
                        self.files.get_file(path, str(part))
        except Exception as error:
            raise UserError(f"watch.checkpoints: {self.address} cannot be read ({error})") from error

    def send(self, path: Path) -> None:
        """Copy a checkpoint there, its tensors last, and drop there what is no longer here.

        What fails is said and left: the training is worth more than a copy of its state.
        """
        try:
            self.files.makedirs(self.own, exist_ok=True)
            for file in (path.with_suffix(".json"), path):
                self.files.put_file(str(file), f"{self.own}/{file.name}")
            self.files.invalidate_cache()
            for old in self.files.ls(self.own, detail=False):
                if not (self.folder / old.rpartition("/")[2]).exists():
                    self.files.rm_file(old)
        except Exception as error:
            LOG.warning("checkpoint %s was not copied to %s (%s)", path.name, self.address, error)

    def remove(self, settings: Iterable[str]) -> None:
        """Remove the folders of these settings; others may be a training's that still runs elsewhere."""
        try:
            self.files.invalidate_cache()
            for folder in (f"{self.root}/{name}" for name in sorted(settings)):
                if self.files.exists(folder):
                    self.files.rm(folder, recursive=True)
        except Exception as error:
            LOG.warning("checkpoints in %s were not removed (%s)", self.address, error)
