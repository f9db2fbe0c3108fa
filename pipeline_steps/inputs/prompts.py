"""Prompts as people hand them in: one a line, or a table with countries, categories and eras."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from pipeline_steps.errors import UserError
from pipeline_steps.inputs.tables import Row, readable, table_columns, table_rows
from pipeline_steps.inputs.text import clean_text, is_visible, read_prompts
from pipeline_steps.inputs.values import RejectedError, as_text

LONGEST = 2000
"""Letters of a prompt."""
OWN = {name: name for name in ("prompt", "category", "era")}
"""What the columns of a table of test prompts are called."""


class Prompt(NamedTuple):
    """A prompt, and what its table says of it.

    Attributes:
        text: without a suffix.
        category: e.g. "clothing"; None where it is not said.
        era: e.g. "traditional"; None where it is not said.
    """

    text: str
    category: str | None = None
    era: str | None = None


def prompts_of(
    path: Path,
    columns: Mapping[str, str] = OWN,
    country: Collection[str] = (),
    most: int | None = None,
) -> list[Prompt]:
    """Return a file's prompts; those of a table that stand there twice once.

    Args:
        path: .txt with one prompt a line, or a table.
        columns: what "prompt", "country", "category" and "era" are called in a table; one that is not named
            is not read.
        country: spellings of the country whose rows are wanted, where its column is named; case and
            underscores do not matter.
        most: prompts to keep at most, at even distances.

    Raises:
        UserError: unreadable, without the column, or without a prompt (of that country).
    """
    if not is_table(path):
        found = [Prompt(text) for text in read_prompts(path)]
    else:
        there = table_columns(path, columns.values())
        for what in ("prompt", "country"):
            if what in columns and columns[what] not in there:
                raise UserError(
                    f"{path}: no column '{columns[what]}' (there are: {', '.join(there)}); name the column "
                    f"of the {what} in the settings"
                    + (", or none where the prompts name no culture" if what == "country" else "")
                )
        found = _of_country(path, columns, country if "country" in columns else ())
    count = min(len(found), most or len(found))
    return [found[number * len(found) // count] for number in range(count)]


def is_table(path: Path) -> bool:
    """Tell a table from text with one prompt a line."""
    return path.suffix.lower() != ".txt"


def _of_country(path: Path, columns: Mapping[str, str], country: Collection[str]) -> list[Prompt]:
    wanted, there = set(map(_plain, country)), set[str]()
    found: dict[str, Prompt] = {}
    for number, read in table_rows(path, columns.values()):
        try:
            row = readable(read)
            text = clean_text(as_text(row.get(columns["prompt"]), "the prompt", LONGEST))
            own = _said(row, columns, "country")
        except RejectedError as error:
            raise UserError(f"{path}: row {number}: {error}; mend it, or delete the row") from error
        there.add(own or "")
        if not wanted or _plain(own or "") in wanted:
            found.setdefault(text, Prompt(text, _said(row, columns, "category"), _said(row, columns, "era")))
    if not found:
        names = ", ".join(sorted(filter(None, there))[:20])
        of = f" of '{min(country)}' (there are: {names})" if country else ""
        raise UserError(f"{path}: no prompts{of}")
    return list(found.values())


def _said(row: Row, columns: Mapping[str, str], what: str) -> str | None:
    value = row.get(columns.get(what))
    text = "" if value is None or value != value else clean_text(str(value)).replace("_", " ")
    return text if is_visible(text) else None


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").split())
