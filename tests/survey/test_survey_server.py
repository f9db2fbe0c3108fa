"""The server over HTTP: what it stores, what it refuses, and a power cut, on SQLite and PostgreSQL."""

import csv
import io
import re
import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta

import httpx
import pyarrow.parquet as pq
import pytest
from sqlalchemy.exc import SQLAlchemyError

from pipeline_steps.artifacts import ANSWERS
from pipeline_steps.config import SurveyConfig
from pipeline_steps.errors import UserError
from pipeline_steps.survey.server import records
from pipeline_steps.survey.server.app import LONGEST_BODY, create_app
from pipeline_steps.survey.server.contents import load_survey
from pipeline_steps.survey.server.store import Store, TakenError
from pipeline_steps.survey.shown import ITEMS
from pipeline_steps.survey.survey_import import survey_import
from tests import ROOT
from tests.survey.survey_world import ADMIN_TOKEN, Server, dealt, make_pages, shown

NOW = "2030-01-02T00:00:00+00:00"
ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
CODES = [f"{name}{name}{name}-{number}" for number, name in enumerate(("river", "stone", "cloud", "field"))]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    return [make_pages(folder, culture) for culture in ("india", "korea")]


def pages_and_forms(tables):
    return [pages for pages, _ in tables], [forms for _, forms in tables]


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'survey.sqlite'}"
    return request.getfixturevalue("postgres").database()


class Person:
    """A browser without its window."""

    def __init__(self, url, code="", culture="korea", **more):
        self.client = httpx.Client(base_url=url, timeout=120)
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
        text = httpx.get(f"{server.url}/admin/answers.csv", headers=ADMIN, timeout=120).text
        rows = list(csv.DictReader(io.StringIO(text)))
        assert len(rows) == 4 * 4 * 4 and sum(row["rank"] == "" for row in rows) == 16
        assert len({row["exported"] for row in rows}) == 1
        folder = tmp_path / "answers"
        folder.mkdir()
        (folder / "a.parquet").write_bytes(
            httpx.get(f"{server.url}/admin/answers.parquet", headers=ADMIN, timeout=120).content
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
        text = httpx.get(f"{server.url}/admin/answers.csv", headers=ADMIN, timeout=120).text
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


def test_what_is_missing_at_the_start_is_said_on_one_line(tables, tmp_path):
    """A token, a port of one's own, and pages."""
    pages, forms = pages_and_forms(tables)
    with Server(pages, forms, f"sqlite:///{tmp_path / 's.sqlite'}", admin="") as server:
        second = subprocess.run(server.command, cwd=ROOT, capture_output=True, text=True)
        assert second.returncode == 1 and "serving" not in second.stderr
        assert (
            f"port {server.port} of 127.0.0.1 is taken by another program" in second.stderr.splitlines()[-1]
        )
        assert httpx.get(f"{server.url}/admin", timeout=120).status_code == 404
        server.process.terminate()
        told = server.process.communicate(timeout=60)[1].decode()
    assert (
        told.count("WARNING there is no administrator's page") == 1 and "export SURVEY_ADMIN_TOKEN=$(" in told
    )
    gone = tmp_path / "results/survey/china/pages.parquet"
    with pytest.raises(RuntimeError) as error:
        Server([gone], [gone], f"sqlite:///{tmp_path / 's.sqlite'}").start()
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"ERROR {gone}: no such file; make the survey of 'china' first")
    assert (
        f"snakemake --cores 8 {gone.with_name('survey.html')}, or name those" in line and "delete" not in line
    )


# --- what it refuses: in this process, where a client can misbehave freely ---


@pytest.fixture
def app(tables, tmp_path):
    """The application in this process, through a client that keeps no cookies but its own."""
    from starlette.testclient import TestClient

    pages, forms = pages_and_forms(tables)
    survey = load_survey(pages, forms, SurveyConfig())
    with TestClient(application(survey, tmp_path)) as client:
        yield client


class Time:
    """A clock that stands until it is moved on."""

    seconds = 0.0

    def __call__(self):
        return self.seconds

    def now(self):
        return datetime(2030, 1, 2, tzinfo=UTC) + timedelta(seconds=self.seconds)


