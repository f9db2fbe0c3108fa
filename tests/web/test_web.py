"""Sessions, limits and the shield, before an application that is no survey."""

import asyncio
import socket
import threading

import pytest
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from starlette.testclient import TestClient

from pipeline_steps.errors import UserError
from pipeline_steps.web import serving
from pipeline_steps.web.limits import Limiter, address
from pipeline_steps.web.sessions import Sessions, csrf_of, new_token
from pipeline_steps.web.shield import Shield


def site(cookie="mine"):
    """A page that begins a session, and a list that only this page may add to."""
    app, sessions, notes = FastAPI(), Sessions(cookie), []

    @app.get("/")
    def page(request: Request, response: Response) -> str:
        token = new_token()
        sessions.begin(response, request, token)
        return csrf_of(token)

    @app.post("/notes", dependencies=[Depends(sessions.guard)])
    async def add(request: Request) -> int:
        notes.append((sessions.token(request), await request.body(), address(request)))
        return len(notes)

    return Shield(app, longest_body=100)


@pytest.fixture
def client():
    return TestClient(site())


def test_only_the_sites_own_page_changes_anything(client):
    assert client.post("/notes").status_code == 403
    csrf = client.get("/").json()
    assert client.post("/notes", headers={"X-CSRF-Token": csrf}).json() == 1
    assert client.post("/notes", headers={"X-CSRF-Token": csrf[::-1]}).status_code == 403
    assert client.post("/notes").status_code == 403
    other = client.post("/notes", headers={"X-CSRF-Token": csrf, "Sec-Fetch-Site": "cross-site"})
    assert other.status_code == 403
    assert client.get("/").json() != csrf, "each session has its own"
    assert client.post("/notes", headers={"X-CSRF-Token": csrf}).status_code == 403


def test_sites_on_one_host_do_not_share_their_sessions(client):
    csrf = client.get("/").json()
    other = TestClient(site("theirs"), cookies=client.cookies)
    assert other.post("/notes", headers={"X-CSRF-Token": csrf}).status_code == 403


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_cookie_is_out_of_reach(scheme):
    cookie = TestClient(site(), base_url=f"{scheme}://site").get("/").headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie
    assert ("Secure" in cookie) == (scheme == "https")


def test_bodies_are_as_long_as_the_site_says(client):
    head = {"X-CSRF-Token": client.get("/").json()}
    assert client.post("/notes", content=b"x" * 100, headers=head).status_code == 200
    long = client.post("/notes", content=b"x" * 101, headers=head)
    assert long.status_code == 413 and long.headers["x-content-type-options"] == "nosniff"
    assert client.post("/notes", content=iter([b"x" * 60] * 2), headers=head).status_code == 413


def test_every_answer_has_its_headers(client):
    for answer in (client.get("/"), client.get("/nowhere")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["cache-control"] == "no-store"


def test_a_limit_is_each_keys_own():
    now = 0.0
    limiter = Limiter(10, lambda: now)
    for _ in range(10):
        limiter.take("address")
    with pytest.raises(HTTPException) as caught:
        limiter.take("address")
    assert caught.value.status_code == 429
    limiter.take("another")
    now = 6.0  # a tenth of a minute: one more
    assert limiter.count("address") and not limiter.count("address")


def test_the_keys_unused_for_longest_are_forgotten(monkeypatch):
    monkeypatch.setattr("pipeline_steps.web.limits.KEYS", 2)
    limiter = Limiter(1, lambda: 0.0)
    limiter.know("first")
    limiter.know("second")
    limiter.count("first")
    limiter.know("third")
    assert "first" in limiter and "second" not in limiter


def test_a_request_is_counted_before_its_body_is_read():
    async def app(scope, receive, send):
        raise AssertionError("the application never sees it")

    def count(request):
        raise HTTPException(429, "too many", {"Retry-After": "10"})

    answer = TestClient(Shield(app, 100, count)).post("/notes", content=iter([b"x" * 1000]))
    assert answer.status_code == 429 and answer.headers["retry-after"] == "10"


def test_a_body_that_does_not_come_ends():
    """The request's head is whole, its body never is."""
    app = FastAPI()

    @app.post("/notes")
    async def add(request: Request) -> int:
        return len(await request.body())

    async def ask():
        sent = []

        async def never():
            await asyncio.Event().wait()

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/notes", "headers": [], "query_string": b""}
        await Shield(app, 100, body_seconds=0)(scope, never, send)
        return sent[0]["status"]

    assert asyncio.run(ask()) == 408


def send_half(server, text):
    """Send half a request, and return what the server says before it hangs up."""
    with socket.create_connection(server) as connection:
        try:
            connection.sendall(text)
            return connection.recv(1000)
        except ConnectionError:  # it hung up before everything was sent
            return b""


@pytest.fixture
def hasty():
    """How connections are served here: with no patience at all, or with as much as a test gives it."""
    return type("Hasty", (serving.Impatient,), {"head_seconds": 0.0})


@pytest.fixture
def served(hasty):
    """The site on a port, by the settings that the servers have but for their patience."""
    config = serving.settings(site(), "127.0.0.1", 0)
    config.http = hasty
    server = uvicorn.Server(config)
    bound = config.bind_socket()
    bound.listen()
    thread = threading.Thread(target=server.run, args=([bound],))
    thread.start()
    yield bound.getsockname()
    server.should_exit = True
    thread.join()


def test_a_port_that_is_taken_is_named_before_anything_is_served():
    with serving.listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(
            UserError, match=rf"^port {port} of 127.0.0.1 is taken by another program; .*--port"
        ):
            serving.listen("127.0.0.1", port)
    for host, port in (("192.0.2.1", 8000), ("no.such.host.invalid", 8000), ("127.0.0.1", 70_000)):
        with pytest.raises(
            UserError, match=rf"^port {port} of {host} cannot be listened on .*--port (8001|20001)"
        ):
            serving.listen(host, port)


def test_half_sent_requests_end(served):
    assert send_half(served, b"") == b""
    assert send_half(served, b"GET / HTTP/1.1\r\nHost: a\r\nX-Half: ") == b""


def test_a_second_half_sent_request_ends_too(served, hasty):
    hasty.head_seconds = 3600.0
    with socket.create_connection(served) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.recv(10_000).startswith(b"HTTP/1.1 200")
        hasty.head_seconds = 0.0
        connection.sendall(b"GET / HT")
        while connection.recv(10_000):
            pass


@pytest.mark.parametrize(
    ("proxies", "believed"), [((), False), (("10.0.0.1",), False), (("192.0.2.0/24",), True)]
)
def test_only_named_proxies_say_where_a_request_comes_from(proxies, believed):
    app = FastAPI()

    @app.get("/")
    def where(request: Request) -> str:
        return address(request)

    config = serving.settings(app, "127.0.0.1", 0, proxies)
    config.load()
    client = TestClient(config.loaded_app, client=("192.0.2.7", 1))
    seen = client.get("/", headers={"X-Forwarded-For": "203.0.113.9"}).json()
    assert seen == ("203.0.113.9" if believed else "192.0.2.7")
