"""A judge that is no person: it answers the survey's own pages, to be checked against people."""

import itertools
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline_steps.artifacts import ANSWERS, PAGES, Origin, Row, decode_picture, progress
from pipeline_steps.cli import run_step
from pipeline_steps.config import ModelRef, SurveyConfig
from pipeline_steps.errors import UserError
from pipeline_steps.seeds import derive_seed
from pipeline_steps.survey.shown import ITEMS
from pipeline_steps.survey.wording import Wording, read_wording

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

LOG = logging.getLogger(__name__)

LETTERS = "ABCDEFGH"
"""What the pictures are called, in the order shown."""
QUESTION = (
    "The pictures were drawn for this description: “{prompt}”. Answer for people of the culture that it "
    "names. {question} Put all pictures in order, from “{best}” to “{worst}”. "
    "Reply with the letters {letters} alone, each once, separated by spaces."
)


class Shown(NamedTuple):
    """A page as it is shown once.

    Attributes:
        name: of the page.
        prompt: what its pictures were drawn for.
        turn: how many places they are moved on.
        variants: which variant stands where.
        pictures: in the same order.
    """

    name: str
    prompt: str
    turn: int
    variants: list[str]
    pictures: "list[Image.Image]"


Judge = Callable[[Shown], list[list[int] | None]]
"""A page to the rank of each picture by each item, in the order shown; None where the reply is malformed."""


def judge(
    pages: Path,
    wording: Path,
    answers: Path,
    culture: str,
    seed: int,
    config: SurveyConfig,
    model: ModelRef | None = None,
    oracle: ModelRef | None = None,
) -> None:
    """Let a model rank the pictures of every page by the four items.

    It sees the pages of the survey, in their order, then with the pictures moved on by one place, and so on:
    what it gives to a place rather than to a picture shows. Every turn is a participant of its own, whose
    name says which model of which commit it is. Checks of attention are not asked. A reply that is no order
    of the letters is counted in the table's note and left out.

    Args:
        pages: the culture's pages.
        wording: the questions.
        answers: table to write; never to be put among people's.
        culture: its name.
        seed: of the oracle's errors.
        config: turns, and how often the oracle errs.
        model: the vision-language model; None: the oracle judges.
        oracle: reads attributes of the drawn world.

    Raises:
        UserError: no model and no oracle, or an oracle that does not know the culture.
    """
    from pipeline_steps.models import encoders, judges

    settings = config.judge
    if model is not None:
        name = judges.identity(model, "judge")
        decide = _by_model(
            judges.vision_language(model, LETTERS, settings.max_new_tokens), read_wording(wording)
        )
    elif oracle is not None:
        name = judges.identity(oracle, "oracle")
        name += f", {settings.errors:.0%} at random" if settings.errors else ""
        decide = _by_oracle(encoders.attribute_reader(oracle), culture, seed, settings.errors)
    else:
        raise UserError("models.judge: name a vision-language model, such as Qwen/Qwen3-VL-4B-Instruct")
    rows: list[Row] = []
    asked = malformed = 0
    total = len({row["page"] for row in PAGES.rows(pages, ["check"]) if not row["check"]})
    for page in progress(_pages(pages), total, "judge"):
        count = len(page)
        for turn in range(settings.turns or count):
            shown = _moved(page, turn % count, turn)
            for item, ranks in zip(ITEMS, decide(shown), strict=True):
                asked += 1
                malformed += ranks is None
                if ranks is not None:
                    rows.append(
                        {
                            "culture": culture,
                            "participant": f"{name}, turn {turn + 1}",
                            "page": shown.name,
                            "item": item,
                            "prompt": shown.prompt,
                            "variants": shown.variants,
                            "ranks": ranks,
                            "file": "",
                        }
                    )
    if malformed:
        LOG.warning("%d of %d replies are no order of the letters and left out", malformed, asked)
    rows.sort(key=lambda row: tuple(row[column] for column in ANSWERS.key))
    note = {"simulated": False, "judge": name, "asked": asked, "malformed": malformed}
    ANSWERS.write(answers, rows, Origin(culture, "judge"), note)