def application(survey, folder, time=None, **more):
    time = time or Time()
    store = Store(f"sqlite:///{folder / 's.sqlite'}", sorted(survey.cultures))
    return create_app(survey, store, ADMIN_TOKEN, clock=time, now=time.now, **more)


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
    assert [app.get("/api/me").status_code for _ in range(301)] == [200] * 300 + [429]
    app.cookies.clear()
    assert enrolled(app).status_code == 200, "one person's haste is nobody else's wait"
    del state


def test_a_right_token_is_never_refused_for_wrong_ones(app):
    def ask(token):
        return app.get("/admin/answers.csv", headers={"Authorization": f"Bearer {token}"}).status_code

    statuses = [ask("wrong") for _ in range(1000)]
    assert statuses == [401] * 10 + [429] * 990
    assert ask(ADMIN_TOKEN) == 200


@pytest.fixture
def coded(tables, tmp_path):
    """The application where codes were handed out."""
    from starlette.testclient import TestClient

    survey = load_survey(*pages_and_forms(tables), SurveyConfig(), codes=frozenset(CODES))
    with TestClient(application(survey, tmp_path)) as client:
        yield client


def test_a_right_code_is_never_refused_for_wrong_ones(coded):
    """A thousand wrong ones come from the same address, from as many sessions and from one."""
    statuses = []
    for number in range(1000):
        if number % 2:
            coded.cookies.clear()
        statuses.append(enrolled(coded, code=f"wrongwrongwrong-{number}").status_code)
    assert set(statuses) == {403}
    coded.cookies.clear()
    repeated = [enrolled(coded, code="wrongwrongwrong-x").status_code for _ in range(12)]
    assert repeated == [403] * 10 + [429] * 2, "a wrong code is slowed down"
    flood = [enrolled(coded, code=f"otherotherother-{number}").status_code for number in range(300)]
    assert flood[-1] == 429, "an address is slowed down"
    for number, code in enumerate(CODES):
        coded.cookies.clear()
        assert enrolled(coded, code=code).status_code == 200, number


def test_puppets_need_a_code_each_and_are_shown_where_there_are_none(app, coded, tables, tmp_path):
    """Sixty people in no time: refused with codes; without, the page and the import name them."""
    assert {enrolled(coded, code=f"puppetpuppet{n:03}").status_code for n in range(60)} == {403}
    for _ in range(60):
        app.cookies.clear()
        state = enrolled(app).json()
        body = {"page": state["pages"][0], "answers": {"description": None}}
        app.put("/api/answers", json=body, headers={"X-CSRF-Token": state["csrf"]})
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_bytes(app.get("/admin/answers.csv", headers=ADMIN).content)
    pages, _ = pages_and_forms(tables)
    survey_import(tmp_path / "in", pages, tmp_path / "a", tmp_path / "r", SurveyConfig())
    note = ANSWERS.note(tmp_path / "a")
    assert (note["codes"], note["together"]) == (False, 60)
    app.cookies.clear()
    app.post("/admin/login", data={"token": ADMIN_TOKEN})
    row = re.search(r"<tr><td>korea</td>(.*?)</tr>", app.get("/admin").text)[1]
    assert re.findall(r">(\d+)<", row) == ["60", "60", "60", "60", "60"]


STRANGE = [
    b'{"consent": true, "code": "", "culture": "korea", "years": NaN}',
    b'{"consent": true, "code": "", "culture": "korea", "years": Infinity}',
    b'{"consent": true, "code": "", "culture": "korea", "years": 1e999}',
    b'{"consent": true, "code": "", "culture": "\\ud800", "years": 9}',
    b'{"consent": true, "code": "\\ud800", "culture": "korea", "years": 9}',
    b'{"\\ud800": 1}',
    b'{"page": "\\ud800", "answers": {"\\udfff": NaN}}',
    b'{"page": "a", "answers": {"description": {"a": Infinity}}}',
    b"[" * 30_000,
    b"\xff",
    b"9" * 5000,
]


@pytest.mark.parametrize("method", ["post", "put"])
@pytest.mark.parametrize("body", STRANGE, ids=range(len(STRANGE)))
def test_strange_bodies_are_refused_without_repeating_them(app, body, method, caplog):
    path = {"post": "/api/enrol", "put": "/api/answers"}[method]
    head = csrf(app) | {"Content-Type": "application/json"}
    answer = getattr(app, method)(path, content=body, headers=head)
    assert answer.status_code in (400, 401, 422)
    assert "nan" not in answer.text.lower() and "inf" not in answer.text.lower()
    assert "Traceback" not in caplog.text


