"""Against a real server on this machine that behaves, stalls, lies and fails."""

import csv
import hashlib
import io
import json
import socket
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from pipeline_steps.artifacts import FINDINGS, IMAGES
from pipeline_steps.config import DataConfig
from pipeline_steps.data import fetching as module
from pipeline_steps.data.download import download
from pipeline_steps.data.ingest import ingest
from pipeline_steps.data.public_web import PrivateAddressError, checked_addresses, is_public
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
    told: ClassVar[list[str]] = []

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
        Server.told += [self.headers[name] for name in ("Authorization", "Cookie") if name in self.headers]
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
        if path == "/inside":
            return self.answer(302, Location=f"http://127.0.0.1:{self.server.server_port}/photo8")
        if path == "/named":
            return self.answer(302, Location=f"http://u:secret@localhost:{self.server.server_port}/photo8")
        if path == "/rude":
            self.send_response(404, "\x1b[31mgone\x07\x9b" + "x" * 500)
            return self.end_headers()
        return self.answer(500)


@pytest.fixture
def server():
    Server.asked.clear()
    Server.busy.clear()
    Server.told.clear()
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


def run(links: Path, out: Path, hosts=("127.0.0.1",), **options):
    config = DataConfig(max_megabytes=0.03, allowed_hosts=hosts)
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


def test_a_table_may_name_files_and_sources_of_its_own(server, tmp_path):
    """The picture lies under our name; what its owner says of its source stays beside the link."""
    (tmp_path / "l.csv").write_text(
        f"file_name,source,url,caption\nmarket.jpg,Ann's album,{server}/photo1,a market\n"
        f"house.jpg,,{server}/photo2,a house\n"
    )
    rows, failed = run(tmp_path / "l.csv", tmp_path / "out")
    assert not failed and all((tmp_path / "out" / row["file_name"]).is_file() for row in rows)
    first, second = rows
    assert (first["source"], first["link"]) == ("Ann's album", f"{server}/photo1")
    assert second["source"] == f"{server}/photo2" and "link" not in second


# --- pictures that somebody wants left out ---------------------------------------------------

OUT = "is withdrawn or refused; left out"
UNCLEAR = "its consent is 'pending', no clear yes; write yes once it is given"


def asked_for(path: Path, server: str, answers: list[tuple[str, str]]) -> Path:
    lines = [f"{server}/{photo},a dish,{answer}\n" for photo, answer in answers]
    path.write_text("url,caption,Consent\n" + "".join(lines))
    return path


@pytest.mark.parametrize("required", [False, True])
def test_what_is_no_yes_is_not_fetched(server, tmp_path, required, caplog):
    answers = [("photo1", "no"), ("photo2", "pending"), ("photo3", "yes"), ("photo4", ""), ("photo5", "yes")]
    links = asked_for(tmp_path / "l.csv", server, [*answers, ("photo5", "Refused.")])
    config = DataConfig(allowed_hosts=("127.0.0.1",), require_consent=required)
    caplog.set_level("INFO")
    download(links, tmp_path / "metadata.jsonl", tmp_path / "failures.csv", config)
    assert sorted(Server.asked) == ["/photo3"] + ["/photo4"] * (not required)
    with (tmp_path / "failures.csv").open(newline="") as file:
        reasons = {(row["line"], row["reason"]) for row in csv.DictReader(file)}
    empty = {("5", "has no consent (data.require_consent); write yes once it is given")}
    assert reasons == {("2", OUT), ("3", UNCLEAR), ("6", OUT), ("7", OUT)} | (empty if required else set())
    assert f"{2 - required} pictures, 3 withdrawn or refused, {1 + required} not fetched" in caplog.text


