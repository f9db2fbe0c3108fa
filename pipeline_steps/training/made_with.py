"""What the files that a training reads were made with: a line in their headers."""

import json
from pathlib import Path
from typing import Any

from pipeline_steps.artifacts import rebuild
from pipeline_steps.artifacts.tensors import TensorFile
from pipeline_steps.config import ModelRef, PerceptualConfig, without_commit
from pipeline_steps.errors import UserError
from pipeline_steps.models.store import commit

LINE = "made_with"
"""The header's line."""


def made_with(model: ModelRef, perceptual: PerceptualConfig | None = None) -> dict[str, str]:
    """Return a header's line: the model by its own name, wherever it lies, and what S compares of it.

    Args:
        model: the base model, or the extractor of S.
        perceptual: with an extractor, how it looks at pictures.
    """
    found = {"model": Path(without_commit(model.path)).name, "commit": commit(model)}
    if perceptual is not None:
        found |= perceptual.model_dump(mode="json", exclude={"model"})
    return {LINE: json.dumps(found, sort_keys=True)}


def check_made_with(kind: TensorFile, path: Path, wanted: dict[str, str]) -> None:
    """Compare a file's line with what :func:`made_with` says of this training.

    Raises:
        UserError: another model or other settings made the file. Earlier versions did not say.
    """
    found = json.loads(kind.metadata(path).get(LINE, wanted[LINE]))
    differing = {name: value for name, value in json.loads(wanted[LINE]).items() if found.get(name) != value}
    if differing:
        raise UserError(
            f"{path}: was made with {_told(found, differing)}, and this training has "
            f"{_told(differing, differing)}; {rebuild(path)}"
        )


def _told(values: dict[str, Any], names: dict[str, Any]) -> str:
    return ", ".join(f"{name} {json.dumps(values.get(name))}" for name in names)
