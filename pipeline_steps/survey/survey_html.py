"""The survey as one HTML file that works without a network, from a USB stick or by e-mail."""

from pathlib import Path

from pipeline_steps import artifacts
from pipeline_steps.artifacts import FORMS, PAGES
from pipeline_steps.cli import run_step
from pipeline_steps.config import SurveyConfig
from pipeline_steps.survey.shown import TEMPLATE, encode, page_contents, read_forms, render
from pipeline_steps.survey.wording import read_translations, read_wordings
from pipeline_steps.web.wording import SCRIPT, STYLE


def survey_html(
    pages: Path,
    forms: Path,
    wordings: list[Path],
    survey: Path,
    culture: str,
    config: SurveyConfig,
    name: str = "",
    translations: Path | None = None,
    template: Path = TEMPLATE,
    style: Path = STYLE,
    script: Path = SCRIPT,
) -> None:
    """Write the survey page with everything inside; answers are saved as a JSON file.

    It holds no variant's name: which picture came from which model stays in the table of pages.

    Args:
        pages: what is shown.
        forms: who sees what.
        wordings: every sentence in each language that participants can choose.
        survey: HTML file to write.
        culture: its name.
        config: least years, quality of the pictures.
        name: of the culture, as people write it.
        translations: the prompts in other languages.
        template: the page's HTML and own script.
        style: its CSS.
        script: what its script shares with other pages'.

    Raises:
        UserError: a sentence is missing in the wording.
    """
    origin = artifacts.same_origin((PAGES, pages), (FORMS, forms), culture=culture)
    offered = read_wordings(wordings)
    contents = page_contents(pages, read_translations(translations, offered))
    for row in PAGES.rows(pages):
        shown = contents[row["page"]].setdefault("sources", [])
        shown.append(encode(row["image"], config.jpeg_quality).uri)
    data = {
        "cultures": {culture: {"name": name or culture, "forms": read_forms(forms), "pages": contents}},
        "minYears": config.min_years,
        "fingerprint": origin.fingerprint,
    }
    artifacts.write_text(
        survey, render(template, offered, {**data, "server": None}, style=style, script=script)
    )


if __name__ == "__main__":
    run_step(survey_html)
