"""What a dry run's jobs may take of a cluster's GPUs, by what each job asks of the queue."""

import logging

from snakemake_interface_logger_plugins.common import LogEvent


class GpuHours(logging.Handler):
    """Adds up GPUs × runtime of the jobs that Snakemake announces, and says the sum after the last.

    Only a dry run announces all jobs before its last table of them. The sum is an upper limit: a queue
    is asked for more time than a job should need, which is :mod:`pipeline_steps.planning.plan`'s business.
    """

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self.jobs, self.hours = 0, 0.0
        self.logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Count a job; at the table of jobs, which follows the last job, say the sum."""
        event = getattr(record, "event", None)
        if event is LogEvent.JOB_INFO:
            gpus, minutes = (vars(record)["resources"].get(name, 0) for name in ("gpu", "runtime"))
            # A job without a limit of time cannot be counted, nor one whose request is not known yet.
            if isinstance(gpus, int) and isinstance(minutes, int) and gpus and minutes:
                self.jobs += 1
                self.hours += gpus * minutes / 60
        elif event is LogEvent.RUN_INFO and self.jobs:
            self.logger.info(
                f"GPU hours: at most {self.hours:,.1f}, by what {self.jobs:,} jobs ask of the queue "
                "(what they should need: snakemake --cores 1 -- plan).\n"
            )
