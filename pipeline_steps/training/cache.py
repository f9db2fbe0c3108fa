"""The training cache: what every update needs and no update changes (latents and text)."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_steps import artifacts
from pipeline_steps.artifacts import CAPTIONS, IMAGES, TRAIN_CACHE, WHOLE, Row, Shard
from pipeline_steps.cli import run_step
from pipeline_steps.config import BaseRef, CacheConfig
from pipeline_steps.errors import UserError
from pipeline_steps.inputs.prompts import prompts_of

if TYPE_CHECKING:
    import torch

    from pipeline_steps.method.denoising import Condition
    from pipeline_steps.models.families.family import Family


def cache(
    images: Path,
    captions: Path,
    train_cache: Path,
    culture: str,
    base: BaseRef,
    config: CacheConfig,
    shard: Shard = WHOLE,
    generic_captions: Path | None = None,
) -> None:
    """Encode the training pictures, plain and flipped, and all their captions.

    The file holds, for N pictures with k BLIP captions each: ``latents_mean`` and ``latents_std``
    (N, 2, c, h, w), the scaled VAE posterior of the picture and its mirror image, padded to the largest
    where sizes differ, and then ``latents_size`` (N, 2), each one's own h and w; and of every tensor the
    denoiser is conditioned on, whose names and shapes its family says, ``text.*`` (N, ...) of c_ccub,
    ``text_blip.*`` (N, k, ...) of c_blip^i and, where it tells of the prompt alone, ``text_null.*`` (...) and
    ``text_generic.*`` (G, ...) of G captions that belong to no picture.
    Of the M test pictures that ``config.held_out`` keeps there are the means, ``latents_held_out``
    (M, c, h, w), ``text_held_out.*`` and, where sizes differ, ``latents_held_out_size``; they are in the last
    shard. The header names the pictures and their resolution, the model, and the SHA-256 of the file with the
    G captions.

    Args:
        images: table of pictures; its ``train`` rows are used.
        captions: BLIP captions.
        train_cache: file to write.
        culture: its name.
        base: the model to be mended.
        config: batch size, and how many test pictures are kept.
        shard: which share of the pictures.
        generic_captions: text file of captions that name no culture, one a line; or a table of them.

    Raises:
        UserError: pictures whose sizes the model does not take, or captions that cannot be read.
    """
    import torch

    from pipeline_steps.method.caches import join
    from pipeline_steps.models.families import family_of
    from pipeline_steps.training.made_with import made_with

    origin = artifacts.same_origin((IMAGES, images), (CAPTIONS, captions), culture=culture)
    blip: dict[str, list[str]] = {}
    for line in CAPTIONS.rows(captions):
        blip.setdefault(line["image_id"], []).append(line["caption"])
    tests = list(islice((r for r in IMAGES.rows(images) if r["split"] == "test"), config.held_out))
    sizes = [artifacts.picture_size(row["image"]) for row in IMAGES.rows(images) if row["split"] == "train"]
    sizes += [artifacts.picture_size(row["image"]) for row in tests]
    encoder = _Encoder(family_of(base), sizes)
    image_ids: list[str] = []
    with torch.inference_mode():
        for batch in artifacts.one_size(artifacts.train_batches(images, config.batch_size, "cache", shard)):
            encoder.add_pictures(batch, blip)
            image_ids += [row["image_id"] for row in batch]
        for row in tests if shard[0] == shard[1] else []:
            encoder.add_held_out(row)
        lines = [prompt.text for prompt in prompts_of(generic_captions)] if generic_captions else []
        encoder.add_texts_of_no_picture(lines, config.batch_size)
    ids = {"image_ids": image_ids, "held_out_ids": [row["image_id"] for row in tests]}
    about = {name: json.dumps(found) for name, found in ids.items()} | made_with(base)
    if side := IMAGES.note(images).get("resolution"):
        about["resolution"] = str(side)
    if generic_captions:
        about["generic_captions"] = artifacts.file_sha256(generic_captions)
    TRAIN_CACHE.write(train_cache, join(encoder.columns), origin, about)


class _Encoder:
    """Encodes pictures and captions, part by part, into the cache's columns.

    Args:
        family: the base model's.
        sizes: width and height of every picture.

    Raises:
        UserError: a picture's size is none that the model takes.
    """

    def __init__(self, family: "Family", sizes: list[tuple[int, int]]) -> None:
        from pipeline_steps.training.latents import largest_size

        _check(sizes, family.multiple(), family.title)
        self.family = family
        self.largest, self.one_size = largest_size(sizes), len(set(sizes)) == 1
        self.vae = family.vae()
        self.encode_prompts, self.tokenizer = family.prompt_encoder(), family.tokenizer()
        self.columns: dict[str, list[torch.Tensor]] = defaultdict(list)

    def add_pictures(self, batch: Sequence[Row], blip: Mapping[str, list[str]]) -> None:
        """Encode training pictures of one size, their own captions and BLIP's."""
        from pipeline_steps.models.text import warn_if_long
        from pipeline_steps.training.latents import both_sides

        unit = _unit(batch)
        mean, std = both_sides(self.family, self.vae, unit)
        self._add_latents("latents_mean", mean, unit)
        self._add_latents("latents_std", std, unit)
        self._add_size("latents_size", mean)
        for name, value in self._condition([row["caption"] for row in batch], unit).items():
            self.columns[f"text.{name}"].append(value)
        for row in batch:
            warn_if_long(self.tokenizer, row["caption"])
            for name, value in self._condition(blip[row["image_id"]], unit).items():
                self.columns[f"text_blip.{name}"].append(value[None])

    def add_held_out(self, row: Row) -> None:
        """Encode a test picture and its caption."""
        unit = _unit([row])
        mean, _ = self.family.encode_pictures(self.vae, unit)
        self._add_latents("latents_held_out", mean, unit)
        self._add_size("latents_held_out_size", mean)
        for name, value in self._condition([row["caption"]], unit).items():
            self.columns[f"text_held_out.{name}"].append(value)

    def add_texts_of_no_picture(self, captions: list[str], batch_size: int) -> None:
        """Encode the empty prompt and the generic captions."""
        from pipeline_steps.models.text import warn_if_long

        for caption in captions:
            warn_if_long(self.tokenizer, caption)
        for name, value in self.encode_prompts([""]).items():
            self.columns[f"text_null.{name}"].append(value[0].cpu())
        for name, value in _of_no_picture(self.encode_prompts, captions, batch_size).items():
            self.columns[f"text_generic.{name}"].append(value)

    def _condition(self, prompts: list[str], unit: "torch.Tensor") -> dict[str, "torch.Tensor"]:
        height, width = unit.shape[2:]
        found = self.encode_prompts(prompts) | self.family.picture_condition(len(prompts), width, height)
        return {name: value.cpu() for name, value in found.items()}

    def _add_latents(self, name: str, latents: "torch.Tensor", unit: "torch.Tensor") -> None:
        from pipeline_steps.training.latents import padded

        self.columns[name].append(padded(latents, unit, self.largest))

    def _add_size(self, name: str, latents: "torch.Tensor") -> None:
        import torch

        if not self.one_size:
            self.columns[name].append(torch.tensor([latents.shape[-2:]] * len(latents)))


