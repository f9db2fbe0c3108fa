"""What a culture's LoRA does to prompts that name another culture, or none."""

import csv
import io
from pathlib import Path

from pipeline_steps.artifacts import FEATURES, SAMPLES, same_origin, write_text
from pipeline_steps.cli import run_step
from pipeline_steps.errors import UserError
from pipeline_steps.evaluation.measures import Pictures, drawn_world, pictures, same_networks
from pipeline_steps.method.estimate import Estimate, clustered_mean
from pipeline_steps.method.similarity import cosine

CHANGE = "change"
"""1 − the cosine of DreamSim's embeddings of two pictures of the same prompt and noise, in [0, 2]."""
SHOWN = ("own attributes shown before", "own attributes shown after")
"""Share of the LoRA's culture's attributes in the un-tuned and the tuned model's pictures; drawn world."""


def bleed(
    samples: list[Path], features: list[Path], plain: list[Path], prompts: list[str], table: Path
) -> None:
    """Measure each LoRA on each culture's prompts against the un-tuned model, same prompts and noise.

    A LoRA should change the pictures of its own culture's prompts and of no others. Intervals are over
    prompts. Pictures that are blank in either model are left out.

    Args:
        samples: the tuned models' pictures; only prompts are read.
        features: theirs, in the same order.
        plain: of the un-tuned model's pictures of the same prompts and seeds, in the same order.
        prompts: whose prompts they are, in the same order: a culture's name, or what prompts without one
            are called.
        table: CSV file to write: lora, measure, and for each of ``prompts`` the value and its ends.

    Raises:
        UserError: files that do not belong together.
    """
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for drawn, tuned, untuned, whose in zip(samples, features, plain, prompts, strict=True):
        culture = same_origin((SAMPLES, drawn), (FEATURES, tuned), (FEATURES, untuned)).culture
        same_networks(tuned, untuned)
        rows = SAMPLES.read(drawn, ["prompt_id", "prompt"])
        texts, clusters = [row["prompt"] for row in rows], [row["prompt_id"] for row in rows]
        after, before = (pictures(path, texts, clusters) for path in (tuned, untuned))
        there = ~(after.seen["blank"] | before.seen["blank"]).numpy()
        if not there.any():
            raise UserError(f"{drawn}: every picture is blank in one of the two models")
        after, before = after.where(there), before.where(there)
        change = 1 - cosine(after.seen["dreamsim"], before.seen["dreamsim"])
        found = {CHANGE: clustered_mean(change.numpy(), after.clusters, (0, 2))}
        for name, shown in zip(SHOWN, (before, after), strict=True):
            if share := _right(shown, culture):
                found[name] = share
        for measure, estimate in found.items():
            lines.setdefault((culture, measure), {"lora": culture, "measure": measure}).update(
                _cells(whose, estimate)
            )
    text = io.StringIO()
    columns = ["lora", "measure", *(cell for whose in dict.fromkeys(prompts) for cell in _names(whose))]
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines.values())
    write_text(table, text.getvalue())


def _right(shown: Pictures, culture: str) -> Estimate | None:
    """The share of a drawn culture's attributes; None where there are none to be right."""
    scores = {score.metric: score.estimate for score in drawn_world(shown, culture)}
    return scores.get("attribute_accuracy")


def _names(whose: str) -> tuple[str, str, str]:
    return whose, f"{whose}_low", f"{whose}_high"


def _cells(whose: str, estimate: Estimate) -> dict[str, str]:
    ends = (estimate.value, estimate.low, estimate.high)
    cells = ["" if end is None else f"{end:.4f}" for end in ends]
    return dict(zip(_names(whose), cells, strict=True))


if __name__ == "__main__":
    run_step(bleed)
