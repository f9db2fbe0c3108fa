"""The cached training set: which picture comes when, and everything random about it."""

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from pipeline_steps.artifacts import NEGATIVE_CACHE, TARGETS, TRAIN_CACHE, rebuild
from pipeline_steps.config import TrainConfig
from pipeline_steps.errors import UserError
from pipeline_steps.method.denoising import Condition
from pipeline_steps.method.processes import NoiseProcess
from pipeline_steps.method.scoft import Batch, Looks
from pipeline_steps.seeds import generator

SHARES = (0.125, 0.375, 0.625, 0.875)
"""Shares of the model's own schedule at which the held-out loss is measured."""


def latent_positions(train_cache: Path) -> int:
    """Return height × width of the largest latents in a cache, whose sizes differ little."""
    with safe_open(train_cache, "pt") as file:
        if "latents_size" in file.keys():  # noqa: SIM118 (no dictionary)
            return int(file.get_tensor("latents_size").prod(1).max())
        height, width = file.get_slice("latents_mean").get_shape()[-2:]
    return int(height * width)


class TrainingSet:
    """Batches by number: number ``g`` is picture ``order(epoch)[g mod N]`` of epoch ``g div N``.

    Order and randomness depend on (seed, epoch, image id) alone, so that any batch can be had at
    any time: a restarted run sees what an uninterrupted one sees, and 1 × 4, 4 × 1 and 2 processes × 2
    see the same pictures with the same noise.

    Args:
        train_cache: latents and text.
        targets: perceptual features; None where no loss looks at pictures.
        negative_cache: latents of the negatives; None where no loss compares with them.
        culture: its name.
        seed: the run's seed.
        config: the section "train".
        noise_process: the model's.

    Raises:
        UserError: targets or negatives are of other pictures, or stochastic inner steps are wanted of a model
            that has none.
    """

    def __init__(
        self,
        train_cache: Path,
        targets: Path | None,
        culture: str,
        seed: int,
        config: TrainConfig,
        noise_process: NoiseProcess,
        negative_cache: Path | None = None,
    ) -> None:
        self.culture, self.seed, self.config, self.noise_process = culture, seed, config, noise_process
        self.cache = TRAIN_CACHE.read(train_cache)
        self.conditions: dict[str, Condition] = {
            kind: {
                name.removeprefix(f"{kind}."): value
                for name, value in self.cache.items()
                if name.startswith(f"{kind}.")
            }
            for kind in ("text", "text_blip", "text_null", "text_held_out", "text_generic")
        }
        about = TRAIN_CACHE.metadata(train_cache)
        self.image_ids: list[str] = json.loads(about["image_ids"])
        self.held_out_ids: list[str] = json.loads(about.get("held_out_ids", "[]"))
        # What the LoRA says of them: the pictures' resolution, and whose bytes a list of captions is.
        told = ("resolution", *["generic_captions"] * (config.weight_prior > 0))
        self.said = {name: about[name] for name in told if name in about}
        self.targets = TARGETS.read(targets) if targets else None
        self.negatives = NEGATIVE_CACHE.read(negative_cache) if negative_cache else None
        for contract, path in ((TARGETS, targets), (NEGATIVE_CACHE, negative_cache)):
            if path and json.loads(contract.metadata(path)["image_ids"]) != self.image_ids:
                raise UserError(
                    f"{path}: lists other pictures than {train_cache}; {rebuild(path, train_cache)}"
                )
        if targets and config.denoising.scheduler == "ddpm" and not noise_process.stochastic:
            raise UserError(
                "train.denoising.scheduler: 'ddpm' adds noise in every inner step, and models.base is a "
                "rectified flow, whose steps have none; set ddim"
            )

    def __len__(self) -> int:
        return len(self.image_ids)

    @lru_cache(maxsize=2)  # noqa: B019 (one object per process)
    def order(self, epoch: int) -> list[int]:
        """Return the epoch's permutation."""
        return torch.randperm(
            len(self), generator=generator(self.seed, "order", self.culture, epoch)
        ).tolist()

    def batch(self, numbers: Sequence[int], device: torch.device, looks: bool = False) -> Batch:
        """Assemble a batch on the device; with ``looks``, those pictures' targets that are looked at."""
        places = [(g // len(self), self.order(g // len(self))[g % len(self)]) for g in numbers]
        rows = torch.tensor([row for _, row in places])
        streams = [
            generator(self.seed, "train", self.culture, self.image_ids[row], epoch) for epoch, row in places
        ]

        t = torch.cat([self.noise_process.draw(s) for s in streams])
        flip = torch.cat([torch.rand(1, generator=s) < 0.5 for s in streams]) & self.config.flip
        draw = torch.cat([torch.rand(1, generator=s) for s in streams])
        caption = torch.cat([torch.rand(1, generator=s) for s in streams])
        shape = self._latents_shape(rows)
        posterior, noise = (torch.stack([torch.randn(shape, generator=s) for s in streams]) for _ in range(2))

        side = flip.long()
        mean, std = (
            self.cache[name][rows, side, :, : shape[1], : shape[2]].float()
            for name in ("latents_mean", "latents_std")
        )
        text, blip, null, one = self._captions(rows, caption)
        batch = Batch(z0=mean + std * posterior, noise=noise, t=t, text=text, blip=blip, null=null)
        if self.negatives is not None:
            self._add_losers(batch, rows, side, streams)
        if self.config.weight_prior > 0:
            batch.generic = self._generic(one, places)
        seen = [
            place
            for place, (g, share) in enumerate(
                zip(numbers, self.noise_process.share(t).tolist(), strict=True)
            )
            if g % self.config.perceptual_every == 0 and share >= self.config.perceptual_from
        ]
        if looks and seen:
            batch.looks = self._looks(rows, side, torch.tensor(seen), draw)
            if self.config.denoising.scheduler == "ddpm":
                batch.looks.noise = lambda _: torch.stack(
                    [torch.randn(shape, generator=streams[place]) for place in seen]
                ).to(device)
        return batch.to(device)

    def held_out(self, device: torch.device) -> Iterator[Batch]:
        """Yield each test picture at the times :data:`SHARES`, always with the same noise."""
        times = torch.tensor([self.noise_process.at(share) for share in SHARES])
        for row, image_id in enumerate(self.held_out_ids):
            z0 = self.cache["latents_held_out"][row].float()
            if "latents_held_out_size" in self.cache:
                height, width = self.cache["latents_held_out_size"][row].tolist()
                z0 = z0[:, :height, :width]
            streams = [generator(self.seed, "held_out", self.culture, image_id, k) for k in range(len(times))]
            noise = torch.stack([torch.randn(z0.shape, generator=stream) for stream in streams])
            text = {
                name: value[row].expand(len(times), *value.shape[1:])
                for name, value in self.conditions["text_held_out"].items()
            }
            yield Batch(z0.expand_as(noise), noise, times, text, {}, {}).to(device)

    def alike(self, count: int) -> list[int]:
        """Return the first numbers whose pictures have the size of the first, at most ``count``."""
        order = self.order(0)
        shape = self._latents_shape(torch.tensor(order[:1]))
        same = (n for n, row in enumerate(order) if self._latents_shape(torch.tensor([row])) == shape)
        return list(islice(same, count))

    def _latents_shape(self, rows: Tensor) -> tuple[int, ...]:
        """Return (c, h, w) of a batch's latents.

        Raises:
            UserError: the batch's pictures differ in size.
        """
        channels, height, width = self.cache["latents_mean"].shape[2:]
        if "latents_size" not in self.cache:
            return channels, height, width
        sizes = {tuple(size) for size in self.cache["latents_size"][rows].tolist()}
        if len(sizes) > 1:
            raise UserError(
                "pictures of several sizes are trained on one at a time; set train.batch_size to 1"
            )
        return channels, *sizes.pop()

    def _captions(self, rows: Tensor, draw: Tensor) -> tuple[Condition, Condition, Condition, Condition]:
        """Return the conditions of the own captions, of BLIP's, of the empty one, and of one of BLIP's each.

        Args:
            rows: of the cache, (n,).
            draw: uniform numbers in [0, 1), (n,), which choose the one.
        """
        text = {name: value[rows] for name, value in self.conditions["text"].items()}
        blip = {name: value[rows] for name, value in self.conditions["text_blip"].items()}
        one = {
            name: value[torch.arange(len(rows)), (draw * value.shape[1]).long()]
            for name, value in blip.items()
        }
        if self.config.memorisation_captions == "one":
            blip = {name: value[:, None] for name, value in one.items()}
        # What tells of the picture, not of the prompt, goes with the empty prompt as well.
        null = text | {
            name: value.expand(len(rows), *value.shape)
            for name, value in self.conditions["text_null"].items()
        }
        return text, blip, null, one

    def _looks(self, rows: Tensor, side: Tensor, seen: Tensor, draw: Tensor) -> Looks:
        """Return what the places ``seen`` of a batch are compared with, and under which views."""
        assert self.targets is not None
        rows, side = rows[seen], side[seen]
        members = self.targets["negatives_of"][rows]
        layers = sum(name.startswith("positive.") for name in self.targets)
        negative = []
        for layer in range(layers):
            stored = self.targets[f"negative.{layer}"]
            if len(stored) == 0:  # the filter kept none at all: any features will do, none is present
                stored = self.targets[f"positive.{layer}"][:1]
            negative.append(stored[members.clamp(min=0), side[:, None]])
        return Looks(
            rows=seen,
            boxes=self.targets["views"][rows],
            positive=[self.targets[f"positive.{layer}"][rows, side] for layer in range(layers)],
            negative=negative,
            present=members >= 0,
            record_draw=draw[seen],
        )

    def _generic(self, blip: Condition, places: Sequence[tuple[int, int]]) -> Condition:
        """Give every other picture, at random, one of the listed captions, if any, in BLIP's place.

        What tells of the picture, not of the caption, stays its own.
        """
        streams = [
            generator(self.seed, "generic", self.culture, self.image_ids[row], epoch) for epoch, row in places
        ]
        exchanged = torch.cat([torch.rand(1, generator=s) < 0.5 for s in streams])
        draw = torch.cat([torch.rand(1, generator=s) for s in streams])
        return blip | {
            name: torch.where(
                exchanged.view(-1, *[1] * (listed.ndim - 1)), listed[(draw * len(listed)).long()], blip[name]
            )
            for name, listed in self.conditions["text_generic"].items()
        }

    def _add_losers(self, batch: Batch, rows: Tensor, side: Tensor, streams: list[torch.Generator]) -> None:
        """Draw one negative of each picture, mirrored where the picture is."""
        assert self.negatives is not None
        members = self.negatives["negatives_of"][rows]
        count = (members >= 0).sum(1)
        draw = torch.cat([torch.rand(1, generator=s) for s in streams])
        chosen = members[torch.arange(len(rows)), (draw * count).long().clamp(max=members.shape[1] - 1)]
        batch.paired = count > 0
        height, width = batch.z0.shape[-2:]
        mean, std = (
            self.negatives[name][chosen.clamp(min=0), side, :, :height, :width].float()
            if len(self.negatives[name])
            else torch.zeros_like(batch.z0)  # the filter kept none at all
            for name in ("latents_mean", "latents_std")
        )
        batch.losers = mean + std * torch.stack(
            [torch.randn(batch.z0.shape[1:], generator=s) for s in streams]
        )
