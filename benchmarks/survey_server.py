"""Load on the survey server: many people at once, the process killed by SIGKILL and started again.

python -m benchmarks.survey_server [--database URL] [--people 200] [--pages 20] [--arrive 60]

Every acknowledged answer must be stored, once, as it was sent. Latencies are those of the answers
(PUT) outside the outage, which lasts from the kill until the server answers again.
"""

import asyncio
import csv
import io
import json
import math
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import cyclopts
import httpx
import numpy as np

from pipeline_steps.survey.shown import ITEMS
from tests.survey.survey_world import ADMIN_TOKEN, Server, make_pages, shown

Log = list[tuple[str, float, float, int]]
"""Path, start, seconds taken and status (0: no connection) of each request."""
Answers = dict[tuple[str, str, str], dict[str, int]]


async def person(
    number: int,
    server: Server,
    pictures: dict[str, list[str]],
    arrive: float,
    think: float,
    pages: int,
    log: Log,
    acknowledged: Answers,
) -> None:
    """Enrol and answer, page by page."""
    rng = random.Random(number)
    await asyncio.sleep(rng.uniform(0, arrive))
    async with httpx.AsyncClient(base_url=server.url, timeout=10) as client:

        async def insist(method: str, path: str, **arguments: Any) -> httpx.Response:
            """As the page does: try again until the server acknowledges."""
            while True:
                start = time.monotonic()
                try:
                    response = await client.request(method, path, **arguments)
                    log.append((path, start, time.monotonic() - start, response.status_code))
                    if response.status_code < 400:
                        return response
                    assert response.status_code in (429, 503), response.text
                except httpx.TransportError:
                    log.append((path, start, time.monotonic() - start, 0))
                await asyncio.sleep(0.5)

        text = (await insist("GET", "/")).text
        csrf = text.split('"csrf":"')[1].split('"')[0]
        body = {"consent": True, "code": f"load{number}", "culture": "korea", "years": 9.0}
        try:
            enrolled = (await insist("POST", "/api/enrol", json=body, headers={"X-CSRF-Token": csrf})).json()
        except AssertionError:
            # Enrolled, but the answer was lost in the outage: the code is taken. Come as somebody else.
            body["code"] = f"load{number}again"
            enrolled = (await insist("POST", "/api/enrol", json=body, headers={"X-CSRF-Token": csrf})).json()
        for page in enrolled["pages"][:pages]:
            await asyncio.sleep(rng.uniform(0.5, 1.5) * think)
            answers = {}
            for item in ITEMS:
                answers[item] = dict(zip(pictures[page], rng.sample(range(1, 5), 4), strict=True))
            await insist(
                "PUT",
                "/api/answers",
                json={"page": page, "answers": answers},
                headers={"X-CSRF-Token": enrolled["csrf"]},
            )
            for item, ranks in answers.items():
                acknowledged[body["code"], page, item] = ranks


async def crowd(
    server: Server,
    pictures: dict[str, list[str]],
    people: int,
    pages: int,
    arrive: float,
    think: float,
    kill_at: float,
) -> tuple[Log, Answers, list[float], float]:
    """Let everybody in, and cut the power in between."""
    log: Log = []
    acknowledged: Answers = {}
    outage: list[float] = []

    async def power_cut() -> None:
        await asyncio.sleep(kill_at)
        outage.append(time.monotonic())
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        outage.append(time.monotonic())

    jobs = [person(n, server, pictures, arrive, think, pages, log, acknowledged) for n in range(people)]
    start = time.monotonic()
    await asyncio.gather(power_cut(), *jobs)
    return log, acknowledged, outage, time.monotonic() - start


def run(database: str = "", people: int = 200, pages: int = 20, arrive: float = 60, think: float = 1) -> dict:
    """Run the load and return its figures.

    Args:
        database: URL of an empty database; a SQLite file by default.
        people: how many.
        pages: each sends.
        arrive: seconds within which they come.
        think: mean seconds between two pages of one person.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        page_table, form_table = make_pages(folder, prompts=8, each=5, pages=40, pages_per_participant=pages)
        pictures = shown(page_table)
        url = database or f"sqlite:///{folder / 'load.sqlite'}"
        with Server([page_table], [form_table], url) as server:
            log, acknowledged, outage, seconds = asyncio.run(
                crowd(server, pictures, people, pages, arrive, think, arrive / 2)
            )
            export = httpx.get(
                f"{server.url}/admin/answers.csv",
                headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
                timeout=60,
            )
    stored, rows = {}, list(csv.DictReader(io.StringIO(export.text)))
    for row in rows:
        stored.setdefault((row["participant"], row["page"], row["item"]), {})[row["picture"]] = int(
            row["rank"]
        )
    outside = [
        took * 1000
        for path, start, took, status in log
        if path == "/api/answers" and status == 200 and not (outage[0] - took <= start <= outage[1])
    ]
    outside = outside or [math.nan]  # a small load may have met nothing but the outage
    return {
        "people": people,
        "acknowledged": len(acknowledged),
        "lost": sum(stored.get(key) != ranks for key, ranks in acknowledged.items()),
        "stored_twice": len(rows) - sum(map(len, stored.values())),
        "refused_connections": sum(status == 0 for *_, status in log),
        "outage_s": round(outage[1] - outage[0], 1),
        "requests_measured": sum(map(math.isfinite, outside)),
        "p50_ms": round(float(np.percentile(outside, 50)), 1),
        "p99_ms": round(float(np.percentile(outside, 99)), 1),
        "max_ms": round(max(outside), 1),
        "seconds": round(seconds, 1),
    }


if __name__ == "__main__":
    app = cyclopts.App()
    app.default(run)
    print(json.dumps(app(result_action="return_value"), indent=1))
