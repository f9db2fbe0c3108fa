"""The study of the embedded world: every variant over cultures and seeds, where the truth is known."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline_steps.artifacts import FEATURES, IMAGES, SCORES, same_origin, write_text
from pipeline_steps.cli import run_step
from pipeline_steps.config import FULL_VARIANT, LABELS, PAPER
from pipeline_steps.drawing import labels
from pipeline_steps.method.estimate import Estimate, mean_with_t
from pipeline_steps.method.kid import kid

if TYPE_CHECKING:
    from torch import Tensor

METRICS = (
    "attribute_accuracy",
    "attribute_accuracy_shape",
    "attribute_accuracy_pattern",
    "attribute_accuracy_accent",
    "attribute_accuracy_all",
    "stereotype",
    "generic_accuracy",
    "kid",
    "kid_reconstructed",
    "div",
    "nearest_train",
    "clip_score",
)
"""Scores of the table."""
STEPS = (
    ("sd", "scoft_m"),
    ("ldm", "scoft_m"),
    ("scoft_m", "scoft_mp"),
    ("scoft_mp", "scoft_mpc"),
    ("ldm", "scoft_mp"),
    ("ldm", "scoft_mpc"),
)
"""Pairs whose differences test the paper's order, and its losses together against plain fine-tuning."""
TESTED = (
    "kid",
    "kid_reconstructed",
    "attribute_accuracy",
    "stereotype",
    "generic_accuracy",
    "div",
    "nearest_train",
)
"""Scores whose differences are reported."""

Key = tuple[str, str, str]
"""Culture, run and variant."""
Found = dict[Key, dict[str, float]]
Real = dict[str, "Tensor"]
"""Features of real pictures by culture."""


class Line(NamedTuple):
    """A row of the table.

    Attributes:
        part: "variants", "differences", "bleed" or "controls".
        culture: its name, or "all".
        name: variant, pair of variants, or run.
        metric: the score.
        estimate: mean and interval.
        count: how many values it is the mean of.
    """

    part: str
    culture: str
    name: str
    metric: str
    estimate: Estimate
    count: int  # type: ignore[assignment]  # in the place of a tuple's own method, which nobody calls


def study(
    scores: list[Path],
    features: list[Path],
    images: list[Path],
    reconstructed: list[Path],
    bleed: list[Path],
    table: Path,
    summary: Path,
    values: Path,
    controls: list[Path] | None = None,
    control_features: list[Path] | None = None,
    control_runs: list[str] | None = None,
    pairs: list[str] | None = None,
) -> None:
    """Sum up every variant over cultures and seeds.

    A culture's figure is the mean over its seeds, with Student's t over the seeds; that of all
    cultures is the mean of the cultures', with t over the cultures: seeds of one culture share its
    pictures and are no independent cultures. Differences are taken seed by seed, since all variants
    start from the same noise.

    Args:
        scores: of every culture, run (the default one and those of other seeds) and variant,
            ``…/{run}/scores/{variant}.parquet``.
        features: the pictures' features, in the same order.
        images: each culture's pictures.
        reconstructed: features of the VAE's reconstructions of them, in the same order.
        bleed: scores on prompts that name no culture, of the default run.
        table: CSV file to write: part, culture, name, metric, value, low, high, interval, count.
        summary: Markdown file to write: the same, to be read.
        values: CSV file to write: culture, run, name, metric, value of every set of pictures, from which the
            table is made but for its part "bleed"; the run is the one whose seed it has, empty for the
            default run's.
        controls: scores of what is compared with the full variant: other negatives, baselines, lengths.
        control_features: their pictures' features, in the same order.
        control_runs: ``control:seed`` of each, in the same order; the seed is a run's name, or nothing for
            the default run's.
        pairs: ``first:second``, controls that are compared with one another.
    """
    real = _references(images, reconstructed)
    found = {_key(path): _with_kid(path, seen, real) for path, seen in zip(scores, features, strict=True)}
    compared = _read_controls(controls or [], control_features or [], control_runs or [], real)
    lines = [
        *_variants(found),
        *_differences(found, STEPS),
        *_bleed({_key(path): _values(path) for path in bleed}),
    ]
    lines += _controls(found, compared)
    lines += _differences(compared, [_pair(pair) for pair in pairs or []])
    write_text(table, _table(lines))
    write_text(summary, _markdown(lines))
    write_text(values, _every_value(found | compared))


