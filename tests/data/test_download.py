"""Against a real server on this machine that behaves, stalls, lies and fails."""

import csv
import io
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from pipeline_steps.artifacts import IMAGES
from pipeline_steps.config import DataConfig
from pipeline_steps.data import download as module
from pipeline_steps.data.download import download
from pipeline_steps.data.ingest import ingest
from pipeline_steps.errors import UserError


def photo(seed: int, kind: str = "JPEG") -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC).save(buffer, kind)
    return buffer.getvalue()


class Server(BaseHTTPRequestHandler):
    """Answers by path; ``asked`` counts the requests, ``busy`` the answers still to fail."""

    asked: ClassVar[Counter] = Counter()
    busy: ClassVar[Counter] = Counter()

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, data: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(data))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        Server.asked[path] += 1
        if Server.busy[path] > 0:
            Server.busy[path] -= 1
            return self.answer(503, Retry_After="0")
        if path.startswith("/photo"):
            return self.answer(200, photo(int(path[6:])))
        if path == "/gone":
            return self.answer(404)
        if path == "/always-busy":
            return self.answer(429)
        if path == "/page":
            return self.answer(200, b"<!DOCTYPE html><html>sorry</html>", Content_Type="image/jpeg")
        if path == "/large":
            return self.answer(200, b"x" * 40_000)
        if path == "/endless":
            self.send_response(200)
            self.end_headers()
            for _ in range(1000):
                self.wfile.write(b"x" * 1000)
            return None
        if path == "/cut":
            return self.answer(200, photo(9)[:300], Content_Length="9999")
        if path == "/round":
            return self.answer(302, Location="/round")
        if path == "/away":
            return self.answer(302, Location="file:///etc/passwd")
        if path == "/moved":
            return self.answer(301, Location="/photo7")
        return self.answer(500)


@pytest.fixture
def server():
    Server.asked.clear()
    Server.busy.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def table(path: Path, urls: list[str], country: str = "KR") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["country_code", "category_code", "url", "caption", "created_at"])
        for index, url in enumerate(urls):
            rows.writerow([country, "FOOD", url, f"dish {index}, in korea", "2022-01-01"])
    return path


def run(links: Path, out: Path, **options):
    config = DataConfig(max_megabytes=0.03)
    download(links, out / "metadata.jsonl", out / "failures.csv", config, **({"pause": 0.01} | options))
    rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    with (out / "failures.csv").open(newline="", encoding="utf-8") as file:
        return rows, list(csv.DictReader(file))


FAULTS = {
    "/gone": ("no", "the server answers 404 Not Found", 1),
    "/always-busy": ("yes", "the server answers 429 Too Many Requests", 3),
    "/error": ("yes", "the server answers 500 Internal Server Error", 3),
    "/page": ("no", "is a web page, not a picture; download the picture itself", 1),
    "/large": ("no", "is larger than data.max_megabytes (0.03)", 1),
    "/endless": ("no", "is larger than data.max_megabytes (0.03)", 1),
    "/cut": ("yes", "cannot be reached (", 3),
    "/round": ("no", "cannot be fetched (TooManyRedirects", 6),
    "/away": ("no", "cannot be fetched (InvalidSchema", 1),
}


@pytest.mark.parametrize("path", FAULTS)
def test_dead_link_is_recorded_and_stops_nothing(server, tmp_path, path):
    may_pass, reason, attempts = FAULTS[path]
    rows, failed = run(
        table(tmp_path / "links.csv", [f"{server}{path}", f"{server}/photo1"]), tmp_path / "out"
    )
    assert [row["text"] for row in rows] == ["dish 1, in korea"]
    assert len(failed) == 1
    assert (failed[0]["line"], failed[0]["url"], failed[0]["may_pass"]) == ("2", f"{server}{path}", may_pass)
    assert failed[0]["reason"].startswith(reason)
    assert Server.asked[path] == attempts


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://x.org/a.jpg", "", "no address", "http://", "http://[::1"]
)
def test_odd_addresses_are_recorded(server, tmp_path, url):
    rows, failed = run(table(tmp_path / "links.csv", [url, f"{server}/photo1"]), tmp_path / "out")
    assert len(rows) == 1
    assert [row["url"] for row in failed] == [url]


