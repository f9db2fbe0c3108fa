"""The former name of ``python -m pipeline_steps.survey.server``, kept for this release."""

import functools
import logging
from typing import Any

from pipeline_steps.cli import run_step
from pipeline_steps.survey.server import __main__ as server

LOG = logging.getLogger("scoft")


@functools.wraps(server.survey_server)
def survey_server(*args: Any, **settings: Any) -> None:
    """Serve the survey, and say how the command is called now."""
    LOG.warning(
        "this command is now called python -m pipeline_steps.survey.server; "
        "the next release knows it by that name alone"
    )
    server.survey_server(*args, **settings)


if __name__ == "__main__":
    run_step(survey_server)
