"""Codes for participants: a file for the server and the import, and sheets to print and cut."""

from pathlib import Path
from urllib.parse import quote

from pipeline_steps import artifacts
from pipeline_steps.cli import LOG, run_step
from pipeline_steps.drawing import page
from pipeline_steps.errors import UserError, not_installed
from pipeline_steps.survey.codes import make_codes

MOST = 5000
"""Codes made at once."""


def survey_codes(
    count: int,
    codes: Path = Path("codes.txt"),
    sheets: Path = Path("codes.html"),
    url: str = "",
    template: Path = page.TEMPLATES / "survey_codes.html",
    style: Path = page.STYLE,
) -> None:
    """Draw codes that nobody can guess, and write sheets with a QR code each.

    Args:
        count: how many people are to be asked.
        codes: file to write, one code a line; name it as survey.codes in the configuration.
        sheets: page to write, to be printed and cut.
        url: where the survey can be opened; the QR code then opens it with the code filled in.
        template: Jinja template of the sheets.
        style: its CSS.

    Raises:
        UserError: the file is there already, or the number makes no sense.
    """
    try:
        import segno
    except ImportError as error:
        raise not_installed(error, "survey") from error

    if not 1 <= count <= MOST:
        raise UserError(f"--count {count}: choose a number from 1 to {MOST}")
    if codes.exists():
        raise UserError(f"{codes}: is there already, and people may hold its codes; name another file")
    made = make_codes(count)
    cards = []
    for code in made:
        text = f"{url}#code={quote(code)}" if url else code
        cards.append((code, segno.make(text, error="m").svg_data_uri(scale=4, border=2)))
    artifacts.write_text(codes, "\n".join(made) + "\n")
    artifacts.write_text(sheets, page.render(template, style, url=url, cards=cards))
    LOG.info("%d codes are in %s; print %s and keep both from others", count, codes, sheets)


if __name__ == "__main__":
    run_step(survey_codes)