def _table(lines: list[Line]) -> str:
    rows = []
    for line in lines:
        e = line.estimate
        ends = ["" if end is None else f"{end:.6g}" for end in (e.low, e.high)]
        rows.append([*line[:4], f"{e.value:.6g}", *ends, e.interval, line.count])
    return _csv(["part", "culture", "name", "metric", "value", "low", "high", "interval", "count"], rows)


def _every_value(found: Found) -> str:
    rows = [
        [culture, "" if run == culture else run, name, metric, f"{value:.6g}"]
        for (culture, run, name), score in sorted(found.items())
        for metric, value in score.items()
        if metric in METRICS
    ]
    return _csv(["culture", "run", "name", "metric", "value"], rows)


def _csv(head: list[str], rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


def _pair(pair: str) -> tuple[str, str]:
    first, _, second = pair.partition(":")
    return first, second


def _values(path: Path) -> dict[str, float]:
    return {row["metric"]: row["value"] for row in SCORES.rows(path)}


def _read_controls(paths: list[Path], features: list[Path], runs: list[str], real: Real) -> Found:
    """The controls' scores by culture, run whose seed they have, and control."""
    found = {}
    for path, seen, run in zip(paths, features, runs, strict=True):
        culture = _key(path)[0]
        control, _, seed = run.partition(":")
        found[culture, seed or culture, control] = _with_kid(path, seen, real)
    return found


def _key(path: Path) -> Key:
    """Whose scores a file holds; the default run is called after its culture."""
    return str(SCORES.note(path)["culture"]), path.parent.parent.name, path.stem


def _references(images: list[Path], reconstructed: list[Path]) -> Real:
    """Features of each culture's held-out pictures as the VAE shows them."""
    found = {}
    for table, seen in zip(images, reconstructed, strict=True):
        origin = same_origin((IMAGES, table), (FEATURES, seen))
        test = [row["split"] == "test" for row in IMAGES.rows(table, ["split"])]
        found[origin.culture] = FEATURES.read(seen)["inception"][np.flatnonzero(test)]
    return found


def _with_kid(path: Path, features: Path, real: Real) -> dict[str, float]:
    """A file's scores, and KID to the held-out pictures as the VAE shows them."""
    same_origin((SCORES, path), (FEATURES, features))
    tensors = FEATURES.read(features)
    pictures = tensors["inception"][~tensors["blank"]]
    return _values(path) | {"kid_reconstructed": kid(pictures, real[_key(path)[0]]).value}


def _over(part: str, name: str, metric: str, values: Mapping[str, list[float]]) -> list[Line]:
    """Each culture's line, and that of all cultures."""
    lines = [
        Line(part, culture, name, metric, mean_with_t(own, "seeds"), len(own))
        for culture, own in sorted(values.items())
    ]
    means = [mean(own) for own in values.values()]
    return [*lines, Line(part, "all", name, metric, mean_with_t(means, "cultures"), len(means))]


def _variants(found: Found) -> list[Line]:
    lines = []
    for variant in PAPER:
        for metric in METRICS:
            values: dict[str, list[float]] = {}
            for (culture, _, name), score in sorted(found.items()):
                if name == variant and metric in score:
                    values.setdefault(culture, []).append(score[metric])
            if values:
                lines += _over("variants", variant, metric, values)
    return lines


def _differences(found: Found, pairs: Iterable[tuple[str, str]]) -> list[Line]:
    """The second of each pair less the first, seed by seed."""
    lines = []
    for first, second in pairs:
        for metric in TESTED:
            values: dict[str, list[float]] = {}
            for (culture, run, name), score in sorted(found.items()):
                other = found.get((culture, run, second))
                if name == first and other and metric in score and metric in other:
                    values.setdefault(culture, []).append(other[metric] - score[metric])
            if values:
                lines += _over("differences", f"{second} − {first}", metric, values)
    return lines


def _bleed(found: Found) -> list[Line]:
    """What prompts that name no culture show, the variants being told apart by their default run."""
    lines = []
    for variant in PAPER:
        for metric in ("attribute_accuracy", "stereotype", "generic_accuracy"):
            values = {
                c: [score[metric]]
                for (c, _, name), score in found.items()
                if name == variant and metric in score
            }
            if values:
                lines += _over("bleed", variant, metric, values)
    return lines


def _controls(found: Found, controls: Found) -> list[Line]:
    """Each control, and the full variant less it, seed by seed."""
    lines = []
    for control in dict.fromkeys(name for _, _, name in controls):
        own = {key[:2]: score for key, score in sorted(controls.items()) if key[2] == control}
        for metric in METRICS:
            values: dict[str, list[float]] = {}
            less: dict[str, list[float]] = {}
            for (culture, run), score in own.items():
                if metric in score:
                    values.setdefault(culture, []).append(score[metric])
                full = found[culture, run, FULL_VARIANT]
                if metric in score and metric in full:
                    less.setdefault(culture, []).append(full[metric] - score[metric])
            if values:
                lines += _over("controls", control, metric, values)
            if less:
                lines += _over("differences", f"{FULL_VARIANT} − {control}", metric, less)
    return lines


def _markdown(lines: list[Line]) -> str:
    """The lines of all cultures, and the cultures' own accuracy."""
    parts = []

    def cell(line: Line | None) -> str:
        if line is None:
            return ""
        e = line.estimate
        return f"{e.value:.3f}" if e.low is None else f"{e.value:.3f} ({e.low:.3f} to {e.high:.3f})"

    def add(title: str, head: list[str], rows: list[list[str]]) -> None:
        parts.append(
            "\n".join(
                [f"### {title}", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
                + [f"| {' | '.join(row)} |" for row in rows]
            )
        )

    by = {line[:4]: line for line in lines}

    def grid(part: str, names: Iterable[str], metrics: Iterable[str], culture: str) -> list[list[str]]:
        names = list(names)
        return [
            [labels.SCORES[metric].name, *(cell(by.get((part, culture, name, metric))) for name in names)]
            for metric in metrics
            if any((part, culture, name, metric) in by for name in names)
        ]

    variants = [LABELS[variant] for variant in PAPER]
    cultures = sorted({line.culture for line in lines} - {"all"})
    add("All cultures", ["score", *variants], grid("variants", PAPER, METRICS, "all"))
    add(
        "Cultural attributes right, by culture",
        ["culture", *variants],
        [[culture, *grid("variants", PAPER, ["attribute_accuracy"], culture)[0][1:]] for culture in cultures],
    )
    pairs = [f"{second} − {first}" for first, second in STEPS]
    add("Differences, seed by seed", ["score", *pairs], grid("differences", pairs, TESTED, "all"))
    add(
        "Prompts that name no culture",
        ["score", *variants],
        grid("bleed", PAPER, ["attribute_accuracy", "stereotype", "generic_accuracy"], "all"),
    )
    names = list(dict.fromkeys(line.name for line in lines if line.part == "controls"))
    if names:
        add("Controls", ["score", *names], grid("controls", names, METRICS, "all"))
        less = [f"{FULL_VARIANT} − {name}" for name in names]
        add(
            "SCoFT+MPC less each control, seed by seed",
            ["score", *less],
            grid("differences", less, METRICS, "all"),
        )
    shown = {*pairs, *(f"{FULL_VARIANT} − {name}" for name in names)}
    others = list(dict.fromkeys(n for part, _, n, _ in by if part == "differences" and n not in shown))
    if others:
        rows = grid("differences", others, TESTED, "all")
        add("Controls less one another, seed by seed", ["score", *others], rows)
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    run_step(study)
