"""Build the embedded family and its data: ``python -m pipeline_steps.mini.build``.

Each model has its own folder and is skipped when that folder's ``recipe.json`` agrees with the
recipe here, so an interrupted build goes on where it stopped. Fixed seeds throughout.
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, ModelMixin, UNet2DConditionModel
from transformers import (
    BlipImageProcessor,
    BlipProcessor,
    CLIPImageProcessor,
    CLIPTextModel,
    CLIPTokenizer,
    DPTImageProcessor,
    PreTrainedModel,
)

from pipeline_steps.method.pictures import CLIP_MEAN, CLIP_STD
from pipeline_steps.mini import diffusion, encoders, flow, readers
from pipeline_steps.mini.corpora import (
    Corpus,
    base_corpus,
    unbiased_corpus,
    write_mini_ccub,
    write_mini_coco,
    write_notice,
)
from pipeline_steps.mini.world import ATTRIBUTES, CULTURES, SIZE

STEPS = {
    "clip": 900,
    "vae": 2000,
    "base": 7000,
    "controlnet": 1800,
    "flow": 10_000,
    "captioner": 1200,
    "depth": 1500,
    "dino": 900,
    "dreamsim": 2000,
    "inception": 1500,
    "oracle": 2500,
}
"""Updates per model, in the order of building."""
CORPUS = 16_000
"""Pictures in the base corpus."""


@dataclass
class Build:
    """The family under construction in ``root``."""

    root: Path
    scale: float = 1.0
    corpus_size: int = field(default=CORPUS)

    @cached_property
    def corpus(self) -> Corpus:
        """The biased base corpus."""
        return base_corpus(self.corpus_size)

    @cached_property
    def unbiased(self) -> Corpus:
        """Uniform attributes, for the models that only look."""
        return unbiased_corpus(self.corpus_size)

    def clip(self, folder: Path, steps: int) -> None:
        """CLIP, whose text encoder is the diffusion model's."""
        tokenizer = encoders.train_tokenizer(self.corpus.captions)
        _save(encoders.train_clip(self.corpus.pictures, self.corpus.captions, tokenizer, steps), folder)
        tokenizer.save_pretrained(folder)
        _image_processor(CLIPImageProcessor).save_pretrained(folder)

    def vae(self, folder: Path, steps: int) -> None:
        """The autoencoder."""
        _save(diffusion.train_vae(self.corpus, steps), folder)

    def base(self, folder: Path, steps: int) -> None:
        """The diffusion model in Stable Diffusion's layout."""
        vae, tokenizer, text_encoder = self._trained()
        unet = diffusion.train_unet(self.corpus, vae, tokenizer, text_encoder, steps)
        diffusion.save_base(folder, vae, unet, tokenizer, text_encoder)

    def controlnet(self, folder: Path, steps: int) -> None:
        """Depth control for the base model."""
        unet = UNet2DConditionModel.from_pretrained(self.root / "base" / "unet", dtype=torch.float32)
        _save(diffusion.train_controlnet(self.corpus, unet, *self._trained(), steps), folder)

    def flow(self, folder: Path, steps: int) -> None:
        """The rectified flow in Z-Image's layout."""
        tokenizer = flow.train_flow_tokenizer(self.corpus.captions)
        vae = flow.shifted(self._trained()[0], self.corpus)
        transformer, text_encoder = flow.train_transformer(self.corpus, vae, tokenizer, steps)
        flow.save_flow(folder, vae, transformer, tokenizer, text_encoder)

    def captioner(self, folder: Path, steps: int) -> None:
        """BLIP."""
        tokenizer = readers.train_blip_tokenizer(self.corpus.generic_captions, folder)
        _save(readers.train_blip(self.corpus, tokenizer, steps), folder)
        BlipProcessor(_image_processor(BlipImageProcessor), tokenizer).save_pretrained(folder)

    def depth(self, folder: Path, steps: int) -> None:
        """MiDaS' DPT-hybrid."""
        _save(readers.train_depth(self.corpus, steps), folder)
        processor = DPTImageProcessor(
            size={"height": SIZE, "width": SIZE},
            image_mean=CLIP_MEAN,
            image_std=CLIP_STD,
            ensure_multiple_of=1,
        )
        processor.save_pretrained(folder)

    def dino(self, folder: Path, steps: int) -> None:
        """DINOv2."""
        _save(encoders.train_dino(self.unbiased, steps), folder)
        _image_processor(CLIPImageProcessor).save_pretrained(folder)

    def dreamsim(self, folder: Path, steps: int) -> None:
        """DreamSim, from a CLIP of its own; half of the updates each."""
        clip = encoders.train_seeing_clip(self.unbiased, steps // 2)
        encoders.save_dreamsim(folder, clip, self.unbiased, steps // 2)

    def inception(self, folder: Path, steps: int) -> None:
        """The feature network for KID: as Inception's, its classes are what pictures show."""
        encoders.train_attribute_net("inception", self.unbiased, None, tuple(ATTRIBUTES), 16, steps).save(
            folder
        )

    def oracle(self, folder: Path, steps: int) -> None:
        """The attribute reader."""
        vae = self._trained()[0]
        decoded = [
            diffusion.decode(vae, diffusion.encode(vae, self.unbiased.pictures[start : start + 256]))
            for start in range(0, len(self.unbiased.pictures), 256)
        ]
        net = encoders.train_attribute_net(
            "oracle", self.unbiased, np.concatenate(decoded), tuple(ATTRIBUTES), 24, steps
        )
        net.save(folder)

    def _trained(self) -> tuple[AutoencoderKL, CLIPTokenizer, CLIPTextModel]:
        folder = self.root / "vae" if (self.root / "vae").exists() else self.root / "base" / "vae"
        vae = AutoencoderKL.from_pretrained(folder, dtype=torch.float32).eval()
        tokenizer = CLIPTokenizer.from_pretrained(self.root / "clip")
        text_encoder = CLIPTextModel.from_pretrained(self.root / "clip", dtype=torch.float32).eval()
        return vae.requires_grad_(False), tokenizer, text_encoder.requires_grad_(False)

    def recipe(self, name: str) -> str:
        """Return what a model is made with, as it stands in its folder."""
        return json.dumps({"steps": self.steps(name), "pictures": self.corpus_size}) + "\n"

    def steps(self, name: str) -> int:
        """Return a model's updates."""
        return max(2, round(STEPS[name] * self.scale))

    def made(self, name: str) -> bool:
        """Whether a model is there with the same recipe; the VAE's place is then inside "base"."""
        path = self.root / name / "recipe.json"
        found = path.exists() and path.read_text() == self.recipe(name)
        return found or (name == "vae" and self.made("base"))

    def model(self, name: str) -> None:
        """Train one model into its folder unless it is made."""
        if self.made(name):
            return
        folder = self.root / name
        unfinished = self.root / f".{name}"
        shutil.rmtree(unfinished, ignore_errors=True)
        train: Callable[[Path, int], None] = getattr(self, name)
        train(unfinished, self.steps(name))
        (unfinished / "recipe.json").write_text(self.recipe(name))
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)


def _save(model: PreTrainedModel | ModelMixin, folder: Path) -> None:
    """Save in the hub's layout, fp16."""
    model.half().save_pretrained(folder)


def _image_processor(kind: type) -> CLIPImageProcessor | BlipImageProcessor:
    size = {"height": SIZE, "width": SIZE} if kind is BlipImageProcessor else {"shortest_edge": SIZE}
    return kind(
        size=size, crop_size={"height": SIZE, "width": SIZE}, image_mean=CLIP_MEAN, image_std=CLIP_STD
    )


def build(root: Path = Path("resources/mini"), scale: float = 1.0, corpus_size: int = CORPUS) -> None:
    """Build all data sets and models.

    Args:
        root: the folder to fill.
        scale: factor on every model's updates; a small one gives an untrained family for tests.
        corpus_size: pictures in the training corpus.
    """
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.use_deterministic_algorithms(True)
    for culture in CULTURES:
        write_mini_ccub(root / "ccub" / culture, culture)
        write_mini_ccub(root / "named" / culture, culture, seed=110, named=True)
    write_mini_coco(root / "coco")
    for folder in ("ccub", "named", "coco"):
        write_notice(root / folder)
    family = Build(root, scale, corpus_size)
    for name in STEPS:
        family.model(name)
    shutil.rmtree(root / "vae", ignore_errors=True)  # "base" holds it


if __name__ == "__main__":
    import cyclopts

    cyclopts.run(build)