def _pages(path: Path) -> Iterator[list[Row]]:
    """Yield each page's rows in order, without the checks."""
    for _, rows in itertools.groupby(PAGES.rows(path), lambda row: row["page"]):
        page: list[Row] = list(rows)
        if not page[0]["check"]:
            yield page


def _moved(page: Sequence[Row], places: int, turn: int) -> Shown:
    """Return a page with its pictures moved on by some places."""
    order = [*page[places:], *page[:places]]
    pictures = [decode_picture(row["image"]).convert("RGB") for row in order]
    return Shown(page[0]["page"], page[0]["prompt"], turn, [row["variant"] for row in order], pictures)


def _by_model(ask: Callable[..., list[str]], wording: Wording) -> Judge:
    def decide(shown: Shown) -> list[list[int] | None]:
        letters = LETTERS[: len(shown.pictures)]
        questions = [
            QUESTION.format(
                prompt=shown.prompt, letters=", ".join(letters), **wording.items[item].model_dump()
            )
            for item in ITEMS
        ]
        return [ranks_of(reply, letters) for reply in ask(shown.pictures, questions)]

    return decide


def ranks_of(reply: str, letters: str) -> list[int] | None:
    """Return the rank of each letter in a reply that orders them, the best first; None where it does not."""
    order = re.findall(r"\w+", reply)
    if sorted(order) != list(letters):
        return None
    return [order.index(letter) + 1 for letter in letters]


def _by_oracle(
    read: "Callable[[Tensor], dict[str, Tensor]]", culture: str, seed: int, errors: float
) -> Judge:
    """Rank by how many attributes are as asked for, and among equals by how surely they are.

    By description: those that the prompt names; by culture: the culture's own; by stereotypes and
    offensiveness, of which the drawn world knows none other: those that are not the stereotype's.
    """
    import torch

    from pipeline_steps.mini.world import ATTRIBUTES, CULTURAL, GENERIC, RIGHT, STEREOTYPE

    if culture not in RIGHT:
        raise UserError(f"models.judge: the oracle does not know '{culture}'; name a vision-language model")

    def share(seen: "dict[str, Tensor]", wanted: Sequence[tuple[str, str]]) -> np.ndarray:
        """How many attributes show these values, and, far less, their mean log probability: shape (n,)."""
        hits, sure = np.zeros(len(seen["scene"])), np.zeros(len(seen["scene"]))
        for name, value in wanted:
            column = ATTRIBUTES[name].index(value)
            hits += np.asarray(seen[name]).argmax(1) == column
            sure += np.asarray(seen[name])[:, column]
        worth: np.ndarray = hits + np.tanh(sure / 1000)
        return worth

    def decide(shown: Shown) -> list[list[int] | None]:
        rgb = torch.from_numpy(np.stack([np.asarray(picture) for picture in shown.pictures]))
        seen = read(rgb.permute(0, 3, 1, 2))
        words = set(shown.prompt.lower().replace(",", " ").split())
        named = [(name, value) for name in GENERIC for value in ATTRIBUTES[name] if value in words]
        least = -share(seen, [(name, STEREOTYPE[name]) for name in CULTURAL])
        right = share(seen, [(name, RIGHT[culture][name]) for name in CULTURAL])
        best = {"description": share(seen, named), "representation": right}
        found: list[list[int] | None] = []
        for item in ITEMS:
            rng = np.random.default_rng(derive_seed(seed, "judge", culture, shown.name, item, shown.turn))
            worth = best.get(item, least)
            errs, by_chance = rng.random() < errors, rng.random(len(worth))
            order = np.lexsort((by_chance, -worth)) if not errs else np.argsort(by_chance)
            found.append((np.argsort(order) + 1).tolist())
        return found

    return decide


if __name__ == "__main__":
    run_step(judge, lever="show it smaller pictures, or name a smaller model in models.judge")
