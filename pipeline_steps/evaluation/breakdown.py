"""Where culture is lost: the scores of the pictures of each category, era and prompt."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pipeline_steps.artifacts import BREAKDOWN, FEATURES, IMAGES, SAMPLES, Row, rebuild, same_origin
from pipeline_steps.cli import run_step
from pipeline_steps.config import PromptSet
from pipeline_steps.errors import UserError
from pipeline_steps.evaluation.measures import (
    Pictures,
    against_train,
    alone,
    distances,
    drawn_world,
    pictures,
    real_pictures,
    same_networks,
)
from pipeline_steps.inputs.prompts import OWN, Prompt, prompts_of

NOT_STATED = "not stated"


def breakdown(
    samples: list[Path],
    features: list[Path],
    images: Path,
    reference: Path,
    prompts: Path,
    breakdown: Path,
    prompt_set: PromptSet | None = None,
    country: Sequence[str] = (),
) -> None:
    """Score the pictures of each category, era and prompt by themselves, every variant's.

    As in ``score``, but for the scores that need many pictures or depend on how many there are:
    ``kid_between``, ``kid_subsets``, ``density``, ``coverage`` and ``vendi``. Groups of a single picture are
    left out, blank pictures as well.

    Args:
        samples: each variant's generated pictures, all of the same prompts; only their prompts are read.
        features: theirs, in the same order.
        images: the real pictures; only captions and splits are read.
        reference: their features.
        prompts: what was drawn: a text file, or a table with categories and eras.
        breakdown: the table to write.
        prompt_set: as of ``sample``.
        country: as of ``sample``.

    Raises:
        UserError: files that do not belong together, or prompts that changed after the pictures were drawn.
    """
    origin = same_origin(*((SAMPLES, path) for path in samples), *((FEATURES, path) for path in features))
    same_origin((IMAGES, images), (FEATURES, reference))
    networks = same_networks(*features, reference)
    columns, most = (prompt_set.named, prompt_set.most) if prompt_set else (OWN, None)
    known = prompts_of(prompts, columns, country, most)
    sides = real_pictures(images, reference)
    found: list[Row] = []
    for drawn, seen in zip(samples, features, strict=True):
        shown = SAMPLES.read(drawn, ["prompt_id", "prompt"])
        said = [_prompt(row, known, drawn) for row in shown]
        generated = pictures(seen, [row["prompt"] for row in shown], [row["prompt_id"] for row in shown])
        blank = generated.seen["blank"].numpy()
        for by, groups in _groups(shown, said).items():
            for group in sorted(set(groups)):
                part = generated.where((np.array(groups) == group) & ~blank)
                with _unsaid():
                    found += (
                        {"by": by, "group": group, "variant": drawn.stem, **row}
                        for row in _scores(part, *sides, origin.culture, networks)
                    )
    found.sort(key=lambda row: tuple(row[name] for name in BREAKDOWN.key))
    BREAKDOWN.write(breakdown, found, origin)


@contextmanager
def _unsaid() -> Iterator[None]:
    """Leave out the warnings of scores left out: of all pictures together ``score`` says them."""
    log = logging.getLogger("pipeline_steps.evaluation.measures")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def _prompt(row: Row, known: Sequence[Prompt], samples: Path) -> Prompt:
    """Return what is said of a picture's prompt."""
    number = int(row["prompt_id"])
    if number >= len(known) or not row["prompt"].startswith(known[number].text):
        raise UserError(f"{samples}: '{row['prompt']}' is none of the prompts any more; {rebuild(samples)}")
    return known[number]


def _groups(rows: Sequence[Row], said: Sequence[Prompt]) -> dict[str, list[str]]:
    """Return each picture's group, by what they are grouped; nothing is told apart by what nobody states."""
    groups = {
        "category": [prompt.category or NOT_STATED for prompt in said],
        "era": [prompt.era or NOT_STATED for prompt in said],
        "prompt": [row["prompt"] for row in rows],
    }
    return {by: names for by, names in groups.items() if set(names) != {NOT_STATED}}


def _scores(
    generated: Pictures,
    test: Pictures,
    train: Pictures,
    culture: str,
    networks: Mapping[str, Mapping[str, str]],
) -> Iterator[Row]:
    if len(generated.texts) < 2:
        return
    found = [*against_train(generated, train), *alone(generated, networks), *drawn_world(generated, culture)]
    if len(test.texts) > 1:
        found += distances(generated, test)
    for score in found:
        yield {
            "metric": score.metric,
            **vars(score.estimate),
            "generated": score.generated,
            "prompts": len(set(generated.clusters)),
        }


if __name__ == "__main__":
    run_step(breakdown)
