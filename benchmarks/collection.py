"""Load on the collection: many people giving pictures of 12 megapixels, killed by SIGKILL and started again.

python -m benchmarks.collection [--people 20] [--pictures 25] [--side 4000]

Every acknowledged picture must be stored, once. A further telephone opens its page meanwhile; its times are
those outside the outage, which lasts from the kill until the server answers again. Then the curator's page is
opened with all of them.
"""

import asyncio
import io
import json
import math
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import cyclopts
import httpx
import numpy as np
from PIL import Image

from tests.data.collection_world import DETAILS, Curator, Server

TOGETHER = 10
"""People who send at the same time."""


def photograph(side: int, seed: int) -> bytes:
    """A picture with the ratio and about the bytes of a telephone's, no two alike."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (60, 80, 3), dtype=np.uint8))
    picture = np.asarray(coarse.resize((side, side * 3 // 4), Image.Resampling.BICUBIC)).astype(np.int16)
    tile = random.integers(-12, 13, (97, 101, 1), dtype=np.int16)
    rows, columns = -(-picture.shape[0] // 97), -(-picture.shape[1] // 101)
    picture += np.tile(tile, (rows, columns, 1))[: picture.shape[0], : picture.shape[1]]
    buffer = io.BytesIO()
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


class Load:
    """What the people do, and what became of it."""

    def __init__(self, server: Server, photographs: list[bytes], pictures: int) -> None:
        self.server, self.photographs, self.pictures = server, photographs, pictures
        self.acknowledged: dict[str, str] = {}
        self.stored: list[str] = []
        self.outage: list[float] = []
        self.sending, self.waits, self.uploads = asyncio.Semaphore(TOGETHER), [], []

    async def insist(self, client: httpx.AsyncClient, method: str, path: str, **more: Any) -> Any:
        """As the page does: try again until the server acknowledges."""
        while True:
            try:
                answer = await client.request(method, path, **more)
                if answer.status_code < 400:
                    return answer
                assert answer.status_code in (408, 429, 503), answer.text
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.5)

    async def enter(self, client: httpx.AsyncClient, link: str) -> dict[str, str]:
        """Come in and agree; return the headers of what follows."""
        text = (await self.insist(client, "GET", "/")).text
        head = {"X-CSRF-Token": text.split('"csrf":"')[1].split('"')[0]}
        entered = await self.insist(client, "POST", "/api/enter", json={"link": link}, headers=head)
        head = {"X-CSRF-Token": entered.json()["csrf"]}
        consent = entered.json()["consent"]["en"]["sha256"]
        body = {"agreed": True, "consent": consent, "years": 9.0, "affiliation": "", "language": "en"}
        await self.insist(client, "PUT", "/api/me", json=body, headers=head)
        return head

    async def person(self, number: int, link: str) -> None:
        """Give every picture, and describe it."""
        async with httpx.AsyncClient(base_url=self.server.url, timeout=300) as client:
            head = await self.enter(client, link)
            for n in range(self.pictures):
                data, upload = self.photographs[number * self.pictures + n], uuid.uuid4().hex
                async with self.sending:
                    start = time.monotonic()
                    path = f"/api/pictures?upload={upload}"
                    answer = (await self.insist(client, "POST", path, content=data, headers=head)).json()
                    self.uploads.append(time.monotonic() - start)
                self.acknowledged[upload] = answer["picture"]
                details = DETAILS | {"caption": f"scene {n} of {number}, in Wales"}
                path = f"/api/pictures/{answer['picture']}"
                await self.insist(client, "PUT", path, json=details, headers=head)
            me = (await self.insist(client, "GET", "/api/me")).json()
            self.stored += [one["picture"] for one in me["pictures"]]

    async def telephone(self, link: str, done: asyncio.Event) -> None:
        """Open the page, and ask where one stands, while the others send."""
        async with httpx.AsyncClient(base_url=self.server.url, timeout=60) as client:
            await self.enter(client, link)
            while not done.is_set():
                start = time.monotonic()
                await self.insist(client, "GET", "/")
                await self.insist(client, "GET", "/api/me")
                self.waits.append((start, time.monotonic() - start))
                await asyncio.sleep(1)

    async def power_cut(self, after: int) -> None:
        """Cut the power once so many pictures are acknowledged."""
        while len(self.acknowledged) < after:
            await asyncio.sleep(0.05)
        self.outage.append(time.monotonic())
        await asyncio.to_thread(self.server.kill)
        await asyncio.to_thread(self.server.start)
        self.outage.append(time.monotonic())

    async def run(self, links: list[str]) -> None:
        """Let everybody give, and cut the power in between."""
        done = asyncio.Event()
        telephone = asyncio.create_task(self.telephone(links[-1], done))
        cut = asyncio.create_task(self.power_cut(len(self.photographs) // 2))
        await asyncio.gather(*(self.person(n, link) for n, link in enumerate(links[:-1])))
        await cut
        done.set()
        await telephone


def curators_page(server: Server, times: int = 5) -> tuple[int, float]:
    """Return how many pictures the curator's page has, and its median seconds."""
    with httpx.Client(base_url=server.url, timeout=60) as client:
        page = Curator(client, server.key()).reply.text
        took = []
        for _ in range(times):
            start = time.monotonic()
            client.get("/curator").raise_for_status()
            took.append(time.monotonic() - start)
    return page.count('<article class="card"'), float(np.median(took))


def run(people: int = 20, pictures: int = 25, side: int = 4000) -> dict[str, Any]:
    """Run the load and return its figures.

    Args:
        people: who give.
        pictures: of each.
        side: longer side of the pictures in pixels; 4000 are 12 megapixels.
    """
    photographs = [photograph(side, n) for n in range(people * pictures)]
    with tempfile.TemporaryDirectory() as name, Server(Path(name), "--invite", str(people + 1)) as server:
        links = server.links()
        load = Load(server, photographs, pictures)
        start = time.monotonic()
        asyncio.run(load.run(links))
        seconds = time.monotonic() - start
        home = server.data.with_name("wales.collection")
        files = len(list(home.glob("pictures/*")))
        shown, page = curators_page(server)
    began, ended = load.outage
    waits = [took for at, took in load.waits if not (began - took <= at <= ended)]
    waits = waits or [math.nan]  # a small load may have met nothing but the outage
    return {
        "people": people,
        "acknowledged": len(load.acknowledged),
        "lost": len(set(load.acknowledged.values()) - set(load.stored)),
        "stored_twice": len(load.stored) - len(set(load.stored)) + files - len(load.acknowledged),
        "megabytes_each": round(float(np.mean([len(data) for data in photographs])) / 1e6, 1),
        "outage_s": round(ended - began, 1),
        "upload_p50_s": round(float(np.median(load.uploads)), 1),
        "page_p50_s": round(float(np.median(waits)), 2),
        "page_p95_s": round(float(np.percentile(waits, 95)), 2),
        "curators_page_pictures": shown,
        "curators_page_p50_s": round(page, 2),
        "seconds": round(seconds, 1),
    }


if __name__ == "__main__":
    app = cyclopts.App()
    app.default(run)
    print(json.dumps(app(result_action="return_value"), indent=1))