def _unit(rows: Sequence[Row]) -> "torch.Tensor":
    """Pictures of one size, values 0 to 1, shape (n, 3, h, w)."""
    from pipeline_steps.method.pictures import to_unit

    return to_unit([artifacts.decode_picture(row["image"]) for row in rows])


def _of_no_picture(
    encode_prompts: "Callable[[Sequence[str]], Condition]", captions: list[str], batch_size: int
) -> "Condition":
    """Encode captions that belong to no picture, as many at a time as pictures."""
    import torch

    from pipeline_steps.method.denoising import aligned

    firsts = range(0, len(captions), batch_size)
    found = [encode_prompts(captions[first : first + batch_size]) for first in firsts]
    names = found[0] if found else ()
    return {name: torch.cat(aligned([part[name].cpu() for part in found])) for name in names}


def _check(sizes: list[tuple[int, int]], multiple: int, title: str) -> None:
    """Refuse pictures that would not come back from latents in the size they had."""
    for width, height in sizes:
        if width % multiple or height % multiple:
            raise UserError(
                f"data.resolution: there are pictures of {width} × {height} pixels, and {title} takes "
                f"multiples of {multiple}; set a resolution whose pictures have such sides"
            )


if __name__ == "__main__":
    run_step(cache, lever="lower cache.batch_size, or set models.base.vae_slicing: true")
