"""The server over HTTP: what it stores, what it refuses, and a power cut, on SQLite and PostgreSQL."""

import csv
import io
import os
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import httpx
import psycopg
import pyarrow.parquet as pq
import pytest
from sqlalchemy.exc import SQLAlchemyError

from pipeline_steps.artifacts import ANSWERS
from pipeline_steps.config import SurveyConfig
from pipeline_steps.errors import UserError
from pipeline_steps.survey.server.__main__ import read_codes
from pipeline_steps.survey.server.app import LONGEST_BODY, create_app
from pipeline_steps.survey.server.contents import load_survey
from pipeline_steps.survey.server.store import Store, TakenError
from pipeline_steps.survey.shown import ITEMS
from pipeline_steps.survey.survey_import import survey_import
from pipeline_steps.survey.wording import read_wording
from tests.survey.survey_world import Server, dealt, make_pages, shown

ADMIN = {"Authorization": "Bearer secret"}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    return [make_pages(folder, culture) for culture in ("india", "korea")]


def pages_and_forms(tables):
    return [pages for pages, _ in tables], [forms for _, forms in tables]


@pytest.fixture(scope="module")
def postgres():
    """A PostgreSQL of our own: found on PATH or where Debian puts it."""
    found = [shutil.which("initdb"), *map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
    programs = next((Path(path).resolve().parent for path in found if path), None)
    if programs is None:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    # Not in pytest's folder: a socket's path is short, and the user postgres must reach it.
    folder = Path(tempfile.mkdtemp(prefix="survey"))
    # It refuses to run as root; Debian's package brings the user postgres.
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if user:
        shutil.chown(folder, "postgres")
    data = folder / "data"

    def call(*command):
        subprocess.run([*user, *map(str, command)], check=True, stdout=subprocess.DEVNULL, cwd="/")

    call(programs / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C")
    flags = f"-c listen_addresses='' -k {folder}"
    call(programs / "pg_ctl", "-D", data, "-o", flags, "-w", "-l", folder / "log", "start")

    class Postgres:
        names = 0

        def database(self):
            self.names += 1
            with psycopg.connect(f"host={folder} user=postgres", autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE survey{self.names}")
            return f"postgresql+psycopg://postgres@/survey{self.names}?host={folder}"

        def crash(self):
            """Stop as in a power cut, and start again."""
            call(programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
            call(programs / "pg_ctl", "-D", data, "-o", flags, "-w", "-l", folder / "log", "start")

    yield Postgres()
    call(programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'survey.sqlite'}"
    return request.getfixturevalue("postgres").database()


class Person:
    """A browser without its window."""

    def __init__(self, url, code="", culture="korea", **more):
        self.client = httpx.Client(base_url=url, timeout=20)
        page = self.client.get("/")
        self.csrf = page.text.split('"csrf":"')[1].split('"')[0]
        body = {"consent": True, "code": code, "culture": culture, "years": 12.0, **more}
        self.reply = self.client.post("/api/enrol", json=body, headers=self.head)
        if self.reply.status_code == 200:
            self.csrf = self.reply.json()["csrf"]

    @property
    def head(self):
        return {"X-CSRF-Token": self.csrf}

    def put(self, page, answers, **head):
        return self.client.put(
            "/api/answers", json={"page": page, "answers": answers}, headers=self.head | head
        )

    def me(self):
        return self.client.get("/api/me").json()


def ranks(pictures, order=(1, 2, 3, 4)):
    return dict(zip(pictures, order, strict=True))


def test_answers_are_kept_through_a_kill_and_exported(tables, database, tmp_path):
    pages, forms = pages_and_forms(tables)
    with Server(pages, forms, database) as server:
        people = [Person(server.url, culture=culture) for culture in ("korea", "korea", "korea", "india")]
        state = [person.reply.json() for person in people]
        korea = dealt(forms[1])
        # Forms take turns within a culture.
        assert [s["pages"] for s in state[:3]] == [korea[0], korea[1], korea[0]]
        assert state[3]["pages"] == dealt(forms[0])[0]
        pictures = shown(pages[1]) | shown(pages[0])
        for turn, (person, s) in enumerate(zip(people, state, strict=True)):
            order = [(turn + n) % 4 + 1 for n in range(4)]
            page = s["pages"][0]
            answers = {item: ranks(pictures[page], order) for item in ITEMS} | {"stereotypes": None}
            assert person.put(page, answers).json() == {"stored": 4}
            assert person.put(page, answers).status_code == 200  # sent again: stored once
        server.kill()
        server.start()
        for turn, (person, s) in enumerate(zip(people, state, strict=True)):
            page = s["pages"][0]
            kept = person.me()
            assert kept["participant"] == s["participant"] and list(kept["answers"]) == [page]
            assert kept["answers"][page]["offensiveness"][pictures[page][0]] == turn % 4 + 1
            assert kept["answers"][page]["stereotypes"] is None
        text = httpx.get(f"{server.url}/admin/answers.csv", headers=ADMIN).text
        rows = list(csv.DictReader(io.StringIO(text)))
        assert len(rows) == 4 * 4 * 4 and sum(row["rank"] == "" for row in rows) == 16
        folder = tmp_path / "answers"
        folder.mkdir()
        (folder / "a.parquet").write_bytes(
            httpx.get(f"{server.url}/admin/answers.parquet", headers=ADMIN).content
        )
        assert pq.read_table(folder / "a.parquet").num_rows == 64
        survey_import(folder, pages, tmp_path / "a.parquet", tmp_path / "r.parquet", SurveyConfig())
        imported = ANSWERS.read(tmp_path / "a.parquet")
        assert len(imported) == 16 and sum(row["ranks"] is None for row in imported) == 4


def test_every_acknowledged_answer_survives_kills_under_load(tables, database):
    """Eight people write as fast as they can while the process is killed four times."""
    pages, forms = pages_and_forms(tables)
    pictures = shown(pages[1])
    acknowledged, count, stop = {}, [], threading.Event()

    def write(number, person):
        turn = 0
        while not stop.is_set():
            page = person.reply.json()["pages"][turn % 3]
            given = ranks(pictures[page], [(turn + number + n) % 4 + 1 for n in range(4)])
            try:
                reply = person.put(page, {ITEMS[turn % 4]: given})
            except httpx.TransportError:
                # Not acknowledged: it may or may not be stored.
                acknowledged.pop((f"writer{number}", page, ITEMS[turn % 4]), None)
                stop.wait(0.05)
            else:
                if reply.status_code == 200:
                    acknowledged[f"writer{number}", page, ITEMS[turn % 4]] = given
                    count.append(turn)
            turn += 1

    with Server(pages, forms, database, "--requests-per-minute", "100000") as server:
        people = [Person(server.url, code=f"writer{n}") for n in range(8)]
        threads = [threading.Thread(target=write, args=person) for person in enumerate(people)]
        for thread in threads:
            thread.start()
        for _ in range(4):
            before, deadline = len(count), time.monotonic() + 60
            while len(count) < before + 40 and time.monotonic() < deadline:
                stop.wait(0.01)
            server.kill()
            server.start()
        stop.set()
        for thread in threads:
            thread.join()
        text = httpx.get(f"{server.url}/admin/answers.csv", headers=ADMIN).text
    stored = {}
    for row in csv.DictReader(io.StringIO(text)):
        key = (row["participant"], row["page"], row["item"])
        assert row["picture"] not in stored.setdefault(key, {}), "stored twice"
        stored[key][row["picture"]] = int(row["rank"])
    assert len(count) >= 4 * 40
    assert {key: stored.get(key) for key in acknowledged} == acknowledged


def test_a_crash_of_postgresql_itself(tables, postgres):
    pages, forms = pages_and_forms(tables)
    with Server(pages, forms, postgres.database()) as server:
        person = Person(server.url)
        page = person.reply.json()["pages"][0]
        given = {"description": ranks(shown(pages[1])[page])}
        assert person.put(page, given).status_code == 200
        postgres.crash()
        assert any(person.put(page, {"offensiveness": None}).status_code == 200 for _ in range(5))
        assert person.me()["answers"][page] == given | {"offensiveness": None}


@pytest.mark.parametrize("former", [False, True])
def test_the_former_command_serves_and_names_the_new_one(tables, tmp_path, former):
    pages, forms = pages_and_forms(tables)
    database = f"sqlite:///{tmp_path / 's.sqlite'}"
    module = "pipeline_steps.survey_server" if former else "pipeline_steps.survey.server"
    with Server(pages, forms, database, module=module) as server:
        person = Person(server.url)
        page = person.reply.json()["pages"][0]
        assert person.put(page, {"description": ranks(shown(pages[1])[page])}).json() == {"stored": 1}
        server.process.terminate()
        told = server.process.communicate(timeout=60)[1].decode().splitlines()
    line = "WARNING this command is now called python -m pipeline_steps.survey.server; "
    assert sum(text.startswith(line) for text in told) == former
    assert sum(text.startswith("INFO serving india, korea on http://127.0.0.1:") for text in told) == 1


# --- what it refuses: in this process, where a client can misbehave freely ---


@pytest.fixture
def app(tables, tmp_path):
    """The application in this process, through a client that keeps no cookies but its own."""
    from starlette.testclient import TestClient

    pages, forms = pages_and_forms(tables)
    config = SurveyConfig()
    survey = load_survey(
        pages, forms, read_wording(config.wording), Path("resources/survey/page.html"), 5, 92, None
    )
    store = Store(f"sqlite:///{tmp_path / 's.sqlite'}", sorted(survey.cultures))
    with TestClient(create_app(survey, store, "secret")) as client:
        yield client


def csrf(client):
    return {"X-CSRF-Token": client.get("/").text.split('"csrf":"')[1].split('"')[0]}


def enrolled(client, **more):
    body = {"consent": True, "code": "", "culture": "korea", "years": 7.0, **more}
    return client.post("/api/enrol", json=body, headers=csrf(client))


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"consent": False}, 422),
        ({"years": 4.9}, 422),
        ({"culture": "atlantis"}, 422),
        ({"code": "a b"}, 422),
        ({"code": "x" * 65}, 422),
        ({"name": "Kim"}, 422),
        ({"years": "9"}, 422),
        ({"years": float(10**9)}, 422),
    ],
)
def test_refused_enrolments(app, change, status):
    assert enrolled(app, **change).status_code == status
    assert app.get("/api/me").status_code == 401


