"""The answers, for whoever holds the admin token."""

import csv
import hmac
import io
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import StreamingResponse

from pipeline_steps.survey.server.site import Site, ThisSite
from pipeline_steps.web.limits import address

COLUMNS = ("participant", "culture", "page", "item", "picture", "rank", "years")
CHUNK = 65536
"""Characters of CSV sent at once."""


async def _admin(request: Request, site: ThisSite) -> None:
    if site.admin_token is None:
        raise HTTPException(404, "no export: the server was started without an admin token")
    site.failures.take(address(request), 0)
    given = request.headers.get("authorization", "")
    if not hmac.compare_digest(given.encode(), f"Bearer {site.admin_token}".encode()):
        site.failures.take(address(request))
        raise HTTPException(401, "wrong admin token", {"WWW-Authenticate": "Bearer"})


ROUTES = APIRouter(prefix="/admin", dependencies=[Depends(_admin)])


@ROUTES.get("/answers.csv")
def export_csv(site: ThisSite) -> Response:
    """Stream all answers as CSV."""
    return StreamingResponse(_lines(site), media_type="text/csv; charset=utf-8")


@ROUTES.get("/answers.parquet")
def export_parquet(site: ThisSite) -> Response:
    """Send all answers as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, kinds = pa.string(), {"rank": pa.int32(), "years": pa.float64()}
    schema = pa.schema([(name, kinds.get(name, text)) for name in COLUMNS])
    table = pa.Table.from_pylist([{name: row[name] for name in COLUMNS} for row in _rows(site)], schema)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return Response(buffer.getvalue(), media_type="application/vnd.apache.parquet")


def _rows(site: Site) -> Iterator[dict[str, Any]]:
    """All answers in the generic long form; a blank answer has a row without a rank per picture.

    Answers to pages of an earlier start, no longer shown, are exported like the others.
    """
    pages = {name: page for culture in site.survey.cultures.values() for name, page in culture.pages.items()}
    for answer in site.store.everything():
        known = pages.get(answer["page"], {"pictures": answer["ranks"] or ["unknown"]})
        for name in known["pictures"]:
            rank = None if answer["ranks"] is None else answer["ranks"].get(name)
            yield {**answer, "picture": name, "rank": rank}


def _lines(site: Site) -> Iterator[str]:
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
