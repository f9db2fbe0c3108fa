"""The authors' arrangement of the loop, written anew after what their public script does.

Pictures one by one; latents, texts and the features of x⁺ and x⁻ computed whenever they are used; the
null branch in every step; inner steps one network call at a time. It is spared what is merely slow
(their VGG reloaded every contrastive step), and its ``ldm`` is the plain LoRA script: one picture, one
text, one UNet call.
"""

import itertools
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.counting import lora, synchronise
from pipeline_steps.method import denoising, losses
from pipeline_steps.method.denoising import Condition
from pipeline_steps.method.perceptual import Extractor, view_distance, view_features
from pipeline_steps.method.processes import NoiseProcess
from pipeline_steps.method.scoft import Objective

PICTURES, NEGATIVES = 4, 5
"""Of an update, and of a picture."""


class Stopwatch:
    """Wall seconds by section; sections do not nest."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def section(self, name: str) -> Any:
        synchronise()
        start = time.perf_counter()
        yield
        synchronise()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def timed(self, name: str | Callable[[], str], function: Callable) -> Callable:
        """Wrap a function of the trainer's."""

        def call(*args: Any, **options: Any) -> Any:
            with self.section(name if isinstance(name, str) else name()):
                return function(*args, **options)

        return call


def unet_section() -> str:
    """Name what a call of the UNet is for."""
    return "UNet, recorded" if torch.is_grad_enabled() else "UNet, no gradient"


@dataclass
class Material:
    """What the loop works with.

    Attributes:
        family: calls the networks: predict, encode_pictures, decode_latents.
        denoiser: the UNet; it gets a LoRA.
        vae: the autoencoder.
        noise_process: the model's.
        extract: feature extractor of S.
        pictures: (row, count) to pictures in [0, 1], (count, 3, h, w): one, and its negatives after it.
        encode: a text to its condition.
        captions: one for each picture.
    """

    family: Any
    denoiser: Any
    vae: Any
    noise_process: NoiseProcess
    extract: Extractor
    pictures: Callable[[int, int], Tensor]
    encode: Callable[[str], Condition]
    captions: list[str]


class Authors:
    """Their loop: every picture on its own, everything computed where it is used."""

    def __init__(self, material: Material, objective: Objective, config: Any, watch: Stopwatch) -> None:
        self.material, self.objective, self.config, self.watch = material, objective, config, watch
        self.unet, self.process = material.denoiser, material.noise_process
        self.device, self.dtype = self.unet.device, self.unet.dtype
        self.unet.add_adapter(lora(config.lora_rank, config.lora_targets))
        self.parameters = [p for p in self.unet.parameters() if p.requires_grad]
        for parameter in self.parameters:
            parameter.data = parameter.data.float()
        self.optimiser = torch.optim.AdamW(self.parameters, lr=config.learning_rate)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.step = 0

    def predict(self, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        mixed = torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)
        with self.watch.section(unet_section()), mixed:
            return self.material.family.predict(self.unet, z.to(self.dtype), t, condition).float()

    def encode(self, text: str) -> Condition:
        with self.watch.section("text encoder"), torch.no_grad():
            return self.material.encode(text)

    def update(self, number: int) -> None:
        """Accumulate over single pictures, then step."""
        for _ in range(PICTURES):
            row = self.step % len(self.material.captions)
            loss = self.loss(row, self.step % self.config.perceptual_every == 0)
            with self.watch.section("backward"):
                self.scaler.scale(loss / PICTURES).backward()
            self.step += 1
        with self.watch.section("optimiser"):
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(self.parameters, self.config.max_gradient_norm)
            self.scaler.step(self.optimiser)
            self.scaler.update()
            self.optimiser.zero_grad()

    def loss(self, row: int, perceptual: bool) -> Tensor:
        """Eq. 1 to 4 of one picture."""
        o, family, captions = self.objective, self.material.family, self.material.captions
        with self.watch.section("pictures and latents"), torch.no_grad():
            pictures = self.material.pictures(row, 1 + NEGATIVES * (o.b > 0))
            mean, std = family.encode_pictures(self.material.vae, pictures[:1])
            z0 = (mean + std * torch.randn_like(std)).float()
        noise, t = torch.randn_like(z0), torch.randint(0, 1000, (1,), device=z0.device)
        z_t = self.process.add_noise(z0, noise, t)
        text = self.encode(captions[row])
        predicted = self.predict(z_t, t, text)
        loss = o.a * F.mse_loss(predicted, noise)
        if o.b == 0:  # the plain LoRA script
            return loss
        blip, null = self.encode(captions[row - 1]), self.encode("")
        with torch.no_grad():
            described, unconditional = self.predict(z_t, t, blip), self.predict(z_t, t, null)
        loss = loss + o.b * F.mse_loss(predicted, described)
        if not (perceptual and o.perceptual):
            return loss
        z, output = z_t, denoising.guided(predicted, unconditional, o.scale)
        times, count = self.process.grid(t, o.steps)
        times = [*times[0, : int(count)].split(1), torch.full_like(t, self.process.end)]
        for j, (now, following) in enumerate(itertools.pairwise(times)):
            if j > 0:
                with torch.no_grad():
                    output = denoising.guided(self.predict(z, now, text), self.predict(z, now, null), o.scale)
            z = self.process.step(z, output, now, following, torch.randn_like(z))
        with self.watch.section("decode"):
            x_hat = family.decode_latents(self.material.vae, z)
        return loss + self.looks(x_hat, pictures)

    def looks(self, x_hat: Tensor, pictures: Tensor) -> Tensor:
        """Eq. 3 and 4: the features of x⁺ anew for each negative."""
        o, box = self.objective, torch.tensor([[[0.0, 0.0, 1.0, 1.0]]], device=x_hat.device)
        total, extract = torch.zeros((), device=x_hat.device), self.material.extract

        def distance(other: Tensor) -> Tensor:
            with self.watch.section("features"), torch.no_grad():
                target = view_features(extract, other, box)
            return view_distance(seen, target)

        with self.watch.section("features"):
            seen = view_features(extract, x_hat, box)
        positive = pictures[:1]
        if o.p > 0:
            total = total + o.p * distance(positive).mean()
        if o.c > 0:
            present = torch.ones(1, 1, dtype=torch.bool, device=x_hat.device)
            for negative in pictures[1:].split(1):
                term = losses.contrastive_loss(
                    distance(positive), distance(negative)[:, None], present, lam=o.lam, margin=o.margin,
                    hinge=o.hinge,
                )  # fmt: skip
                total = total + o.c * term.mean() / NEGATIVES
        return total