def test_a_code_is_not_taken_over(app):
    assert enrolled(app, code="mine").status_code == 200
    app.cookies.clear()
    assert enrolled(app, code="mine").status_code == 409
    assert app.get("/api/me").status_code == 401


def test_nobody_elses_answers(app):
    first = enrolled(app).json()
    app.put(
        "/api/answers",
        json={"page": first["pages"][0], "answers": {"description": None}},
        headers={"X-CSRF-Token": first["csrf"]},
    )
    app.cookies.clear()
    second = enrolled(app).json()
    assert second["participant"] != first["participant"] and second["answers"] == {}
    assert app.get("/api/me", params={"participant": first["participant"]}).json()["answers"] == {}
    app.cookies.clear()
    app.cookies.set("survey_session", "x" * 43)
    assert app.get("/api/me").status_code == 401
    for path in ("/api/answers", "/admin/answers.csv", "/admin/answers.parquet", "/openapi.json", "/docs"):
        assert app.get(path).status_code in (401, 404, 405), path
    assert app.get("/admin/answers.csv", headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_other_sites_change_nothing(app):
    state = enrolled(app).json()
    body = {"page": state["pages"][0], "answers": {"description": None}}
    good = {"X-CSRF-Token": state["csrf"]}
    assert app.put("/api/answers", json=body).status_code == 403
    assert app.put("/api/answers", json=body, headers={"X-CSRF-Token": "0" * 64}).status_code == 403
    assert (
        app.put("/api/answers", json=body, headers=good | {"Sec-Fetch-Site": "cross-site"}).status_code == 403
    )
    assert app.put("/api/answers", json=body, headers=good).status_code == 200
    app.cookies.clear()
    assert app.put("/api/answers", json=body, headers=good).status_code == 403
    head = app.get("/").headers
    assert "HttpOnly" in head["set-cookie"] and "SameSite=strict" in head["set-cookie"]
    assert (
        "default-src 'none'" in head["content-security-policy"]
        and "unsafe" not in head["content-security-policy"]
    )
    assert head["x-content-type-options"] == "nosniff" and head["cache-control"] == "no-store"


def test_refused_answers(app, tables):
    state = enrolled(app).json()
    page, pictures = state["pages"][0], shown(tables[1][0])[state["pages"][0]]
    foreign = next(name for name in shown(tables[1][0]) if name not in state["pages"])
    other = next(iter(shown(tables[0][0])))

    def put(body, **more):
        return app.put(
            "/api/answers", headers={"X-CSRF-Token": state["csrf"]}, **({"json": body} | more)
        ).status_code

    good = ranks(pictures)
    assert put({"page": page, "answers": {"description": good}}) == 200
    bad = [
        {"page": foreign, "answers": {"description": None}},
        {"page": other, "answers": {"description": None}},
        {"page": "nowhere", "answers": {"description": None}},
        {"page": page, "answers": {"beauty": good}},
        {"page": page, "answers": {}},
        {"page": page, "answers": {"description": {}}},
        {"page": page, "answers": {"description": good | {pictures[0]: 2}}},
        {"page": page, "answers": {"description": good | {"other": 5}}},
        {"page": page, "answers": {"description": {name: float(rank) for name, rank in good.items()}}},
        {"page": page, "answers": {"description": dict.fromkeys(pictures, True)}},
        {"page": page, "answers": {"description": good}, "participant": "somebody"},
        [],
    ]
    assert [put(body) for body in bad] == [422] * len(bad)
    assert put(None, json=None, content=b"{") == 422
    assert app.get("/api/me").json()["answers"] == {page: {"description": good}}


def test_sizes_are_limited(app):
    state = enrolled(app).json()
    head = {"X-CSRF-Token": state["csrf"], "Content-Type": "application/json"}
    assert app.put("/api/answers", content=b" " * (LONGEST_BODY + 1), headers=head).status_code == 413

    def chunks():
        for _ in range(40):
            yield b" " * 1024

    assert app.put("/api/answers", content=chunks(), headers=head).status_code == 413


def test_rate_limit(app):
    state = enrolled(app).json()
    statuses = [200]
    while statuses[-1] == 200 and len(statuses) < 3000:  # a slow machine earns some more as it goes
        statuses.append(app.get("/api/me").status_code)
    assert len(statuses) > 300 and statuses[-1] == 429
    app.cookies.clear()
    assert enrolled(app).status_code == 200, "one person's haste is nobody else's wait"
    del state


def test_after_many_wrong_admin_tokens_the_right_one_waits_too(app):
    def ask(token):
        return app.get("/admin/answers.csv", headers={"Authorization": f"Bearer {token}"}).status_code

    assert ask("secret") == 200
    statuses = [ask("wrong") for _ in range(15)]
    assert statuses[:10] == [401] * 10 and statuses[-1] == 429 and ask("secret") == 429


def test_the_page_gives_no_variant_away(app):
    text = app.get("/").text
    assert "scoft_" not in text and '"sd"' not in text
    name = text.split('"pictures":["')[1].split('"')[0]
    assert app.get(f"/pictures/{name}").headers["content-type"] == "image/jpeg"
    assert app.get("/pictures/../survey.sqlite").status_code == 404


def test_codes_file(tmp_path):
    path = tmp_path / "codes.txt"
    path.write_text("# ours\nalpha-01\n\nbravo-02\n")
    assert read_codes(path) == {"alpha-01", "bravo-02"}
    for text, fault in (("alpha-01\nalpha-01\n", "twice"), ("", "no codes"), ("abc\n", "code 1")):
        path.write_text(text)
        with pytest.raises(UserError, match=fault):
            read_codes(path)


@pytest.fixture
def store(tmp_path):
    store = Store(f"sqlite:///{tmp_path / 's.sqlite'}", ["korea"])
    yield store
    store.close()


def held_back(store):
    """Keep the store's thread busy, so that what follows shares one transaction."""
    go = threading.Event()
    store.submit(lambda connection: go.wait(10))
    return go


def test_one_refusal_does_not_undo_its_neighbours(store):
    store.enrol("mine", "korea", 9, False).result(10)
    go = held_back(store)
    before = store.save("mine", "page", {"description": {"a": 1}})
    refused = store.enrol("mine", "korea", 9, False)
    after = store.enrol("other", "korea", 9, False)
    go.set()
    assert before.result(10) is None and after.result(10)[0].form == 1
    with pytest.raises(TakenError):
        refused.result(10)
    assert store.answers("mine").result(10) == {"page": {"description": {"a": 1}}}


def test_a_failed_transaction_acknowledges_nothing_and_work_goes_on(store):
    go = held_back(store)
    before = store.enrol("early", "korea", 9, False)
    lost = store.save("nobody", "page", {"description": None})  # breaks a foreign key
    neighbour = store.enrol("mine", "korea", 9, False)
    go.set()
    with pytest.raises(SQLAlchemyError):
        lost.result(10)
    for future in (before, neighbour):
        with pytest.raises(SQLAlchemyError):
            future.result(10)
    assert list(store.everything()) == []
    # One transaction: nothing of it is left, not even the first form's number.
    assert store.enrol("early", "korea", 9, False).result(10)[0].form == 0


def test_what_was_given_up_does_not_stop_the_store(store):
    go = held_back(store)
    assert store.enrol("mine", "korea", 9, False).cancel()
    go.set()
    assert store.enrol("other", "korea", 9, False).result(10)[0].form == 0


def test_a_database_that_cannot_be_opened():
    with pytest.raises(
        UserError, match=r"--database postgresql\+psycopg://u:\*\*\*@127.0.0.1:1/x: cannot be opened"
    ):
        Store("postgresql+psycopg://u:pw@127.0.0.1:1/x", ["korea"])
    with pytest.raises(UserError, match="cannot be opened"):
        Store("nonsense", ["korea"])
