"""The collection under attack: hostile uploads, private addresses, a power cut, a full disk."""

import io
import re
import shutil
import struct
import subprocess
import sys
import threading
import uuid
import zlib
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from pipeline_steps.data.collection.app import create_app
from tests import ROOT
from tests.data.collection_world import Curator, Person, Server, make_site, photo

SCRIPT = b"<script>alert(document.cookie)</script>"
MARKS = re.compile(rb"<script|<svg|<html|PK\x03\x04|%PDF|javascript:|#!/bin", re.IGNORECASE)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *chunks, depth=8, colour=2, data=b""):
    """A PNG that says of itself what it likes."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(data, 9))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + body + chunk(b"IEND", b"")


def bombs():
    for side in (5_000, 20_000, 60_000, 2**31 - 1):
        yield png(side, side)
        yield png(side, 1, data=b"\0" * 10)
        yield (
            b"GIF89a" + struct.pack("<HH", side % 65536, side % 65536) + b"\x80\0\0\0\0\0\xff\xff\xff" + b",;"
        )
    whole = Image.new("1", (20_000, 10_000))  # 200 megapixels in a few kilobytes
    buffer = io.BytesIO()
    whole.save(buffer, "PNG")
    yield buffer.getvalue()
    for size in (10**6, 10**8):
        yield png(64, 64, chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * size)), data=b"\0" * 20_000)
        yield png(64, 64, chunk(b"iCCP", b"x\0\0" + zlib.compress(b"\0" * size)), data=b"\0" * 20_000)
    frames = [Image.fromarray(np.full((40, 40), n, np.uint8)) for n in range(200)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    yield buffer.getvalue()
    yield png(4000, 4000, data=b"\0" * 100)  # much announced, little there


def polyglots():
    tails = [
        SCRIPT,
        b"<html>" + SCRIPT,
        b"PK\x03\x04" + b"\0" * 60,
        b"%PDF-1.7\n" + SCRIPT,
        b"#!/bin/sh\nid\n",
        b"\0" * 5000,
    ]
    for n, kind in enumerate(("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP")):
        for tail in tails:
            yield photo(100 + n, kind=kind) + tail
    yield b"GIF89a/*" + b"\0" * 20 + b"*/=1;alert(1)"
    comment = b"*/" + SCRIPT + b"/*"
    yield photo(107, comment=comment)
    yield photo(108, kind="GIF", comment=comment)


def foreign():
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)">' + SCRIPT + b"</svg>"
    entity = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + svg
    heads = (
        b"\xff\xd8\xff\xe0\0\x10JFIF\0",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"RIFF\0\0\0\0WEBP",
        b"II*\0",
        b"BM",
    )
    for body in (
        svg,
        entity,
        b"<!doctype html>" + SCRIPT,
        b"%PDF-1.4",
        b"%!PS\n(file) run",
        b"PK\x03\x04",
        b"\x7fELF",
        b"MZ",
    ):
        yield body
        yield from (head + body for head in heads)
    yield b""
    yield b"\0"
    yield b"\xff\xd8\xff\xd9"


def cut_short():
    for kind in ("JPEG", "PNG", "WEBP", "GIF"):
        whole = photo(120, kind=kind)
        yield from (whole[: len(whole) * part // 10] for part in range(1, 10))


def described():
    """EXIF, names and comments with scripts, and profiles that are none."""
    for n, tag in enumerate((0x010E, 0x010F, 0x0131, 0x013B, 0x8298, 0x9286, 0x0112)):
        exif = Image.Exif()
        exif[tag] = 99 if tag == 0x0112 else SCRIPT.decode() * 20
        yield photo(130 + n, exif=exif)
    for n, profile in enumerate((b"junk", SCRIPT, b"\0" * 200)):
        yield photo(140 + n, icc_profile=profile)


def mutated():
    whole = photo(150)
    for n in range(45):
        random = np.random.default_rng(n)
        data = bytearray(whole)
        for at in random.integers(0, len(data), 12):
            data[at] = random.integers(256)
        yield bytes(data)


HOSTILE = [*bombs(), *polyglots(), *foreign(), *cut_short(), *described(), *mutated()]


@pytest.fixture
def world(tmp_path):
    """A served collection with one contributor."""

    class World:
        site = make_site(tmp_path / "inside")
        app = create_app(site)

        def person(self, site=None):
            link = self.site.store.invite("", "2030").result()[1]
            return Person(TestClient(self.app), link)

    with TestClient(World.app):
        yield World()


def test_two_hundred_hostile_uploads_are_refused_or_made_harmless(world, tmp_path):
    assert len(HOSTILE) >= 200
    people = [world.person() for _ in range(2)]

    def give(n):
        return people[n % 2].send(HOSTILE[n], uuid.uuid4().hex)

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(give, range(len(HOSTILE))))
    assert {answer.status_code for answer in answers} <= {200, 409, 422}
    taken = [answer.json()["picture"] for answer in answers if answer.status_code == 200]
    assert 40 < len(taken) < 110, "what is a picture at all is taken, and nothing else"
    home = world.site.folder.home
    for path in [*home.glob("pictures/*"), *home.glob("previews/*")]:
        data = path.read_bytes()
        assert re.fullmatch(r"[0-9a-f]{32}\.jpg", path.name)
        assert Image.open(io.BytesIO(data)).format == "JPEG"
        assert not MARKS.search(data) and b"Exif" not in data
    assert list((home / "incoming").iterdir()) == [] and list((home / "originals").iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"inside"}
    for person in people:
        for picture in person.pictures():
            shown = person.client.get(f"/pictures/{picture}")
            assert shown.headers["content-type"] == "image/jpeg"
            assert shown.headers["x-content-type-options"] == "nosniff"
            assert "default-src 'none'" in shown.headers["content-security-policy"]
    assert world.person().send(photo(1)).status_code == 200, "and it goes on"


@pytest.mark.parametrize(
    "name", ["../../../../etc/cron.d/x0", "..%2f..%2fpasswd0000000", "a/b/c/d/e/f/g/h/i/j", "x" * 65, ""]
)
def test_names_with_paths_lead_nowhere(world, name, tmp_path):
    person = world.person()
    answer = person.post(
        "/api/pictures", params={"upload": name}, content=photo(1),
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )  # fmt: skip
    assert answer.status_code == 422
    for path in (
        f"/pictures/{name}",
        "/pictures/..%2f..%2fcollection.sqlite",
        "/curator/pictures/..%2fcurator",
    ):
        assert (
            person.client.get(path).status_code in (401, 404, 200)
            and b"SQLite" not in person.client.get(path).content
        )
    assert not list(tmp_path.rglob("*passwd*")) and person.pictures() == {}


def test_text_of_contributors_is_never_markup(world):
    person = world.person()
    person.give(
        photo(1),
        caption=f"{SCRIPT.decode()} in Wales",
        remark="<img src=x onerror=alert(1)>",
        author="</script>",
    )
    curator = Curator(TestClient(world.app), world.site.secret.value)
    page = curator.client.get("/curator")
    assert (
        SCRIPT.decode() not in page.text and "&lt;script&gt;" in page.text and "<img src=x" not in page.text
    )
    policy = page.headers["content-security-policy"]
    assert "script-src 'nonce-" in policy and "unsafe-inline" not in policy


def test_decoding_is_ended_when_it_takes_too_long(tmp_path):
    site = make_site(tmp_path, seconds=0.001)
    with TestClient(create_app(site)) as client:
        person = Person(client, site.store.invite("", "2030").result()[1])
        answer = person.send(photo(1, (4000, 3000)))  # a small one might be done before anybody looks
        assert answer.status_code == 422 and "takes too long" in answer.json()["detail"]


class Elsewhere(BaseHTTPRequestHandler):
    """A server of somebody else's, on this very machine."""

    def do_GET(self):
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/photo")
        else:
            self.send_response(200 if self.path != "/gone" else 404)
        self.end_headers()
        self.wfile.write(
            {"/photo": photo(7), "/page": b"<html>", "/large": b"\0" * 3_000_000}.get(self.path, b"")
        )

    def log_message(self, *_):
        pass


