"""One page on a culture's pictures: what to mend, worst first, and what is there."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from pipeline_steps import artifacts
from pipeline_steps.artifacts import FINDINGS, IMAGES, Row
from pipeline_steps.cli import LOG, run_step
from pipeline_steps.config import BaseRef
from pipeline_steps.data.checks import FEW, culture_names, nameless, too_few, too_long
from pipeline_steps.data.findings import LEFT_OUT, MEND, NOTE, Finding
from pipeline_steps.drawing import page
from pipeline_steps.drawing.labels import many
from pipeline_steps.drawing.pictures import thumbnail
from pipeline_steps.errors import UserError

SHEET = 240
"""Most pictures on the contact sheet; of more, evenly spaced ones are shown."""
SHOWN = 100
"""Most findings of one kind that are listed."""
CONTRIBUTORS = 5
"""Fewest people a culture's pictures should come from (paper §3)."""
OWNED = ("contributor", "source", "author", "licence", "consent")
"""Columns that say whose a picture is."""
WORST = ("withdrawn", "split", "duplicate", "caption", "number", "small")
"""Kinds of findings of one severity, worst first; others follow."""
HEADINGS = {LEFT_OUT: "Left out", MEND: "To be mended", NOTE: "Worth knowing"}
TOKENS = (10, 20, 30, 40, 50, 60)
"""Edges of the histogram of the captions' lengths, beside the limit."""
SIDES = (128, 256, 512, 768, 1024, 2048)
"""Edges of the histogram of the sources' shorter sides in pixels."""
THUMBNAIL = 160
"""Longest side of a picture on the contact sheet in pixels."""


@dataclass
class Summary:
    """What is counted while the pictures pass."""

    called: tuple[str, ...] = ()
    splits: Counter[str] = field(default_factory=Counter)
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    contributors: Counter[str] = field(default_factory=Counter)
    sides: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    long: list[Finding] = field(default_factory=list)
    nameless: list[Finding] = field(default_factory=list)
    sheet: list[dict[str, str]] = field(default_factory=list)