@pytest.mark.parametrize("called", ["name", "NAME", "path", "stem", "sha256", "consent", "withdrawn by hand"])
def test_what_is_withdrawn_is_deleted_and_does_not_come_back(server, tmp_path, called):
    answers = [("photo1", ""), ("photo1?copy", ""), ("photo2", ""), ("photo3", "")]
    links, out = asked_for(tmp_path / "l.csv", server, answers), tmp_path / "out"
    first = Path(run(links, out)[0][0]["file_name"])
    listed = tmp_path / "withdrawn.txt"
    names = {"path": str(first), "stem": first.stem, "sha256": hashlib.sha256(photo(1)).hexdigest()}
    names |= {"name": first.name, "NAME": first.name.upper()}
    listed.write_text(names.get(called, first.name if called == "withdrawn by hand" else "# nobody"))
    if called == "consent":
        asked_for(links, server, [("photo1", "no"), *answers[1:]])
    if called == "withdrawn by hand":
        (out / first).unlink()
    for _ in range(2):
        rows, failed = run(links, out, withdrawn=listed)
        left = [f"{server}/photo1?copy"] * (called == "withdrawn by hand")  # nothing to compare it with
        assert [row["source"] for row in rows] == [*left, f"{server}/photo2", f"{server}/photo3"]
        assert {row["reason"] for row in failed} == {OUT}
        assert len(list((out / "pictures").iterdir())) == len(rows)
    images, found = tmp_path / "images.parquet", tmp_path / "findings.parquet"
    config = DataConfig(resolution=32)
    ingest(out / "metadata.jsonl", images, "korea", ", in korea", 1, config, findings=found, withdrawn=listed)
    to_mend = [row["line"] for row in FINDINGS.rows(found) if "spelling" in row["line"]]
    # A bare sum, and a name that by chance ends in decimal digits alone, may be mistyped.
    by_chance = first.stem.rpartition("_")[2].isdigit() and called != "consent"
    assert len(to_mend) == (called == "sha256" or by_chance)


def test_an_unclear_answer_deletes_nothing_and_ingest_names_it(server, tmp_path):
    links, out = (
        asked_for(tmp_path / "l.csv", server, [(f"photo{i}", "") for i in range(3)]),
        tmp_path / "out",
    )
    run(links, out)
    asked_for(links, server, [("photo0", "pending"), ("photo1", ""), ("photo2", "")])
    rows, failed = run(links, out)
    assert (len(rows), failed, max(Server.asked.values())) == (3, [], 1)
    images, found = tmp_path / "images.parquet", tmp_path / "findings.parquet"
    config = DataConfig(resolution=32)
    ingest(out / "metadata.jsonl", images, "korea", ", in korea", 1, config, findings=found)
    assert (len(IMAGES.read(images)), UNCLEAR in {row["line"] for row in FINDINGS.rows(found)}) == (2, True)


# --- addresses that are nobody's business -----------------------------------------------------

LOOPBACK = (
    *(
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0",
        "0.0.0.0",
        "localhost",
        "127.9.9.9",
    ),
    *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "127.0.0.1.", "127.9.9.9", "①②⑦.⓪.⓪.①"),
)


@pytest.mark.parametrize("spelling", LOOPBACK)
def test_this_machine_is_not_asked_in_any_spelling(server, tmp_path, spelling):
    url = server.replace("127.0.0.1", spelling) + "/photo1"
    with pytest.raises(UserError, match="none of 1 pictures") as error:
        run(table(tmp_path / "l.csv", [url]), tmp_path / "out", hosts=())
    assert "private address" in str(error.value) or "first: cannot be " in str(error.value)
    assert not Server.asked


def test_the_setting_allows_a_host_by_its_name_alone(server, tmp_path):
    named = server.replace("127.0.0.1", "localhost")
    links = table(tmp_path / "l.csv", [f"{server}/photo1", f"{named}/photo2", f"{named}/inside"])
    rows, failed = run(links, tmp_path / "out", hosts=("LocalHost",))
    assert [row["source"] for row in rows] == [f"{named}/photo2"]
    assert {row["url"]: row["reason"] for row in failed} == dict.fromkeys(
        [f"{server}/photo1", f"{named}/inside"],
        "leads to the private address 127.0.0.1; if that is meant, name '127.0.0.1' in data.allowed_hosts",
    )
    assert {row["may_pass"] for row in failed} == {"no"}
    assert Server.asked == {"/photo2": 1, "/inside": 1}