def test_every_request_is_counted_before_it_is_parsed(app):
    head = csrf(app) | {"Content-Type": "application/json"}
    statuses = [app.post("/api/enrol", content=STRANGE[0], headers=head).status_code for _ in range(1201)]
    assert statuses[0] == 422 and statuses[-1] == 429
    state = app.put("/api/answers", content=b"{", headers=head).status_code
    assert state == 429, "before it is parsed"


def test_the_page_gives_no_variant_away(app):
    text = app.get("/").text
    assert "scoft_" not in text and '"sd"' not in text
    name = text.split('"pictures":["')[1].split('"')[0]
    assert app.get(f"/pictures/{name}").headers["content-type"] == "image/jpeg"
    assert app.get("/pictures/../survey.sqlite").status_code == 404


def test_forms_belong_to_the_pages_of_their_culture(tables):
    """In any order; a culture without its forms is named."""
    (india, india_forms), (korea, korea_forms) = tables
    survey = load_survey([korea, india], [india_forms, korea_forms], SurveyConfig())
    for culture in survey.cultures.values():
        assert {page for form in culture.forms for page in form} <= culture.pages.keys()
    with pytest.raises(UserError, match="--forms: nothing of 'korea'"):
        load_survey([korea, india], [india_forms], SurveyConfig())
    with pytest.raises(UserError, match="both of 'india'"):
        load_survey([india, india], [india_forms], SurveyConfig())


@pytest.mark.parametrize("kiosk", [False, True])
def test_who_enrols_again_without_a_code_is_nobody_new(tables, tmp_path, kiosk):
    """Their session says who they are; at a kiosk it may be the person's before, who left it open."""
    from starlette.testclient import TestClient

    survey = load_survey(*pages_and_forms(tables), SurveyConfig(), kiosk=kiosk)
    with TestClient(application(survey, tmp_path)) as client:
        first = enrolled(client).json()
        again = enrolled(client, culture="india").json()
        assert (again != first) == kiosk and (again["participant"] != first["participant"]) == kiosk
        assert enrolled(client, code="another").json()["participant"] == "another"
        client.cookies.clear()
        assert enrolled(client).json()["participant"] not in (first["participant"], "another")


def test_a_kiosk_forgets_its_visitor(tables, tmp_path):
    from starlette.testclient import TestClient

    survey = load_survey(*pages_and_forms(tables), SurveyConfig(), kiosk=True)
    with TestClient(application(survey, tmp_path)) as client:
        assert "max-age" not in client.get("/").headers["set-cookie"].lower(), "gone with the browser"
        state = enrolled(client).json()
        session = client.cookies["survey_session"]
        assert client.post("/api/leave", headers={"X-CSRF-Token": state["csrf"]}).json() == {"left": True}
        assert "survey_session" not in client.cookies
        client.cookies.set("survey_session", session)
        assert client.get("/api/me").status_code == 401, "not even with the former cookie"


# --- the administrator ---


def form(app, path, **fields):
    token = re.search(r'name="csrf" value="(\w+)"', app.get("/admin").text)
    return app.post(f"/admin/{path}", data=fields | ({"csrf": token[1]} if token else {}))


def test_the_administrators_page(app):
    state = enrolled(app).json()
    body = {"page": state["pages"][0], "answers": {"description": None, "stereotypes": None}}
    head = {"X-CSRF-Token": state["csrf"]}
    assert app.put("/api/answers", json=body, headers=head).status_code == 200
    page = app.get("/admin")
    assert (
        page.status_code == 200 and state["participant"] not in page.text and "answers.csv" not in page.text
    )
    assert app.get("/admin/answers.csv").status_code == 401
    assert app.post("/admin/login", data={"token": "wrong"}).status_code == 401
    assert "answers.csv" in app.post("/admin/login", data={"token": ADMIN_TOKEN}).text
    assert (
        "HttpOnly" in app.post("/admin/login", data={"token": ADMIN_TOKEN}).history[0].headers["set-cookie"]
    )
    assert re.search(r"<tr><td>korea</td>.*?>1<.*?>1<.*?>2<", app.get("/admin").text)

    assert form(app, "delete", participant="nobody").status_code == 404
    assert state["participant"] in app.get("/admin/answers.csv").text
    gone = form(app, "delete", participant=state["participant"])
    assert "answers.csv of 2030-01-02T00:00:00+00:00: 2 answers" in gone.text
    assert state["participant"] not in app.get("/admin/answers.csv").text
    assert app.get("/api/me").status_code == 401
    assert app.post("/admin/delete", data={"participant": "x"}).status_code == 403, "another site's form"

    form(app, "leave")
    assert app.get("/admin/answers.csv").status_code == 401


