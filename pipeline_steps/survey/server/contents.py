"""What the server shows: pages and pictures of every culture, without a variant's name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline_steps.artifacts import FORMS, PAGES, same_origin
from pipeline_steps.config import SurveyConfig
from pipeline_steps.drawing.pictures import Encoded
from pipeline_steps.errors import UserError
from pipeline_steps.survey.shown import TEMPLATE, encode, page_contents, read_forms
from pipeline_steps.survey.wording import Wording, read_translations, read_wordings


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
        wordings: the sentences in every language offered, the first one first.
        min_years: least years lived in a culture.
        codes: admitted participants; none: open enrolment.
        names: of the cultures, as people write them.
        kiosk: whether one device is handed from person to person.
        template: the page's HTML.
    """

    cultures: dict[str, Culture]
    pictures: dict[str, Encoded]
    wordings: Sequence[Wording]
    min_years: float
    codes: frozenset[str] | None = None
    names: Mapping[str, str] | None = None
    kiosk: bool = False
    template: Path = TEMPLATE

    def name(self, culture: str) -> str:
        """Return a culture's name as people write it."""
        return (self.names or {}).get(culture, culture)


def load_survey(
    pages: Sequence[Path], forms: Sequence[Path], config: SurveyConfig, **settings: Any
) -> Survey:
    """Read pages and forms of all cultures; no variant's name gets further than here.

    Args:
        pages: of each culture.
        forms: of each culture, in any order: the culture is named inside.
        config: wordings, translations, least years, quality of the pictures.
        settings: further attributes of :class:`Survey`.

    Raises:
        UserError: a culture comes twice, has pages without forms or forms without pages, or forms of others.
    """
    wordings = read_wordings(config.wordings)
    translations = read_translations(config.translations, wordings)
    dealt = _by_culture(FORMS, forms, "--forms")
    found = _by_culture(PAGES, pages, "--pages")
    for culture in sorted(found.keys() ^ dealt.keys()):
        missing = "--forms" if culture in found else "--pages"
        raise UserError(f"{missing}: nothing of '{culture}'; name its forms.parquet and its pages.parquet")
    cultures, pictures = {}, {}
    for culture, table in sorted(found.items()):
        same_origin((PAGES, table), (FORMS, dealt[culture]), culture=culture)
        cultures[culture] = Culture(page_contents(table, translations), read_forms(dealt[culture]))
        for row in PAGES.rows(table, ["picture", "image"]):
            pictures[row["picture"]] = encode(row["image"], config.jpeg_quality)
    return Survey(cultures, pictures, wordings, config.min_years, **settings)


def _by_culture(kind: Any, paths: Sequence[Path], flag: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        culture = str(kind.note(path)["culture"])
        if culture in found:
            raise UserError(f"{flag}: {found[culture]} and {path} are both of '{culture}'; name one")
        found[culture] = path
    return found
