"""``python -m pipeline_steps.survey.server``: serve the survey until stopped."""

import os
from collections.abc import Sequence
from pathlib import Path

from pipeline_steps.cli import LOG, run_step
from pipeline_steps.config.files import read_config
from pipeline_steps.errors import UserError, not_installed
from pipeline_steps.survey.shown import TEMPLATE

ADMIN_TOKEN = "SURVEY_ADMIN_TOKEN"
SHORTEST_TOKEN = 20
"""Letters of an admin token."""


def survey_server(
    pages: Sequence[Path] = (),
    forms: Sequence[Path] = (),
    database: str = "sqlite:///survey.sqlite",
    host: str = "127.0.0.1",
    port: int = 8000,
    codes: Path | None = None,
    kiosk: bool = False,
    proxies: Sequence[str] = (),
    template: Path = TEMPLATE,
    requests_per_minute: int = 300,
    settings: Path = Path("config/config.yaml"),
) -> None:
    """Serve the survey of one or more cultures; each answer is stored as soon as it is given.

    The environment variable SURVEY_ADMIN_TOKEN opens the administrator's page, /admin; scripts send it as
    the header "Authorization: Bearer …". Put a proxy with HTTPS before it when it is reached from afar.

    Args:
        pages: pages.parquet of each culture; by default those of the configuration's survey.
        forms: forms.parquet of each culture, in any order; by default beside the pages.
        database: sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME.
        host: address to listen on.
        port: port to listen on.
        codes: file with one participant code a line, by default survey.codes; without any, anyone may enrol.
        kiosk: one device is handed from person to person: nothing is kept on it.
        proxies: addresses or networks of proxies whose X-Forwarded-For is believed.
        template: the page's HTML.
        requests_per_minute: a participant may make; an address may make four times as many for newcomers.
        settings: the configuration: wordings, least years, names of the cultures.

    Raises:
        UserError: the database or a file cannot be opened, a code or the admin token can be guessed, or the
            port is taken.
    """
    try:
        from pipeline_steps.survey.server.app import create_app
        from pipeline_steps.survey.server.contents import load_survey
        from pipeline_steps.survey.server.store import Store
        from pipeline_steps.web.serving import listen, serve
    except ImportError as error:
        raise not_installed(error, "survey") from error

    from pipeline_steps.survey.codes import read_codes

    token = os.environ.get(ADMIN_TOKEN, "")
    if token and len(token) < SHORTEST_TOKEN:
        raise UserError(
            f"{ADMIN_TOKEN}: can be guessed; {SHORTEST_TOKEN} letters or more, e.g. of openssl rand -hex 20"
        )
    config = read_config(settings)
    survey_config = config.survey
    folders = [config.results / "survey" / name for name in survey_config.cultures or sorted(config.cultures)]
    pages = pages or [folder / "pages.parquet" for folder in folders]
    forms = forms or [path.with_name("forms.parquet") for path in pages]
    _look_for([*pages, *forms])
    codes = codes or survey_config.codes
    survey = load_survey(
        pages,
        forms,
        survey_config,
        codes=read_codes(codes) if codes else None,
        names={name: culture.name or name for name, culture in config.cultures.items()},
        kiosk=kiosk,
        template=template,
    )
    if survey.codes is None:
        LOG.warning("anyone may take part, and as often as they like: no codes (docs/survey.md, Codes)")
    if not token:
        LOG.warning(
            "there is no administrator's page, /admin: it wants a password before the start, export %s="
            '$(python -c "import secrets; print(secrets.token_urlsafe(32))")',
            ADMIN_TOKEN,
        )
    app = create_app(survey, Store(database, sorted(survey.cultures)), token, requests_per_minute)
    listener = listen(host, port)
    LOG.info("serving %s on http://%s:%d", ", ".join(sorted(survey.cultures)), host, port)
    serve(app, listener, proxies)


def _look_for(tables: Sequence[Path]) -> None:
    """Raise UserError where a culture's pages are not made yet."""
    for path in tables:
        if not path.exists():
            raise UserError(
                f"{path}: no such file; make the survey of '{path.parent.name}' first, snakemake --cores 8 "
                f"{path.with_name('survey.html')}, or name those that are asked under survey.cultures"
            )


if __name__ == "__main__":
    run_step(survey_server)
