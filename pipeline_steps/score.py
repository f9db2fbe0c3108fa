"""KID, CLIPScore and, in the embedded world, attribute scores of one variant (paper §5)."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipeline_steps.artifacts import IMAGES, SAMPLES, SCORES, Table, decode_picture, same_origin
from pipeline_steps.cli import run_step
from pipeline_steps.config import ModelRef, ScoreConfig
from pipeline_steps.errors import UserError
from pipeline_steps.method.estimate import Estimate, clustered_mean

if TYPE_CHECKING:
    from torch import Tensor

LOG = logging.getLogger("scoft")


class Score(NamedTuple):
    """An estimate and what it was measured with."""

    metric: str
    estimate: Estimate
    unit: str
    reference: int | None
    extractor: ModelRef


def score(
    samples: Path,
    images: Path,
    scores: Path,
    variant: str,
    clip: ModelRef,
    inception: ModelRef,
    config: ScoreConfig,
    oracle: ModelRef | None = None,
) -> None:
    """Score one variant's pictures against the culture's test split.

    Blank pictures (one colour throughout, as a safety checker leaves them) are counted and left
    out. KID is stored raw.

    Args:
        samples: the variant's generated pictures.
        images: the culture's pictures; the rows of split "test" are the reference.
        scores: the table to write.
        variant: its name.
        clip: CLIP.
        inception: feature network for KID.
        config: the section "score".
        oracle: attribute reader of the embedded world; None: no attribute scores.

    Raises:
        UserError: fewer than two pictures on a side, pictures of mixed sizes, or other pictures' files.
    """
    from pipeline_steps import models

    origin = same_origin((SAMPLES, samples), (IMAGES, images))
    generated = list(_batches(SAMPLES, samples, config.batch_size))
    real = list(_batches(IMAGES, images, config.batch_size, split="test"))
    rows = [row for _, batch in generated for row in batch]
    for path, count in ((samples, len(rows)), (images, sum(len(batch) for _, batch in real))):
        if count < 2:
            raise UserError(
                f"{path}: {count} picture(s) to score (blank ones left out); KID needs at least 2"
            )

    found = _kid(generated, real, rows, inception) + _clip_score(generated, rows, clip, config.bootstrap)
    if oracle is not None:
        found += _attributes(generated, rows, origin.culture, oracle, config.bootstrap)
    hashes = {ref: models.weights_sha256(ref) for ref in {item.extractor for item in found}}
    SCORES.write(
        scores,
        [
            {
                "variant": variant,
                "metric": item.metric,
                **vars(item.estimate),
                "unit": item.unit,
                "generated": len(rows),
                "reference": item.reference,
                "extractor": item.extractor.path,
                "weights_sha256": hashes[item.extractor],
            }
            for item in sorted(found, key=lambda item: item.metric)
        ],
        origin,
        extra={"blank": SAMPLES.count(samples) - len(rows)},
    )


Batches = list[tuple["Tensor", list[dict[str, Any]]]]


def _kid(generated: Batches, real: Batches, rows: list[dict[str, Any]], inception: ModelRef) -> list[Score]:
    """KID of all pictures and torch-fidelity's subset estimate."""
    import torch

    from pipeline_steps import models
    from pipeline_steps.method.kid import UNIT, kid, kid_subsets

    encode = models.kid_encoder(inception)
    x, y = (torch.cat([encode(rgb) for rgb, _ in batches]) for batches in (generated, real))
    found = [Score("kid", kid(x, y, [row["prompt_id"] for row in rows]), UNIT, len(y), inception)]
    subsets = kid_subsets(x, y)
    if subsets is None:
        LOG.warning("kid_subsets left out: %d and %d pictures are too few for subsets", len(x), len(y))
    else:
        found.append(Score("kid_subsets", subsets, UNIT, len(y), inception))
    return found


def _clip_score(
    generated: Batches, rows: list[dict[str, Any]], clip: ModelRef, resamples: int
) -> list[Score]:
    import torch

    from pipeline_steps import models
    from pipeline_steps.method.similarity import clip_score

    encode_pictures, encode_texts = models.clip_encoders(clip)
    texts = {row["prompt"]: None for row in rows}
    embedded = dict(zip(texts, encode_texts(list(texts)), strict=True))
    values = clip_score(
        torch.cat([encode_pictures(rgb) for rgb, _ in generated]),
        torch.stack([embedded[row["prompt"]] for row in rows]),
    )
    return [_mean("clip_score", values.numpy(), rows, "2.5·max(cos, 0)", clip, resamples)]


