"""The former name of ``python -m pipeline_steps.survey.server``, kept for this release."""

import logging
import runpy

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    logging.warning(
        "this command is now called python -m pipeline_steps.survey.server; "
        "the next release knows it by that name alone"
    )
    runpy.run_module("pipeline_steps.survey.server", run_name="__main__", alter_sys=True)
