"""The answers as files."""

import csv
import io
from collections.abc import Iterator
from typing import Any

from pipeline_steps.survey.server.site import Site

COLUMNS = (
    "participant",
    "culture",
    "page",
    "item",
    "picture",
    "rank",
    "years",
    "admission",
    "began",
    "exported",
)
CHUNK = 65536
"""Characters of CSV sent at once."""


def parquet(site: Site) -> bytes:
    """Return all answers as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, kinds = pa.string(), {"rank": pa.int32(), "years": pa.float64()}
    schema = pa.schema([(name, kinds.get(name, text)) for name in COLUMNS])
    table = pa.Table.from_pylist([{name: row[name] for name in COLUMNS} for row in _rows(site)], schema)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def lines(site: Site) -> Iterator[str]:
    """Return all answers as CSV, a part at a time."""
    buffer = io.StringIO()
    table = csv.DictWriter(buffer, COLUMNS, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    for row in _rows(site):
        table.writerow(row)
        if buffer.tell() > CHUNK:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def _rows(site: Site) -> Iterator[dict[str, Any]]:
    """All answers in the generic long form; a blank answer has a row without a rank per picture.

    Answers to pages of an earlier start, no longer shown, are exported like the others. When it was made
    stands in each row, so that of two downloads the later one counts.
    """
    now = site.now().isoformat(timespec="microseconds")
    pages = {name: page for culture in site.survey.cultures.values() for name, page in culture.pages.items()}
    for answer in site.store.everything():
        known = pages.get(answer["page"], {"pictures": answer["ranks"] or ["unknown"]})
        for name in known["pictures"]:
            rank = None if answer["ranks"] is None else answer["ranks"].get(name)
            yield {**answer, "picture": name, "rank": rank, "exported": now}
