"""Features of a set of pictures: every network looks once, every score reads the result."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image, ImageOps

from pipeline_steps.artifacts import (
    FEATURES,
    IMAGES,
    SAMPLES,
    WHOLE,
    Row,
    Table,
    decode_picture,
    is_blank,
    rebuild,
    same_origin,
    shard_batches,
)
from pipeline_steps.cli import run_step
from pipeline_steps.config import FeaturesConfig, ModelRef
from pipeline_steps.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

LOG = logging.getLogger(__name__)


def features(
    pictures: Path,
    features: Path,
    kind: Literal["images", "samples"],
    clip: ModelRef,
    inception: ModelRef,
    dino: ModelRef,
    dreamsim: ModelRef,
    config: FeaturesConfig,
    oracle: ModelRef | None = None,
) -> None:
    """Encode every picture of a table, and its caption or prompt.

    Row ``i`` of each tensor is row ``i`` of the table: ``inception``, ``clip``, ``text`` (CLIP's, of
    the caption or prompt), ``dino`` and ``dreamsim`` (n, d) in float32; ``blank`` (n,), true for a
    picture of one colour, as a safety checker leaves it; with the oracle, ``attributes`` (n, a), the
    number of the value read for each attribute of the drawn world.

    Args:
        pictures: the table.
        features: the file to write.
        kind: which table it is.
        clip: CLIP.
        inception: feature network for KID.
        dino: DINOv2.
        dreamsim: DreamSim.
        config: batch size, and what is put before prompts.
        oracle: attribute reader of the embedded world; None for real pictures.

    Raises:
        UserError: no pictures, one that cannot be decoded, or mixed sizes.
    """
    import torch

    from pipeline_steps.models import encoders, loading

    table = {"images": IMAGES, "samples": SAMPLES}[kind]
    text = {"images": "caption", "samples": "prompt"}[kind]
    origin = same_origin((table, pictures))
    clip_pictures, clip_texts = encoders.clip_encoders(clip)
    looks = {
        "inception": encoders.kid_encoder(inception),
        "clip": clip_pictures,
        "dino": encoders.dino_encoder(dino),
        "dreamsim": encoders.dreamsim_encoder(dreamsim),
    }
    networks = {"inception": inception, "clip": clip, "dino": dino, "dreamsim": dreamsim}
    if oracle is not None:
        looks["attributes"], networks["attributes"] = encoders.attribute_encoder(oracle), oracle

    found: dict[str, list[Tensor]] = {name: [] for name in (*looks, "text", "blank")}
    rows, total = _same_size(table.rows(pictures), table, pictures), table.count(pictures)
    for batch in shard_batches(rows, total, config.batch_size, WHOLE, "features"):
        rgb = torch.from_numpy(np.stack([row["rgb"] for row in batch])).permute(0, 3, 1, 2)
        for name, encode in looks.items():
            found[name].append(encode(rgb))
        found["text"].append(clip_texts([config.prompt_prefix + row[text] for row in batch]))
        found["blank"].append(torch.tensor([row["blank"] for row in batch]))
    if not found["blank"]:
        raise UserError(f"{pictures}: holds no pictures; {rebuild(pictures)}")
    tensors = {name: torch.cat(parts) for name, parts in found.items()}
    if blank := int(tensors["blank"].sum()):
        LOG.warning(
            "%s: %d of %d pictures are blank and will not be scored", pictures, blank, len(tensors["blank"])
        )
    seen = {
        name: {"path": ref.path, "sha256": loading.weights_sha256(ref, name)}
        for name, ref in networks.items()
    }
    if config.prompt_prefix:
        seen["clip"]["prompt_prefix"] = config.prompt_prefix
    FEATURES.write(features, tensors, origin, {"networks": json.dumps(seen, sort_keys=True)})


def _same_size(rows: Iterator[Row], table: Table, path: Path) -> Iterator[Row]:
    """Add each row's picture as "rgb", uint8 (h, w, 3), and whether it is "blank".

    Of a culture's pictures only the central square is seen.

    Raises:
        UserError: a picture that cannot be decoded or differs in size from the first.
    """
    first, side = None, table.note(path).get("resolution")
    for row in rows:
        name = ", ".join(f"{column}={row[column]}" for column in table.key)
        try:
            picture = decode_picture(row["image"]).convert("RGB")
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: row {name}: not a readable picture; {rebuild(path)}") from error
        if side and picture.width != picture.height:
            picture = ImageOps.fit(picture, (side, side), Image.Resampling.LANCZOS)
        first = first or picture.size
        if picture.size != first:
            raise UserError(
                f"{path}: row {name}: {picture.width}×{picture.height} pixels, but the first picture has "
                f"{first[0]}×{first[1]}; pictures scored together must have one size"
            )
        yield {**row, "rgb": np.asarray(picture), "blank": is_blank(picture)}


if __name__ == "__main__":
    run_step(features, lever="lower features.batch_size")