@pytest.mark.parametrize(
    "address, public",
    [
        ("93.184.216.34", True), ("2606:2800:220:1::1", True), ("::ffff:93.184.216.34", True),
        ("10.0.0.1", False), ("172.16.5.4", False), ("192.168.1.1", False), ("169.254.169.254", False),
        ("100.64.0.1", False), ("0.0.0.0", False), ("224.0.0.1", False), ("240.0.0.1", False),
        ("255.255.255.255", False), ("192.0.2.1", False), ("198.18.0.1", False),
        ("::1", False), ("::", False),
        ("fe80::1%eth0", False), ("fc00::1", False), ("ff02::1", False), ("::ffff:10.0.0.1", False),
        ("::ffff:a9fe:a9fe", False), ("2002:7f00:1::", False), ("64:ff9b::a00:1", False),
        ("::127.0.0.1", False),
    ],
)  # fmt: skip
def test_which_addresses_are_public(address, public):
    assert is_public(address) is public


def test_a_name_is_resolved_once_and_that_address_is_asked(server, tmp_path, monkeypatch):
    """A name may lead elsewhere the second time (DNS rebinding)."""
    asked, real = [], socket.getaddrinfo

    def resolve(host, port, *args, **kwargs):
        if host != "pictures.example":
            return real(host, port, *args, **kwargs)
        asked.append(host)
        return real("127.0.0.1" if len(asked) == 1 else "127.0.0.2", port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    url = server.replace("127.0.0.1", "pictures.example")
    rows, _ = run(table(tmp_path / "l.csv", [f"{url}/photo1"]), tmp_path / "out", hosts=("pictures.example",))
    assert (len(rows), asked) == (1, ["pictures.example"])
    with pytest.raises(UserError, match=r"leads to the private address 127\.0\.0\.2"):
        run(table(tmp_path / "l.csv", [f"{url}/photo2"]), tmp_path / "out", hosts=())


def test_one_private_address_among_public_ones_is_enough(monkeypatch):
    found = [(2, 1, 6, "", (address, 80)) for address in ("93.184.216.34", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(PrivateAddressError, match=r"10\.0\.0\.1"):
        checked_addresses("x.org", 80, ())


def test_behind_a_proxy_the_address_is_checked_before(server, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", server)
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(UserError, match=r"leads to the private address 127\.0\.0\.1"):
        run(table(tmp_path / "l.csv", [f"{server}/photo1"]), tmp_path / "out", hosts=())
    assert not Server.asked


def test_credentials_are_neither_sent_nor_stored(server, tmp_path, monkeypatch, caplog):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login u password secret\nmachine localhost login u password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    begin = server.replace("http://", "http://user:se%40cret@")
    urls = [
        f"{begin}/photo1",
        f"{begin}/gone",
        f"{begin}/named",
        f"{server}/photo2",
        "ftp://u:secret@x.org/a",
    ]
    rows, failed = run(table(tmp_path / "l.csv", urls), tmp_path / "out", hosts=("127.0.0.1", "localhost"))
    assert [row["source"] for row in rows] == [f"{server}/{name}" for name in ("photo1", "named", "photo2")]
    assert [row["url"] for row in failed] == [f"{server}/gone", "ftp://x.org/a"]
    assert Server.told == []
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").glob("*.*"))
    assert b"cret" not in written
    assert "cret" not in caplog.text


def test_what_servers_say_is_printed_without_control_characters(server, tmp_path, caplog):
    _, ((failed),) = run(table(tmp_path / "l.csv", [f"{server}/rude", f"{server}/photo1"]), tmp_path / "out")
    assert failed["reason"].startswith("the server answers 404 [31mgone xxx")
    assert len(failed["reason"]) < 120
    assert failed["reason"].isprintable()
    assert not any(character in caplog.text for character in "\x1b\x07\x9b")


def test_a_table_of_links_as_excel_saves_it(server, tmp_path):
    path = tmp_path / "l.csv"
    path.write_bytes(f"sep=;\r\nURL;Caption\r\n{server}/photo1;a café, in korea\r\n".encode("cp1252"))
    (row,), _ = run(path, tmp_path / "out")
    assert row["text"] == "a café, in korea"
