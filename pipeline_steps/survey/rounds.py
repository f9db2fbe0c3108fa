"""The rounds of a survey: what stood where on its pages, kept for when they are made anew.

Pages follow from pictures, and change with them: a withdrawn photograph, a setting, a training. People's
answers stay, and say nothing without the key to the pages that these people saw.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline_steps.artifacts import PAGES, ROUND, Row, any_note
from pipeline_steps.survey.answers import Page, Pages


def keep_round(folder: Path, culture: str, rows: Sequence[Row]) -> None:
    """Write a round's key, without its pictures, beside those of the rounds before.

    Args:
        folder: of the culture's rounds; the file is called after the pages.
        culture: its name.
        rows: of the pages, in order.
    """
    names = sorted({row["page"] for row in rows})
    name = hashlib.sha256("\n".join(names).encode()).hexdigest()[:8]
    kept = ({column: row[column] for column in ROUND.schema.names} for row in rows)
    # Without the pictures' fingerprint: nothing of them is in it, so that no withdrawal has to delete it.
    ROUND.write(folder / f"{name}.parquet", kept, extra={"culture": culture})


def pages_in(paths: Iterable[Path]) -> Pages:
    """Return the pages of several tables, of present pages or of rounds."""
    known: Pages = {}
    for path in paths:
        table = ROUND if any_note(path).get("artifact") == ROUND.name else PAGES
        culture = str(table.note(path)["culture"])
        for row in table.rows(path, ["picture", "variant", "prompt", "seed", "check"]):
            page = known.setdefault(row["page"], Page(culture, row["prompt"], row["seed"], row["check"], {}))
            page.pictures[row["picture"]] = row["variant"]
    return known


def earlier_rounds(paths: Iterable[Path]) -> dict[str, str]:
    """Map each culture of which an earlier round is among the tables to the round's name."""
    return {
        str(ROUND.note(path)["culture"]): path.stem
        for path in paths
        if any_note(path).get("artifact") == ROUND.name
    }


def asked_in(survey: Path) -> dict[str, tuple[str, str]]:
    """Map each page of each kept round, of any culture there ever was, to its culture and round."""
    return {
        row["page"]: (str(ROUND.note(path)["culture"]), path.stem)
        for path in sorted(survey.glob("*/rounds/*.parquet"))
        for row in ROUND.rows(path, [])
    }
