"""What the server shows: pages and pictures of every culture, without a variant's name."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline_steps.artifacts import PAGES
from pipeline_steps.drawing.pictures import Encoded
from pipeline_steps.survey.shown import encode, page_contents, read_forms
from pipeline_steps.survey.wording import Wording


@dataclass(frozen=True)
class Culture:
    """A culture's survey as the server holds it."""

    pages: dict[str, dict[str, Any]]
    forms: list[list[str]]

    def form(self, number: int) -> list[str]:
        """Return a participant's pages; the forms take turns."""
        return self.forms[number % len(self.forms)]


@dataclass(frozen=True)
class Survey:
    """Everything that is shown.

    Attributes:
        cultures: by name.
        pictures: bytes and media type by name.
        wording: the sentences.
        template: the page's HTML.
        min_years: least years lived in a culture.
        codes: admitted participants; none: open enrolment.
    """

    cultures: dict[str, Culture]
    pictures: dict[str, Encoded]
    wording: Wording
    template: Path
    min_years: float
    codes: frozenset[str] | None


def load_survey(
    pages: list[Path],
    forms: list[Path],
    wording: Wording,
    template: Path,
    min_years: float,
    jpeg_quality: int | None,
    codes: frozenset[str] | None,
) -> Survey:
    """Read pages and forms of all cultures; no variant's name gets further than here."""
    cultures, pictures = {}, {}
    for page_table, form_table in zip(pages, forms, strict=True):
        culture = str(PAGES.note(page_table)["culture"])
        cultures[culture] = Culture(page_contents(page_table), read_forms(form_table))
        for row in PAGES.rows(page_table, ["picture", "image"]):
            pictures[row["picture"]] = encode(row["image"], jpeg_quality)
    return Survey(cultures, pictures, wording, template, min_years, codes)
