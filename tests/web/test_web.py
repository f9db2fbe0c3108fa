"""Sessions, limits and the shield, before an application that is no survey."""

import pytest
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from starlette.testclient import TestClient

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
    assert long.status_code == 413 and "x-content-type-options" not in long.headers
    assert client.post("/notes", content=iter([b"x" * 60] * 2), headers=head).status_code == 413


def test_every_answer_has_its_headers(client):
    for answer in (client.get("/"), client.get("/nowhere")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["cache-control"] == "no-store"


def test_a_limit_is_each_keys_own():
    limiter = Limiter(10)
    for _ in range(10):
        limiter.take("address")
    for count in (0, 1):
        with pytest.raises(HTTPException) as caught:
            limiter.take("address", count)
        assert caught.value.status_code == 429
    limiter.take("another")
