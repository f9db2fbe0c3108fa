"""What a run says of how far it is, by Snakemake's own words and a clock that the test turns."""

import logging
import os
import re
import subprocess
import sys

import pytest

from pipeline_steps.machine.progress import Progress, in_words, seconds
from tests import ROOT

SNAKEFILE = """
from pathlib import Path
from snakemake.logging import logger
from pipeline_steps.machine.progress import Progress
ticks = iter(range(0, 10_000, 20))
logger.addHandler(Progress(logger, Path("results/benchmarks"), lambda: next(ticks)))
rule all:
    input: expand("{n}.b", n=range(3))
rule first:
    output: "{n}.a"
    shell: "touch {output}"
rule second:
    input: "{n}.a"
    output: "{n}.b"
    shell: "touch {output}"
"""


def test_a_run_of_snakemake_says_how_far_it_is(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    folder = tmp_path / "results/benchmarks/korea"
    folder.mkdir(parents=True)
    (folder / "second_x.tsv").write_text("s\th:m:s\n600\t0:10:00\n")
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "1"], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = re.findall(r"^\d of 7 jobs, .*", done.stderr, re.MULTILINE)
    assert [line.split()[0] for line in lines] == list("1234567")
    assert re.search(r"about \d+ min to go and 1 job never timed here\.$", lines[0])  # `all`
    assert "7 of 7 jobs, 3 of 3 stages done (last: all); " in lines[-1]
    assert lines[-1].endswith(" so far.")


def test_two_at_a_time_take_half_as_long():
    now, logger = [0.0], logging.getLogger("test_progress")
    found = Progress(logger, ROOT / "nowhere", lambda: now[0])

    def say(event, **told):
        found.emit(logging.makeLogRecord({"event": event, **told}))

    from snakemake_interface_logger_plugins.common import LogEvent

    say(LogEvent.RUN_INFO, stats={"draw": 6, "total": 6})
    for job in (1, 2):
        say(LogEvent.JOB_INFO, jobid=job, rule_name="draw")
    now[0] = 100.0
    for job in (1, 2):
        say(LogEvent.JOB_FINISHED, job_id=job)
    assert (
        found.line("draw") == "2 of 6 jobs, 0 of 1 stages done (last: draw); 2 min so far, about 3 min to go."
    )


def test_benchmarks_are_read_by_the_longest_rule_that_names_them(tmp_path):
    for name, took in (("score", 1), ("score_sd", 3), ("score_set_a", 10), ("other", 7)):
        (tmp_path / f"{name}.tsv").write_text(f"s\tmax_rss\n{took}\t1\n")
    assert seconds(tmp_path, ["score", "score_set"]) == {"score": 2, "score_set": 10}


@pytest.mark.parametrize(
    ("length", "words"), [(0.4, "0 s"), (89, "89 s"), (120, "2 min"), (5340, "89 min"), (12000, "3 h 20 min")]
)
def test_lengths_in_words(length, words):
    assert in_words(length) == words
