"""Safetensors files: contract, reader and writer."""

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_steps.artifacts.files import appears_whole, rebuild
from pipeline_steps.artifacts.origin import Origin, as_dict, check_note, unreadable
from pipeline_steps.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TensorFile:
    """A safetensors file's contract: its name and version stand in the file's own header."""

    name: str
    version: int

    def write(
        self,
        path: Path,
        tensors: Mapping[str, "Tensor"],
        origin: Origin | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        """Write tensors with the origin, ``extra`` and a checksum in the header."""
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
        note = {"artifact": self.name, "version": self.version, **as_dict(origin)}
        metadata = dict(extra or {})
        metadata["scoft"] = json.dumps(note | {"sha256": _checksum(contiguous)}, sort_keys=True)
        metadata["scoft_seal"] = _seal_header(metadata)
        with appears_whole(path) as part:
            part.touch()
            rights = part.stat().st_mode
            try:
                save_file(contiguous, part, metadata=metadata)
            except SafetensorError as error:
                if "os error 28" in str(error):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
                raise
            part.chmod(rights)  # the library's own files are their owner's alone, whatever the umask
            _sort_metadata(part)

    def read(self, path: Path) -> dict[str, "Tensor"]:
        """Return all tensors after verifying kind, version and checksum.

        Raises:
            UserError: the file is missing, damaged, a pickle, or of another kind or version.
        """
        from safetensors.torch import load_file

        note = self.note(path)
        try:
            tensors = load_file(path)
        except Exception as error:  # safetensors raises its own class, OSError and ValueError
            raise unreadable(path, self.name, error) from error
        if _checksum(tensors) != note.get("sha256"):
            raise UserError(f"{path}: damaged, its contents do not agree with its checksum; {rebuild(path)}")
        return tensors

    def note(self, path: Path) -> dict[str, Any]:
        """Return artifact, version, origin and checksum from the header."""
        note: dict[str, Any] = json.loads(self.metadata(path)["scoft"])
        return note

    def metadata(self, path: Path) -> dict[str, str]:
        """Return the header's metadata after verifying kind, version and seal."""
        metadata = header(path, self.name)
        try:
            note = json.loads(metadata["scoft"])
        except (KeyError, ValueError) as error:
            raise UserError(
                f"{path}: expected '{self.name}', found a foreign file; {rebuild(path)}"
            ) from error
        check_note(path, note, self.name, self.version)
        if metadata.pop("scoft_seal", "") != _seal_header(metadata):
            raise UserError(f"{path}: damaged, its header does not agree with its seal; {rebuild(path)}")
        return metadata


def header(path: Path, name: str) -> dict[str, str]:
    """Return the metadata of a safetensors file as they stand, or raise UserError."""
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except Exception as error:  # safetensors raises its own class, OSError and ValueError
        raise unreadable(path, name, error) from error


def _seal_header(metadata: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()


def _sort_metadata(path: Path) -> None:
    """Put a safetensors header's metadata in order: the library's own order changes from run to run."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= size
        file.seek(8)
        file.write(text.ljust(size))


def data_sha256(tensors: Mapping[str, "Tensor"]) -> str:
    """Return the SHA-256 of all that follows the header in a safetensors file of tensors of one type.

    It is what AUTOMATIC1111 and ModelSpec know a model by, whatever its header says.
    """
    import torch

    digest = hashlib.sha256()
    for _, tensor in sorted(tensors.items()):
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _checksum(tensors: Mapping[str, "Tensor"]) -> str:
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
