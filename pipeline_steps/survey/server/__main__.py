"""``python -m pipeline_steps.survey.server``: serve the survey until stopped."""

import logging
import os
import re
from pathlib import Path

from pipeline_steps.cli import run_step
from pipeline_steps.config import SurveyConfig
from pipeline_steps.errors import UserError
from pipeline_steps.inputs.text import read_lines

LOG = logging.getLogger("scoft")
ADMIN_TOKEN = "SURVEY_ADMIN_TOKEN"


def survey_server(
    pages: list[Path],
    forms: list[Path],
    database: str = "sqlite:///survey.sqlite",
    host: str = "127.0.0.1",
    port: int = 8000,
    codes: Path | None = None,
    template: Path = Path("resources/survey/page.html"),
    requests_per_minute: int = 300,
    config: SurveyConfig = SurveyConfig(),  # noqa: B008 (frozen)
) -> None:
    """Serve the survey of one or more cultures; each answer is stored as soon as it is given.

    The environment variable SURVEY_ADMIN_TOKEN opens /admin/answers.csv and /admin/answers.parquet
    (header "Authorization: Bearer …"). Put a proxy with HTTPS before it when it is reached from afar.

    Args:
        pages: results/survey/CULTURE/pages.parquet of each culture.
        forms: results/survey/CULTURE/forms.parquet, in the same order.
        database: sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME.
        host: address to listen on.
        port: port to listen on.
        codes: file with one participant code a line; without it anyone may enrol.
        template: the page's HTML.
        requests_per_minute: a participant may make; an address may enrol four times as many.
        config: wording, least years, quality of the pictures.

    Raises:
        UserError: the database cannot be opened, or a code is malformed.
    """
    try:
        import uvicorn

        from pipeline_steps.survey.server.app import create_app
        from pipeline_steps.survey.server.contents import load_survey
        from pipeline_steps.survey.server.store import Store
    except ImportError as error:
        raise UserError(f"{error.name} is not installed; run: pip install '.[survey]'") from error

    from pipeline_steps.survey.wording import read_wording

    admitted = read_codes(codes) if codes else None
    wording = read_wording(config.wording)
    survey = load_survey(pages, forms, wording, template, config.min_years, config.jpeg_quality, admitted)
    app = create_app(
        survey, Store(database, sorted(survey.cultures)), os.environ.get(ADMIN_TOKEN), requests_per_minute
    )
    LOG.info("serving %s on http://%s:%d", ", ".join(sorted(survey.cultures)), host, port)
    # No access log: it would keep addresses, which the consent text does not name.
    uvicorn.run(
        app, host=host, port=port, access_log=False, server_header=False, log_level="warning", workers=1
    )


def read_codes(path: Path) -> frozenset[str]:
    """Read participant codes, one a line.

    Raises:
        UserError: in another encoding, none, a repeated or a malformed one.
    """
    codes = read_lines(path)
    for number, code in enumerate(codes, 1):
        if not re.fullmatch(r"[A-Za-z0-9_-]{6,64}", code):
            raise UserError(
                f"{path}: code {number}: needs 6 to 64 letters, digits, '-' or '_' (hard to guess)"
            )
    if not codes or len(set(codes)) < len(codes):
        raise UserError(f"{path}: {'a code stands there twice' if codes else 'no codes'}; write one a line")
    return frozenset(codes)


if __name__ == "__main__":
    run_step(survey_server)
