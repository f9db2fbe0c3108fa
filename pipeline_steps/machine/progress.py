"""How far a whole run is: which stage of how many, how long so far, and about how long to go."""

import csv
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import fmean

from snakemake_interface_logger_plugins.common import LogEvent


class Progress(logging.Handler):
    """Says after each job how far the run is.

    What is to come is reckoned from what each stage's jobs took in this run, or else in earlier ones by
    Snakemake's benchmarks beside the results; jobs that run at the same time share it.

    Args:
        logger: what it says it through.
        benchmarks: folder of the benchmarks.
        clock: seconds that only grow.
    """

    def __init__(
        self, logger: logging.Logger, benchmarks: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self.logger, self.benchmarks, self.clock = logger, benchmarks, clock
        self.began = clock()
        self.planned: Counter[str] = Counter()
        self.left: Counter[str] = Counter()
        self.earlier: Mapping[str, float] = {}
        self.running: dict[int, tuple[str, float]] = {}
        self.took: defaultdict[str, list[float]] = defaultdict(list)

    def emit(self, record: logging.LogRecord) -> None:
        """Count what Snakemake says; after a job say how far the run is."""
        event, told = getattr(record, "event", None), vars(record)
        if event is LogEvent.RUN_INFO:
            self.planned = Counter({name: count for name, count in told["stats"].items() if name != "total"})
            self.left = Counter(self.planned)
            self.began, self.earlier = self.clock(), seconds(self.benchmarks, self.planned)
        elif event is LogEvent.JOB_INFO:
            self.running[told["jobid"]] = told["rule_name"], self.clock()
        elif event is LogEvent.JOB_FINISHED and told["job_id"] in self.running:
            rule, started = self.running.pop(told["job_id"])
            self.took[rule].append(self.clock() - started)
            self.left[rule] -= 1
            if self.planned.total() > 1:
                self.logger.info(self.line(rule))

    def line(self, rule: str) -> str:
        """Return how far the run is after a job of a stage."""
        done, total = self.planned.total() - self.left.total(), self.planned.total()
        stages = sum(not self.left[name] for name in self.planned)
        text = f"{done} of {total} jobs, {stages} of {len(self.planned)} stages done (last: {rule})"
        passed = self.clock() - self.began
        return f"{text}; {in_words(passed)} so far{self._to_go(passed)}."

    def _to_go(self, passed: float) -> str:
        """How long what is left takes, as far as it is known."""
        means = {**self.earlier, **{rule: fmean(found) for rule, found in self.took.items()}}
        left = sum(means.get(rule, 0) * count for rule, count in self.left.items())
        left -= sum(min(self.clock() - since, means.get(rule, 0)) for rule, since in self.running.values())
        at_once = max(1.0, sum(map(sum, self.took.values())) / passed if passed else 1.0)
        unknown = sum(count for rule, count in self.left.items() if rule not in means)
        if not self.left.total():
            return ""
        if unknown == self.left.total():
            return ", how long to go is not known yet"
        rest = f" and {unknown} {'job' if unknown == 1 else 'jobs'} never timed here" if unknown else ""
        return f", about {in_words(max(left, 0) / at_once)} to go{rest}"


def seconds(benchmarks: Path, rules: Iterable[str]) -> Mapping[str, float]:
    """Mean seconds of a job of each rule, from benchmarks named rule.tsv or rule_….tsv."""
    known = sorted(rules, key=len, reverse=True)
    found: defaultdict[str, list[float]] = defaultdict(list)
    for path in benchmarks.rglob("*.tsv"):
        rule = next((name for name in known if path.stem == name or path.stem.startswith(f"{name}_")), None)
        if rule:
            with path.open(encoding="utf-8", newline="") as file:
                found[rule] += [float(row["s"]) for row in csv.DictReader(file, delimiter="\t")]
    return {rule: fmean(values) for rule, values in found.items() if values}


def in_words(length: float) -> str:
    """E.g. "40 s", "12 min" and "3 h 20 min"."""
    if length < 90:
        return f"{length:.0f} s"
    minutes = round(length / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