@pytest.fixture
def elsewhere():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()


def fetch(person, url):
    return person.post("/api/links", json={"upload": uuid.uuid4().hex, "url": url})


def test_a_link_gives_its_picture(world, elsewhere):
    world.site.allowed_hosts = ("127.0.0.1",)
    person = world.person()
    answer = fetch(person, f"http://name:password@{elsewhere}/photo")
    assert answer.status_code == 200 and answer.json()["link"] == f"http://{elsewhere}/photo"
    for path in ("gone", "large"):
        assert fetch(person, f"http://{elsewhere}/{path}").json()["reason"] == "link"
    assert fetch(person, f"http://{elsewhere}/page").json()["reason"] == "unusable"
    assert len(person.pictures()) == 1 and world.site.fetching == set()


@pytest.mark.parametrize(
    "url",
    ["http://{}/photo", "http://{}/moved", "http://localhost/x", "http://[::1]/x", "http://169.254.169.254/latest/meta-data",
     "http://10.0.0.1/", "http://2130706433/", "file:///etc/passwd", "ftp://{}/photo", "gopher://x", "", "http://"],
)  # fmt: skip
def test_an_address_of_the_own_network_is_not_asked(world, elsewhere, url):
    answer = fetch(world.person(), url.format(elsewhere))
    assert (answer.status_code, answer.json()) == (422, {"detail": "link", "reason": "link"})


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_nothing_acknowledged_is_lost_in_a_power_cut(tmp_path, store, request):
    """Four people, killed in the middle; each goes on as the page does."""
    other = ["--database", request.getfixturevalue("postgres").database()] if store == "postgresql" else []
    with Server(tmp_path / "site", "--invite", "4", *other) as server:
        given, killed = {}, threading.Event()
        begun, done = threading.Barrier(4, timeout=300), threading.Barrier(4, timeout=300)

        def person(link, number):
            with httpx.Client(base_url=server.url, timeout=120) as client:
                one = Person(client, link)
                begun.wait()  # the power is cut while they give
                for n in range(4):
                    data, upload = photo(100 * number + n, (600, 450)), uuid.uuid4().hex
                    while True:
                        try:
                            answer = one.send(data, upload)
                            if answer.status_code == 200:
                                break
                        except httpx.TransportError:
                            killed.wait(300)
                    given[upload] = answer.json()["picture"]
                    if len(given) == 5:
                        server.kill()
                        server.start()
                        killed.set()
                done.wait()
                return one.name, one.pictures()

        with ThreadPoolExecutor(4) as pool:
            found = dict(pool.map(person, server.links(), range(4)))
        kept = [picture for own in found.values() for picture in own]
        assert killed.is_set() and sorted(kept) == sorted(given.values()) and len(set(kept)) == 16
        home = server.data.with_name("wales.collection")
        assert len(list(home.glob("pictures/*"))) == len(list(home.glob("previews/*"))) == 16
        assert list((home / "incoming").iterdir()) == []