def test_unreachable_server_is_recorded_as_passing(server, tmp_path):
    rows, failed = run(
        table(tmp_path / "l.csv", ["http://127.0.0.1:9/a.jpg", f"{server}/photo1"]), tmp_path / "out"
    )
    assert len(rows) == 1
    assert failed[0]["may_pass"] == "yes"
    assert failed[0]["reason"].startswith("cannot be reached (")


def test_stalling_server_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LONGEST", 0.0)
    with pytest.raises(UserError, match=r"none of 1 pictures could be fetched; first: takes longer than 0 s"):
        run(table(tmp_path / "l.csv", [f"{server}/photo1"]), tmp_path / "out")


def test_busy_server_is_asked_again(server, tmp_path):
    Server.busy["/photo1"] = 2
    rows, failed = run(table(tmp_path / "l.csv", [f"{server}/photo1"]), tmp_path / "out")
    assert (len(rows), failed, Server.asked["/photo1"]) == (1, [], 3)


def test_second_run_asks_only_for_what_is_missing(server, tmp_path):
    links = table(tmp_path / "l.csv", [f"{server}/photo1", f"{server}/photo2"])
    Server.busy["/photo2"] = 3
    rows, failed = run(links, tmp_path / "out")
    assert (len(rows), len(failed)) == (1, 1)
    rows, failed = run(links, tmp_path / "out")
    assert (len(rows), len(failed)) == (2, 0)
    assert Server.asked["/photo1"] == 1
    assert Server.asked["/photo2"] == 4
    assert not list((tmp_path / "out").rglob("*.part"))


def test_names_do_not_depend_on_the_place_in_the_table(server, tmp_path):
    urls = [f"{server}/photo{i}" for i in range(1, 4)]
    first, _ = run(table(tmp_path / "l.csv", urls), tmp_path / "out")
    again, _ = run(table(tmp_path / "l.csv", [f"{server}/moved", *urls[::-1]]), tmp_path / "out")
    assert [row["file_name"] for row in again[1:]] == [row["file_name"] for row in first[::-1]]
    assert len({row["file_name"] for row in again}) == 4


def test_only_the_country_asked_for(server, tmp_path):
    links = table(tmp_path / "l.csv", [f"{server}/photo1"], country="KR")
    assert len(run(links, tmp_path / "out", country="kr")[0]) == 1
    with pytest.raises(UserError, match="no row of 1 with country_code 'ng'; mend the table or 'country'"):
        run(links, tmp_path / "out", country="ng")


@pytest.mark.parametrize(
    "text, line",
    [
        (
            "link,caption\nx,y\n",
            r"no column 'url' \(there are: link, caption\); rename the one with the links",
        ),
        ("url,caption\n", "no row; mend the table"),
        ("", "no row; mend the table"),
    ],
)
def test_table_that_cannot_be_understood_is_refused(tmp_path, text, line):
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(UserError, match=line):
        run(tmp_path / "l.csv", tmp_path / "out")


def test_what_was_fetched_can_be_ingested(server, tmp_path):
    run(
        table(tmp_path / "l.csv", [f"{server}/photo{i}" for i in range(4)] + [f"{server}/gone"]),
        tmp_path / "out",
    )
    images = tmp_path / "images.parquet"
    ingest(tmp_path / "out/metadata.jsonl", images, "korea", ", in korea", 1, DataConfig(resolution=32))
    rows = IMAGES.read(images)
    assert len(rows) == 4
    assert {(row["category"], row["source"].rsplit("/", 1)[0]) for row in rows} == {("FOOD", server)}
    assert json.loads(rows[0]["extra"]) == {"country_code": "KR", "created_at": "2022-01-01"}