def data_report(
    images: Path,
    findings: Path,
    report: Path,
    culture: str,
    base: BaseRef,
    name: str = "",
    suffix: str = "",
    template: Path = page.TEMPLATES / "data.html",
    style: Path = page.STYLE,
) -> None:
    """Write a self-contained page, and its first line to the log.

    Args:
        images: the culture's table of pictures.
        findings: what ingest found odd.
        report: HTML file to write; it loads nothing from elsewhere.
        culture: its name.
        base: the model to be mended, whose tokenizer says which captions are too long; where it has not been
            fetched yet, they are not counted.
        name: of the culture as people write it, which the page shows.
        suffix: of its prompts, which names it as captions should.
        template: Jinja template of the page.
        style: its CSS.
    """
    from pipeline_steps.models.families import family_of

    origin = artifacts.same_origin((IMAGES, images), (FINDINGS, findings), culture=culture)
    uncounted: list[Finding] = []
    try:
        tokenizer = family_of(base).tokenizer()
        limit = int(tokenizer.model_max_length)
    except UserError as error:
        LOG.warning("the captions' lengths are not counted: %s", error)
        again = f"snakemake --cores 1 -R data_report -- {report}"
        line = f"their lengths are not known before the models are fetched; then: {again}"
        uncounted = [Finding(NOTE, "caption", "", line)]
        tokenizer, limit = None, 0
    name = name or culture
    summary = Summary(called=culture_names(culture, name, suffix))
    every = -(-IMAGES.count(images) // SHEET)
    for number, row in enumerate(IMAGES.rows(images)):
        _count(summary, row)
        if tokenizer:
            _count_tokens(summary, row, len(tokenizer(row["caption"], verbose=False).input_ids), limit)
        if number % every == 0:
            summary.sheet.append(_shown(row))
    told = [Finding(**row) for row in FINDINGS.rows(findings)]
    found = sorted([*told, *uncounted, *_further(summary, name)], key=_badness)
    verdict = _verdict(name, summary, found)
    contents = _contents(summary, found, limit)
    artifacts.write_text(
        report, page.render(template, style, name=name, origin=origin, verdict=verdict, **contents)
    )
    LOG.info("%s; see %s", verdict, report)


def _count(summary: Summary, row: Row) -> None:
    summary.splits[row["split"]] += 1
    summary.kinds[row["category"] or "(none)", row["era"] or "(none)"] += 1
    summary.missing.update(column for column in OWNED if row[column] is None)
    summary.contributors.update([row["contributor"]] if row["contributor"] else [])
    if finding := nameless(row["image_id"], row["caption"], summary.called):
        summary.nameless.append(finding)
    summary.sides.append(min(row["source_width"], row["source_height"]))


def _count_tokens(summary: Summary, row: Row, tokens: int, limit: int) -> None:
    summary.tokens.append(tokens)
    if finding := too_long(row["image_id"], tokens, limit):
        summary.long.append(finding)


def _further(summary: Summary, name: str) -> Iterator[Finding]:
    """Yield what only the whole shows."""
    yield from summary.long
    if summary.nameless:
        line = f"captions should name {name}, or the model does not learn what is its own; do these?"
        yield Finding(NOTE, "culture", "", line)
        yield from summary.nameless
    total = summary.splits.total()
    for split in FEW:
        if finding := too_few(split, summary.splits[split]):
            yield finding
    for column in OWNED:
        if summary.missing[column]:
            yield Finding(
                NOTE, "ownership", "", f"{summary.missing[column]} of {total} pictures have no {column}"
            )
    if summary.contributors and len(summary.contributors) < CONTRIBUTORS:
        people = len(summary.contributors)
        yield Finding(
            NOTE,
            "ownership",
            "",
            f"{many(people, 'contributor')}; {CONTRIBUTORS} or more see a culture wider",
        )


def _badness(finding: Finding) -> tuple[int, int, Finding]:
    rank = WORST.index(finding.kind) if finding.kind in WORST else len(WORST)
    return finding.severity, rank, finding


def _verdict(culture: str, summary: Summary, found: Sequence[Finding]) -> str:
    counts = Counter(finding.severity for finding in found)
    total = many(summary.splits.total(), "picture")
    pictures = f"{total} ({summary.splits['train']} train, {summary.splits['test']} test)"
    worst = f"; worst: {f'{found[0].file} {found[0].line}'.strip()}" if found else ""
    return f"{culture}: {pictures}, {counts[LEFT_OUT]} left out, {counts[MEND]} to be mended{worst}"


# --- the page ---------------------------------------------------------------------------------


def _contents(summary: Summary, found: Sequence[Finding], limit: int) -> dict[str, Any]:
    """What the template shows beside the verdict."""
    return {
        "findings": _findings(found),
        "kinds": [(*kind, count) for kind, count in sorted(summary.kinds.items())],
        "contributors": summary.contributors.most_common(),
        "limit": limit,
        "tokens": _histogram(summary.tokens, (*TOKENS, limit)),
        "sides": _histogram(summary.sides, SIDES),
        "pictures": summary.sheet,
        "total": summary.splits.total(),
    }


def _findings(found: Sequence[Finding]) -> list[dict[str, Any]]:
    """The findings of each kind under their heading, the first of many."""
    groups = []
    for (severity, kind), group in groupby(found, key=lambda f: (f.severity, f.kind)):
        lines = [f"{f.file}: {f.line}" if f.file else f.line for f in group]
        heading = f"{HEADINGS[severity]}: {kind} ({len(lines)})"
        more = max(len(lines) - SHOWN, 0)
        groups.append({"severity": severity, "heading": heading, "lines": lines[:SHOWN], "more": more})
    return groups


def _histogram(values: Sequence[int], edges: Sequence[int]) -> dict[str, int]:
    """Count the values up to and including each edge, and above the last."""
    edges = sorted(set(edges))
    counts = Counter(bisect_left(edges, value) for value in values)
    names = [f"up to {edge}" for edge in edges] + [f"over {edges[-1]}"]
    return {name: counts[place] for place, name in enumerate(names)}


def _shown(row: Row) -> dict[str, str]:
    uri = thumbnail(row["image"], THUMBNAIL, "JPEG", 80)
    return {"name": f"{row['image_id']} ({row['split']})", "caption": row["caption"], "uri": uri}


if __name__ == "__main__":
    run_step(data_report)