def test_a_disk_that_is_nearly_full_is_said_in_one_line(tmp_path):
    site = make_site(tmp_path, reserve=1e18)
    with TestClient(create_app(site)) as client:
        answer = Person(client, site.store.invite("", "2030").result()[1]).send(photo(1))
    assert answer.status_code == 507
    assert answer.json() == {"detail": "the server's disk is full; nothing was stored", "reason": "full"}


FULL_DISK = """
import sys
from pathlib import Path
from starlette.testclient import TestClient
from pipeline_steps.data.collection.app import create_app
from tests.data.collection_world import Person, make_site, photo

site = make_site(Path(sys.argv[1]))
with TestClient(create_app(site)) as client:
    person = Person(client, site.store.invite("", "2030").result()[1])
    codes = []
    while len(codes) < 60 and 507 not in codes:
        codes.append(person.send(photo(len(codes), (900, 700), quality=100)).status_code)
    kept = person.pictures()
    assert codes[-1] == 507 and set(codes[:-1]) == {200} and len(kept) == len(codes) - 1, codes
    assert all(person.client.get(f"/pictures/{one}").status_code == 200 for one in kept)
    person.withdraw(next(iter(kept)))
    assert person.send(photo(99, (200, 150))).status_code == 200
print("went full after", len(kept))
"""


def test_a_full_disk_loses_nothing(tmp_path):
    inside = ["sh", "-c", 'mount -t tmpfs -o size=3m tmpfs "$1" && exec "$2" -c "$4" "$1"', "sh"]
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"]).returncode:
        pytest.skip("no mount of one's own here: unshare -rm")
    (tmp_path / "disk").mkdir()
    found = subprocess.run(
        ["unshare", "-rm", *inside, tmp_path / "disk", sys.executable, "-c", FULL_DISK],
        capture_output=True, text=True, cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin:/usr/sbin"},
    )  # fmt: skip
    assert found.returncode == 0 and "went full after" in found.stdout, found.stdout + found.stderr
