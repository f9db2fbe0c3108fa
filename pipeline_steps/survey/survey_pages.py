"""Survey pages: one prompt, the variants' pictures of one seed, in an order participants cannot guess."""

import hashlib
import json
import logging
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline_steps.artifacts import FORMS, PAGES, SAMPLES, Row, decode_picture, is_blank, same_origin
from pipeline_steps.cli import run_step
from pipeline_steps.config import SurveyConfig
from pipeline_steps.errors import UserError
from pipeline_steps.seeds import derive_seed
from pipeline_steps.survey.rounds import keep_round

LOG = logging.getLogger(__name__)

Key = tuple[str, int]
"""prompt_id and index of a sample."""


class Page(NamedTuple):
    """A page before its pictures are read: a sample and its variants in the order shown."""

    sample: Key
    order: tuple[str, ...]
    check: bool = False


def survey_pages(
    samples: list[Path],
    pages: Path,
    forms: Path,
    culture: str,
    seed: int,
    config: SurveyConfig,
    rounds: Path | None = None,
) -> None:
    """Draw pages from the variants' samples and say who sees which.

    Prompts take turns. Over every block of as many pages as there are variants, each variant stands
    once at each position. Every page is in equally many forms. Samples of which a variant's picture
    is one flat colour (a safety checker's) are never shown.

    Args:
        samples: one table of pictures per variant, in the order of ``config.variants``.
        pages: table to write; participants never see it.
        forms: table to write: the pages of each participant, in order.
        culture: its name.
        seed: the run's seed.
        config: how many pages, how many for each participant, how many checks.
        rounds: folder in which the key to these pages stays when others take their place.

    Raises:
        UserError: the variants' samples differ in prompts or seeds, or none can be shown.
    """
    if len(samples) != len(config.variants):
        raise UserError(
            f"{len(samples)} sample tables for {len(config.variants)} variants; give one for each"
        )
    tables: dict[str, Path] = dict(zip(config.variants, samples, strict=True))
    origin = same_origin(*((SAMPLES, path) for path in samples), culture=culture)
    usable = _usable(tables)
    rng = random.Random(derive_seed(seed, "survey", culture))
    drawn = _draw(usable, config, rng)
    if len(drawn) < config.pages:
        LOG.warning("%d pages: the samples hold no more (survey.pages is %d)", len(drawn), config.pages)
    each = min(config.pages_per_participant, len(drawn))
    # A check shows a page's pictures in the opposite order, and asks for a ranking given in words.
    checks = [Page(page.sample, page.order[::-1], True) for page in drawn[: config.attention_checks]]

    found = _rows([*drawn, *checks], tables, culture)
    names = [found[page][0]["page"] for page in [*drawn, *checks]]
    rows = sorted((row for page in found.values() for row in page), key=_page_key)
    if rounds:
        keep_round(rounds, culture, rows)
    PAGES.write(pages, rows, origin)
    dealt = _deal(names[: len(drawn)], names[len(drawn) :], each, rng)
    FORMS.write(
        forms,
        (
            {"form": form, "place": place, "page": page}
            for form, pages_of_form in enumerate(dealt)
            for place, page in enumerate(pages_of_form)
        ),
        origin,
    )


def _page_key(row: Row) -> tuple[str, int]:
    return row["page"], row["position"]


def _usable(tables: dict[str, Path]) -> dict[str, list[Key]]:
    """Return the samples that every variant can show, by prompt, after checking that they belong together."""
    first: dict[Key, tuple[str, int]] = {}
    flat: set[Key] = set()
    for number, (variant, path) in enumerate(tables.items()):
        seen = {}
        for row in SAMPLES.rows(path):
            key = (row["prompt_id"], row["index"])
            seen[key] = (row["prompt"], row["seed"])
            if is_blank(decode_picture(row["image"])):
                flat.add(key)
        first = first if number else seen
        for key in sorted(
            first.keys() ^ seen.keys() | {k for k in first.keys() & seen.keys() if first[k] != seen[k]}
        ):
            raise UserError(
                f"{path}: sample {key[0]}/{key[1]} of '{variant}' has another prompt or seed than in "
                f"{next(iter(tables.values()))}; sample all variants anew with the same settings"
            )
    if flat:
        LOG.warning("%d samples are not shown: a variant's picture is one flat colour", len(flat))
    usable: dict[str, list[Key]] = {}
    for key in sorted(first.keys() - flat):
        usable.setdefault(key[0], []).append(key)
    if not usable:
        raise UserError(f"{next(iter(tables.values()))}: no sample that all variants can show")
    return usable


def _draw(usable: dict[str, list[Key]], config: SurveyConfig, rng: random.Random) -> list[Page]:
    """Draw samples, prompts taking turns, and the order in which each page shows its variants."""
    columns = [rng.sample(keys, len(keys)) for keys in usable.values()]
    keys: list[Key] = []
    for turn in range(max(map(len, columns))):
        keys += [column[turn] for column in rng.sample(columns, len(columns)) if turn < len(column)]
    pages, size = [], len(config.variants)
    for number, key in enumerate(keys[: config.pages]):
        if number % size == 0:
            block = rng.sample(config.variants, size)
            turns = rng.sample(range(size), size)
        turn = turns[number % size]
        pages.append(Page(key, (*block[turn:], *block[:turn])))
    return pages


def _rows(pages: Sequence[Page], tables: dict[str, Path], culture: str) -> dict[Page, list[Row]]:
    """Read the drawn pictures and name the pages after what they show."""
    wanted = {page.sample for page in pages}
    pictures = {
        (variant, (row["prompt_id"], row["index"])): row
        for variant, path in tables.items()
        for row in SAMPLES.rows(path)
        if (row["prompt_id"], row["index"]) in wanted
    }
    found: dict[Page, list[Row]] = {}
    for page in pages:
        shown = [pictures[variant, page.sample] for variant in page.order]
        content = [page.check, shown[0]["prompt"], *(_digest(row["image"]["bytes"]) for row in shown)]
        name = f"{culture}-{_digest(json.dumps(content).encode())[:8]}"
        found[page] = [
            {
                **row,
                "page": name,
                "position": position,
                "picture": f"{name}-{position}",
                "variant": variant,
                "check": page.check,
                "image": {"bytes": row["image"]["bytes"], "path": f"{name}-{position}.png"},
            }
            for position, (variant, row) in enumerate(zip(page.order, shown, strict=True), 1)
        ]
    return found


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _deal(pages: list[str], checks: list[str], each: int, rng: random.Random) -> list[list[str]]:
    """Deal the pages: a window of ``each`` moves on round the list until every page was dealt equally often.

    Within a form the order is random, and checks stand at even distances.
    """
    forms = []
    for form in range(len(pages) // math.gcd(len(pages), each)):
        window = [pages[(form * each + place) % len(pages)] for place in range(each)]
        rng.shuffle(window)
        for number, check in enumerate(checks, 1):
            window.insert(round(number * each / (len(checks) + 1)) + number - 1, check)
        forms.append(window)
    return forms


if __name__ == "__main__":
    run_step(survey_pages)