def _attributes(
    generated: Batches, rows: list[dict[str, Any]], culture: str, oracle: ModelRef, resamples: int
) -> list[Score]:
    """Shares of pictures with the culture's right values, the stereotype's, and what the prompt names.

    Each attribute alone, all cultural ones at once ("_all"), and their mean.
    """
    from pipeline_steps import models
    from pipeline_steps.mini.oracle import resize_to_world
    from pipeline_steps.mini.world import CULTURAL, RIGHT, STEREOTYPE

    reader = models.oracle(oracle)
    batches = [reader.read(resize_to_world(rgb.to(models.device()).float() / 255)) for rgb, _ in generated]
    read = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    tables = {"stereotype": STEREOTYPE}
    if culture in RIGHT:
        tables["attribute_accuracy"] = RIGHT[culture]
    else:
        LOG.warning("attribute_accuracy left out: the drawn world has no culture '%s'", culture)
    found = []
    for metric, wanted in tables.items():
        hits = np.stack([read[name] == wanted[name] for name in CULTURAL], axis=1)
        columns = {metric: hits.mean(1), f"{metric}_all": hits.all(1)}
        columns |= {f"{metric}_{name}": hits[:, index] for index, name in enumerate(CULTURAL)}
        found += [_mean(name, values, rows, "share", oracle, resamples) for name, values in columns.items()]
    followed = np.array(
        [_followed(row["prompt"], {k: v[i] for k, v in read.items()}) for i, row in enumerate(rows)]
    )
    named = ~np.isnan(followed)
    if named.any():
        spoken = [row for row, keep in zip(rows, named, strict=True) if keep]
        found.append(_mean("generic_accuracy", followed[named], spoken, "share", oracle, resamples))
    return found


def _followed(prompt: str, read: dict[str, str]) -> float:
    """Share of the generic attributes named in a prompt that the picture shows; nan: none is named."""
    from pipeline_steps.mini.world import ATTRIBUTES, GENERIC

    words = set(prompt.lower().replace(",", " ").split())
    named = [(name, value) for name in GENERIC for value in ATTRIBUTES[name] if value in words]
    return float(np.mean([read[name] == value for name, value in named])) if named else float("nan")


def _mean(
    metric: str,
    values: Sequence[float] | np.ndarray,
    rows: list[dict[str, Any]],
    unit: str,
    extractor: ModelRef,
    resamples: int,
) -> Score:
    estimate = clustered_mean(values, [row["prompt_id"] for row in rows], resamples, seed=0)
    return Score(metric, estimate, unit, None, extractor)


def _batches(
    table: Table, path: Path, size: int, split: str | None = None
) -> Iterator[tuple["Tensor", list[dict[str, Any]]]]:
    """Yield uint8 pictures (n, 3, h, w) with their rows, blank ones left out.

    Raises:
        UserError: a picture that cannot be decoded or differs in size from the first.
    """
    import torch

    pictures, rows, first = [], [], None
    for row in table.rows(path):
        if split is not None and row["split"] != split:
            continue
        name = ", ".join(f"{column}={row[column]}" for column in table.key)
        try:
            picture = decode_picture(row.pop("image")).convert("RGB")
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path}: row {name}: the picture cannot be decoded; make the file anew"
            ) from error
        first = first or picture.size
        if picture.size != first:
            raise UserError(
                f"{path}: row {name}: {picture.width}×{picture.height} pixels, the first picture has "
                f"{first[0]}×{first[1]}; pictures scored together must have one size"
            )
        if all(low == high for low, high in picture.getextrema()):
            LOG.warning("%s: row %s: blank picture left out", path, name)
            continue
        pictures.append(torch.from_numpy(np.array(picture)).permute(2, 0, 1))
        rows.append(row)
        if len(pictures) == size:
            yield torch.stack(pictures), rows
            pictures, rows = [], []
    if pictures:
        yield torch.stack(pictures), rows


if __name__ == "__main__":
    run_step(score)