def test_a_closed_survey_takes_nothing_and_says_so(app, tables, tmp_path):
    state = enrolled(app).json()
    body = {"page": state["pages"][0], "answers": {"description": None}}
    head = {"X-CSRF-Token": state["csrf"]}
    app.post("/admin/login", data={"token": ADMIN_TOKEN})
    assert "No answers are taken since 2030-01-02" in form(app, "closed", closed="yes").text
    refused = app.put("/api/answers", json=body, headers=head)
    assert (refused.status_code, refused.json()["detail"]) == (403, "the survey is closed")
    assert '"closed":true' in app.get("/").text
    store = Store(f"sqlite:///{tmp_path / 's.sqlite'}", ["korea"])
    assert records.closed_since(store).result(120), "also after a restart"
    store.close()
    form(app, "closed", closed="no")
    assert app.put("/api/answers", json=body, headers=head).status_code == 200


def test_a_guessable_admin_token_is_refused(tables, tmp_path):
    pages, forms = pages_and_forms(tables)
    with pytest.raises(RuntimeError, match="SURVEY_ADMIN_TOKEN: can be guessed"):
        Server(pages, forms, f"sqlite:///{tmp_path / 's.sqlite'}", admin="secret").start()


@pytest.fixture
def store(tmp_path):
    store = Store(f"sqlite:///{tmp_path / 's.sqlite'}", ["korea"])
    yield store
    store.close()


def held_back(store):
    """Keep the store's thread busy, so that what follows shares one transaction."""
    busy, go = threading.Event(), threading.Event()
    store.submit(lambda connection: (busy.set(), go.wait(120)))
    assert busy.wait(120)  # what comes before it is at work would share its transaction
    return go


def test_one_refusal_does_not_undo_its_neighbours(store):
    store.enrol("mine", "korea", 9, "open", NOW).result(120)
    go = held_back(store)
    before = store.save("mine", "page", {"description": {"a": 1}})
    refused = store.enrol("mine", "korea", 9, "open", NOW)
    after = store.enrol("other", "korea", 9, "open", NOW)
    go.set()
    assert before.result(120) is None and after.result(120)[0].form == 1
    with pytest.raises(TakenError):
        refused.result(120)
    assert store.answers("mine").result(120) == {"page": {"description": {"a": 1}}}


def test_a_failed_transaction_acknowledges_nothing_and_work_goes_on(store):
    go = held_back(store)
    before = store.enrol("early", "korea", 9, "open", NOW)
    lost = store.save("nobody", "page", {"description": None})  # breaks a foreign key
    neighbour = store.enrol("mine", "korea", 9, "open", NOW)
    go.set()
    with pytest.raises(SQLAlchemyError):
        lost.result(120)
    for future in (before, neighbour):
        with pytest.raises(SQLAlchemyError):
            future.result(120)
    assert list(store.everything()) == []
    # One transaction: nothing of it is left, not even the first form's number.
    assert store.enrol("early", "korea", 9, "open", NOW).result(120)[0].form == 0


def test_what_was_given_up_does_not_stop_the_store(store):
    go = held_back(store)
    assert store.enrol("mine", "korea", 9, "open", NOW).cancel()
    go.set()
    assert store.enrol("other", "korea", 9, "open", NOW).result(120)[0].form == 0


def test_a_database_that_cannot_be_opened():
    with pytest.raises(
        UserError, match=r"--database postgresql\+psycopg://u:\*\*\*@127.0.0.1:1/x: cannot be opened"
    ):
        Store("postgresql+psycopg://u:pw@127.0.0.1:1/x", ["korea"])
    with pytest.raises(UserError, match="cannot be opened"):
        Store("nonsense", ["korea"])
