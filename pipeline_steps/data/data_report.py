"""One page on a culture's pictures: what to mend, worst first, and what is there."""

import base64
import html
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from PIL import Image

from pipeline_steps import artifacts
from pipeline_steps.artifacts import FINDINGS, IMAGES, Origin, Row
from pipeline_steps.cli import LOG, run_step
from pipeline_steps.config import BaseRef
from pipeline_steps.data.entries import LEFT_OUT, MEND, NOTE, Finding
from pipeline_steps.errors import UserError

SHEET = 240
"""Most pictures on the contact sheet; of more, evenly spaced ones are shown."""
SHOWN = 100
"""Most findings of one kind that are listed."""
FEW_TRAIN, FEW_TEST = 50, 10
"""Below this the method has little to stand on (the paper has 150 to 200 pictures a culture)."""
CONTRIBUTORS = 5
"""Fewest people a culture's pictures should come from (paper §3)."""
OWNED = ("contributor", "source", "author", "licence", "consent")
"""Columns that say whose a picture is."""
WORST = ("withdrawn", "split", "duplicate", "caption", "number", "small")
"""Kinds of findings of one severity, worst first; others follow."""
HEADINGS = {LEFT_OUT: "Left out", MEND: "To be mended", NOTE: "Worth knowing"}
STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}
td,th{padding:.2rem .8rem;border-bottom:1px solid #ccc;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}.bar{background:#36c;height:.8rem}
.sheet{display:grid;grid-template-columns:repeat(auto-fill,minmax(9rem,1fr));gap:1rem}
figure{margin:0}figure img{width:100%}figcaption{font-size:.75rem;overflow-wrap:anywhere}
.s0 h3{color:#a00}.s1 h3{color:#850}.s2 h3{color:#555}li{overflow-wrap:anywhere}
"""


@dataclass
class Summary:
    """What is counted while the pictures pass."""

    splits: Counter[str] = field(default_factory=Counter)
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    contributors: Counter[str] = field(default_factory=Counter)
    sides: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    long: list[Finding] = field(default_factory=list)
    sheet: list[str] = field(default_factory=list)


def data_report(images: Path, findings: Path, report: Path, culture: str, base: BaseRef) -> None:
    """Write a self-contained page, and its first line to the log.

    Args:
        images: the culture's table of pictures.
        findings: what ingest found odd.
        report: HTML file to write; it loads nothing from elsewhere.
        culture: its name.
        base: Stable Diffusion, whose tokenizer says which captions are too long; where it has not been
            fetched yet, they are not counted.
    """
    from transformers import CLIPTokenizer

    from pipeline_steps.models import loading

    origin = artifacts.same_origin((IMAGES, images), (FINDINGS, findings), culture=culture)
    uncounted: list[Finding] = []
    try:
        tokenizer = loading.load(CLIPTokenizer, base, "base", subfolder="tokenizer")
        limit = int(tokenizer.model_max_length)
    except UserError as error:
        LOG.warning("the captions' lengths are not counted: %s", error)
        again = f"snakemake --cores 1 -R data_report -- {report}"
        line = f"their lengths are not known before the models are fetched; then: {again}"
        uncounted = [Finding(NOTE, "caption", "", line)]
        tokenizer, limit = None, 0
    summary = Summary()
    every = -(-IMAGES.count(images) // SHEET)
    for number, row in enumerate(IMAGES.rows(images)):
        _count(summary, row)
        if tokenizer:
            _count_tokens(summary, row, len(tokenizer(row["caption"], verbose=False).input_ids), limit)
        if number % every == 0:
            summary.sheet.append(_figure(row))
    told = [Finding(**row) for row in FINDINGS.rows(findings)]
    found = sorted([*told, *uncounted, *_further(summary)], key=_badness)
    verdict = _verdict(culture, summary, found)
    artifacts.write_text(report, _page(origin, verdict, summary, found, limit))
    LOG.info("%s; see %s", verdict, report)


def _count(summary: Summary, row: Row) -> None:
    summary.splits[row["split"]] += 1
    summary.kinds[row["category"] or "(none)", row["era"] or "(none)"] += 1
    summary.missing.update(column for column in OWNED if row[column] is None)
    summary.contributors.update([row["contributor"]] if row["contributor"] else [])
    summary.sides.append(min(row["source_width"], row["source_height"]))


def _count_tokens(summary: Summary, row: Row, tokens: int, limit: int) -> None:
    summary.tokens.append(tokens)
    if tokens > limit:
        line = f"its caption has {tokens} tokens, {limit} are read; shorten it"
        summary.long.append(Finding(MEND, "caption", row["image_id"], line))


def _further(summary: Summary) -> Iterator[Finding]:
    """Yield what only the whole shows."""
    yield from summary.long
    total = summary.splits.total()
    for split, least in (("train", FEW_TRAIN), ("test", FEW_TEST)):
        if summary.splits[split] < least:
            line = f"{summary.splits[split]} {split} pictures are few; {least} or more serve better"
            yield Finding(MEND, "number", "", line)
    for column in OWNED:
        if summary.missing[column]:
            yield Finding(
                NOTE, "ownership", "", f"{summary.missing[column]} of {total} pictures have no {column}"
            )
    if summary.contributors and len(summary.contributors) < CONTRIBUTORS:
        people = len(summary.contributors)
        yield Finding(
            NOTE, "ownership", "", f"{people} contributors; {CONTRIBUTORS} or more see a culture wider"
        )


def _badness(finding: Finding) -> tuple[int, int, Finding]:
    rank = WORST.index(finding.kind) if finding.kind in WORST else len(WORST)
    return finding.severity, rank, finding


def _verdict(culture: str, summary: Summary, found: Sequence[Finding]) -> str:
    counts = Counter(finding.severity for finding in found)
    pictures = (
        f"{summary.splits.total()} pictures ({summary.splits['train']} train, {summary.splits['test']} test)"
    )
    worst = f"; worst: {f'{found[0].file} {found[0].line}'.strip()}" if found else ""
    return f"{culture}: {pictures}, {counts[LEFT_OUT]} left out, {counts[MEND]} to be mended{worst}"


# --- the page ---------------------------------------------------------------------------------


def _page(origin: Origin, verdict: str, summary: Summary, found: Sequence[Finding], limit: int) -> str:
    title = html.escape(f"Pictures of {origin.culture}")
    parts = [
        f"<h1>{title}</h1><p>{html.escape(verdict)}</p>",
        "<p>Whether faces or private data may be in these pictures is for whoever brings them to decide.</p>",
        f"<p>Fingerprint of the data set: <code>{origin.fingerprint}</code></p>",
        "<h2>What to mend, worst first</h2>",
        *(_findings(found) or ["<p>Nothing was found odd.</p>"]),
        "<h2>What is there</h2>",
        _table(("category", "era", "pictures"), ((*kind, n) for kind, n in sorted(summary.kinds.items()))),
        _table(("contributor", "pictures"), summary.contributors.most_common()),
        f"<h2>Caption lengths in tokens (limit {limit or 'not known before the models are fetched'})</h2>",
        _bars(summary.tokens, (10, 20, 30, 40, 50, 60, limit)) if limit else "",
        "<h2>Shorter side of the sources in pixels</h2>",
        _bars(summary.sides, (128, 256, 512, 768, 1024, 2048)),
        f"<h2>Contact sheet ({len(summary.sheet)} of {summary.splits.total()})</h2>",
        f'<div class="sheet">{"".join(summary.sheet)}</div>',
    ]
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><style>{STYLE}</style></head><body>\n'
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _findings(found: Sequence[Finding]) -> list[str]:
    parts = []
    for (severity, kind), group in groupby(found, key=lambda f: (f.severity, f.kind)):
        lines = [html.escape(f"{f.file}: {f.line}" if f.file else f.line) for f in group]
        more = f"<li>and {len(lines) - SHOWN} more</li>" if len(lines) > SHOWN else ""
        items = "".join(f"<li>{line}</li>" for line in lines[:SHOWN])
        heading = html.escape(f"{HEADINGS[severity]}: {kind} ({len(lines)})")
        parts.append(f'<section class="s{severity}"><h3>{heading}</h3><ul>{items}{more}</ul></section>')
    return parts


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    def cell(value: object) -> str:
        return f"<td{' class=n' if isinstance(value, int) else ''}>{html.escape(str(value))}</td>"

    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return (
        f"<table><tr>{''.join(f'<th>{html.escape(name)}</th>' for name in head)}</tr>{body}</table>"
        if body
        else ""
    )


def _bars(values: Sequence[int], edges: Sequence[int]) -> str:
    """Return a histogram: counts up to and including each edge, and above the last."""
    edges = sorted(set(edges))
    counts = Counter(
        next((i for i, edge in enumerate(edges) if value <= edge), len(edges)) for value in values
    )
    names = [f"up to {edge}" for edge in edges] + [f"over {edges[-1]}"]
    most = max(counts.values(), default=1)
    rows = "".join(
        f'<tr><td>{name}</td><td class=n>{counts[i]}</td><td style="width:20rem"><div class="bar" '
        f'style="width:{100 * counts[i] / most:.1f}%"></div></td></tr>'
        for i, name in enumerate(names)
    )
    return f"<table>{rows}</table>"


def _figure(row: Row) -> str:
    buffer = io.BytesIO()
    picture = artifacts.decode_picture(row["image"])
    picture.thumbnail((160, 160), Image.Resampling.LANCZOS)
    picture.save(buffer, "JPEG", quality=80)
    data = base64.b64encode(buffer.getvalue()).decode()
    label = html.escape(f"{row['image_id']} ({row['split']})")
    caption = html.escape(row["caption"])
    return (
        f'<figure><img alt="{caption}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption><b>{label}</b> {caption}</figcaption></figure>"
    )


if __name__ == "__main__":
    run_step(data_report)
