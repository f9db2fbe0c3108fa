"""Captions of training pictures as prompts, to see what was learnt by heart (paper §6)."""

from pathlib import Path

from pipeline_steps import artifacts
from pipeline_steps.artifacts import IMAGES
from pipeline_steps.cli import run_step
from pipeline_steps.errors import UserError
from pipeline_steps.seeds import generator


def train_prompts(images: Path, prompts: Path, culture: str, count: int, seed: int) -> None:
    """Draw different captions of the split "train".

    Args:
        images: the culture's pictures.
        prompts: text file to write, one caption a line.
        culture: its name.
        count: captions to draw (the paper: 10); all where there are fewer.
        seed: the run's seed.

    Raises:
        UserError: no training picture.
    """
    import torch

    artifacts.same_origin((IMAGES, images), culture=culture)
    rows = IMAGES.rows(images, ["caption", "split"])
    captions = {" ".join(row["caption"].split()) for row in rows if row["split"] == "train"}
    usable = sorted(caption for caption in captions if not caption.startswith("#"))
    if not usable:
        raise UserError(f"{images}: no picture of split 'train' to take captions from")
    chosen = torch.randperm(len(usable), generator=generator(seed, "train_prompts", culture))[:count]
    artifacts.write_text(prompts, "".join(usable[number] + "\n" for number in sorted(chosen.tolist())))


if __name__ == "__main__":
    run_step(train_prompts)
