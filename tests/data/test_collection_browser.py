"""The collection in a real browser: a telephone in Korean, a desk in Arabic, and the curator between."""

import re

import httpx
import pytest

from pipeline_steps.artifacts import IMAGES
from pipeline_steps.config import DataConfig
from pipeline_steps.data.collection.wording import WORDINGS, read_wordings
from pipeline_steps.data.ingest import ingest
from tests.browser import CHROMIUM, browser, check_axe, opened
from tests.data.collection_world import Curator, Server, photo, rows

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install '.[test]'"
)
if CHROMIUM is None:
    pytest.skip("no chromium on PATH: apt-get install chromium", allow_module_level=True)

WORDS = {wording.language: wording for wording in read_wordings(WORDINGS)}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
DESK = {"viewport": {"width": 1280, "height": 900}}


@pytest.fixture(scope="module")
def chromium():
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("collection"), resolution=64) as server:
        yield server


def come(chromium, server, link, language, device):
    """Open a personal link on a device of this language."""
    page = opened(chromium.new_context(locale=language, **device), f"{server.url}/#link={link}")
    page.wait_for_selector("h1")  # once the server has said who comes
    return page


def invited(server):
    """The curator, and the personal link of one more."""
    curator = Curator(httpx.Client(base_url=server.url, timeout=120), server.key())
    return curator, re.search(r"#link=([\w-]+)", curator.post("invite", note="").text)[1]


def agree(page, years="12"):
    page.fill("#years", years)
    page.check("#agreed")
    page.click("button[type=submit]")
    page.wait_for_selector("#file", state="attached")


def choose(page, data, name="photo.jpg"):
    """Choose a picture, and wait until the server has it."""
    page.set_input_files("#file", {"name": name, "mimeType": "image/jpeg", "buffer": data})
    page.wait_for_selector("#save:enabled")


def describe(page, caption, category="city", era="modern"):
    page.fill("#caption", caption)
    page.select_option("#category", category)
    page.check(f"input[name=era][value={era}]")
    page.check("input[name=people][value=none]")
    page.click("#save")
    page.wait_for_selector(".cards")


def give(page, data, caption, **more):
    choose(page, data)
    describe(page, caption, **more)


def cards(page, state):
    return page.locator(f".card.{state}")


def ours(page):
    """Faults of the page itself; what the server refuses, the browser logs as well."""
    return [fault for fault in page.faults if "Failed to load" not in fault]


def test_from_the_first_picture_to_the_data_set(chromium, server, tmp_path):
    links = server.links()
    korean = come(chromium, server, links[0], "ko-KR", PHONE)
    words = WORDS["ko"]
    assert korean.get_attribute("html", "lang") == "ko" and "#" not in korean.url
    check_axe(korean)
    korean.set_viewport_size(PHONE["viewport"])
    korean.click("button[type=submit]")
    playwright.expect(korean.locator(".error")).to_have_text(words.error_years)
    agree(korean)
    check_axe(korean)
    korean.set_viewport_size(PHONE["viewport"])

    choose(korean, photo(1, (600, 800)))
    playwright.expect(korean.locator(".shown img")).to_have_count(1)
    korean.fill("#caption", "시장")
    hints = korean.locator("#tokens")
    playwright.expect(hints).to_contain_text(words.names_no_culture.replace("{culture}", "Wales"))
    korean.click("#save")
    playwright.expect(korean.locator(".error")).to_have_text(words.error_category)
    check_axe(korean)
    korean.set_viewport_size(PHONE["viewport"])
    describe(korean, "a market at dawn, in Wales")
    give(korean, photo(2, (800, 600)), "a bowl of broth, in Wales", category="food and drink")
    give(korean, photo(3, (800, 600)), "a harp, in Wales", era="traditional")
    playwright.expect(cards(korean, "given")).to_have_count(3)

    arabic = come(chromium, server, links[1], "ar-EG", DESK)
    assert arabic.get_attribute("html", "dir") == "rtl"
    check_axe(arabic)
    agree(arabic)
    for n in (4, 5):
        give(arabic, photo(n, (800, 600)), f"a street {n}, in Wales")
    check_axe(arabic)

    curator = opened(chromium.new_context(**DESK), f"{server.url}/curator#key={server.key()}")
    curator.wait_for_selector("#pictures")
    assert "key" not in curator.url
    check_axe(curator)
    harp = curator.locator(".card", has_text="a harp")
    harp.locator("input[type=checkbox]").check()
    curator.click("button[value=asked]")
    curator.wait_for_selector("[role=alert]")
    curator.locator(".card", has_text="a harp").locator("input[type=checkbox]").check()
    curator.fill("#message", "Who plays it?")
    curator.click("button[value=asked]")
    curator.wait_for_selector("strong.asked")
    for caption in ("market", "broth", "street 4", "street 5"):
        curator.locator(".card", has_text=caption).get_by_role("button", name="Accept").click()
        curator.locator(".card", has_text=caption).locator("strong.accepted").wait_for()

    korean.reload()
    playwright.expect(cards(korean, "asked").locator(".message")).to_have_text("Who plays it?")
    check_axe(korean)
    korean.set_viewport_size(PHONE["viewport"])
    cards(korean, "asked").locator("button.change").click()
    korean.wait_for_selector("#save:enabled")
    assert korean.input_value("#caption") == "a harp, in Wales"
    describe(korean, "my aunt plays the harp, in Wales", era="traditional")
    playwright.expect(cards(korean, "asked")).to_have_count(0)
    playwright.expect(cards(korean, "accepted")).to_have_count(2)
    # What the curator's page still shows was changed meanwhile.
    curator.locator(".card", has_text="a harp").get_by_role("button", name="Accept").click()
    curator.get_by_role("alert").get_by_role("link", name="my aunt plays the harp").click()
    check_axe(curator)
    assert len(rows(server.data)) == 4
    curator.locator(".card", has_text="my aunt").get_by_role("button", name="Accept").click()
    curator.locator(".card", has_text="my aunt").locator("strong.accepted").wait_for()
    assert len(rows(server.data)) == 5

    arabic.reload()
    gone = rows(server.data)
    arabic.locator(".card", has_text="street 4").locator("button.withdraw").click()
    check_axe(arabic)
    arabic.click("#no")
    arabic.locator(".card", has_text="street 4").locator("button.withdraw").click()
    arabic.click("#yes")
    playwright.expect(arabic.locator("#status")).to_have_text(WORDS["ar"].withdrawn)
    (name,) = {row["file_name"] for row in gone} - {row["file_name"] for row in rows(server.data)}
    assert (server.data / "withdrawn.txt").read_text() == f"{name}\n"

    images = tmp_path / "images.parquet"
    ingest(
        server.data, images, "wales", ", in Wales", 7, DataConfig(), withdrawn=server.data / "withdrawn.txt"
    )
    held = {row["caption"] for row in IMAGES.read(images)}
    assert held == {"a market at dawn, in Wales", "a bowl of broth, in Wales", "a street 5, in Wales",
                    "my aunt plays the harp, in Wales"}  # fmt: skip
    for page in (korean, arabic, curator):
        assert ours(page) == []
        page.context.close()


def test_a_lost_connection_is_tried_again_and_taken_once(chromium, server):
    """The picture arrives, its acknowledgement does not; then it is sent under the same name."""
    page = come(chromium, server, server.links()[2], "en", PHONE)
    agree(page)
    seen = []

    def upload(route):
        seen.append(route.request.url)
        if len(seen) == 1:
            route.fetch()  # the server takes it
            return route.abort()
        return route.continue_()

    page.route("**/api/pictures?upload=*", upload)
    choose(page, photo(11, (800, 600)))
    describe(page, "a gate, in Wales")
    assert len(seen) == 2 and seen[0] == seen[1] and cards(page, "given").count() == 1
    page.context.close()


HOLD_BACK = """() => {
    const make = createImageBitmap, held = new Promise(go => { window.release = go; });
    window.createImageBitmap = (...given) => held.then(() => make(...given));
}"""


@pytest.mark.parametrize("data", [photo(21, (800, 600)), b"unknown"], ids=["drawn", "no preview"])
def test_what_the_server_has_stays_shown_however_late_the_preview_comes(chromium, server, data):
    page = come(chromium, server, invited(server)[1], "en", PHONE)
    agree(page)
    page.evaluate(HOLD_BACK)
    page.route("**/api/pictures?upload=*", lambda route: route.continue_(post_data=photo(21, (800, 600))))
    choose(page, data)
    page.evaluate("() => { release(); return new Promise(done => setTimeout(done, 300)); }")
    assert page.locator(".shown img").count() == 1 and page.locator(".shown canvas, .shown p").count() == 0
    assert ours(page) == []
    page.context.close()


def test_who_read_another_consent_text_is_asked_again(chromium, server):
    curator, link = invited(server)
    page = come(chromium, server, link, "ko", PHONE)
    consent, error = page.locator("#consent"), page.locator(".error")
    playwright.expect(consent).to_contain_text(WORDS["ko"].consent[0])
    curator.post("consent", language="ko", text="New.\n\n<b>Newer.</b>")
    page.fill("#years", "12")
    page.check("#agreed")
    page.click("button[type=submit]")
    playwright.expect(error).to_have_text(WORDS["ko"].refusals["consent"])
    playwright.expect(consent.locator("p")).to_have_text(["New.", "<b>Newer.</b>"])
    playwright.expect(page.locator("#agreed")).not_to_be_checked()
    check_axe(page)
    assert page.input_value("#years") == "12"
    agree(page)
    curator.post("consent", language="ko", text="")
    assert ours(page) == []
    page.context.close()


def test_what_is_refused_is_said_in_ones_own_language(chromium, server):
    page = come(chromium, server, server.links()[3], "ar", PHONE)
    agree(page)
    page.set_input_files("#file", {"name": "x.jpg", "mimeType": "image/jpeg", "buffer": b"<html>"})
    playwright.expect(page.locator(".error")).to_have_text(WORDS["ar"].refusals["unusable"])
    page.fill("#address", "http://127.0.0.1:1/photo.jpg")
    page.click("form button[type=submit]")
    playwright.expect(page.locator(".error")).to_have_text(WORDS["ar"].refusals["link"])
    page.click("#leave")
    playwright.expect(page.locator("main")).to_contain_text(WORDS["ar"].left)
    page.reload()
    playwright.expect(page.locator("main")).to_contain_text(WORDS["ar"].no_link)
    page.goto(f"{server.url}/#link=nothing")
    page.reload()
    page.context.close()


def test_a_category_that_is_offered_no_longer_is_shown_by_its_key(chromium, tmp_path):
    wording = tmp_path / "wording.en.yaml"
    text = WORDINGS[0].read_text()
    wording.write_text(text)
    with Server(tmp_path / "site", "--wordings", str(wording), resolution=64) as server:
        link = server.links()[0]
        page = come(chromium, server, link, "en", DESK)
        agree(page)
        choose(page, photo(1, (800, 600)))
        page.select_option("#licence", "CC0")
        describe(page, "a street, in Wales")
        server.kill()
        assert "no text for" not in server.log.read_text()
        wording.write_text(re.sub("  (city|CC0): .*\n", "", text))
        server.start()
        assert "no text for category 'city', licence 'CC0' of" in server.log.read_text()
        page.reload()
        playwright.expect(page.locator(".card")).to_contain_text("city · Modern")
        page.click("button.change")
        chosen = [page.locator(f"#{name} option:checked").inner_text() for name in ("category", "licence")]
        assert chosen == ["city", "CC0"]
        page.click("#save")
        playwright.expect(page.locator(".error")).to_have_text(WORDS["en"].refusals["category"])
        page.select_option("#licence", "CC BY 4.0")
        describe(page, "a street, in Wales", category="nature")
        assert ours(page) == []
        page.context.close()


def test_by_keyboard_alone(chromium, server):
    """From the link to a picture that is given: Tab, Space, arrows and Enter."""
    page = come(chromium, server, server.links()[4], "en", DESK)
    key = page.keyboard

    def tab_to(selector):
        for _ in range(60):
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                return
            key.press("Tab")
        raise AssertionError(f"{selector} cannot be reached by Tab")

    page.wait_for_selector("#years")
    tab_to("#years")
    key.type("30")
    tab_to("#agreed")
    key.press("Space")
    key.press("Enter")
    page.wait_for_selector("#file", state="attached")
    tab_to("#file")
    page.set_input_files(
        "#file", {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": photo(12, (800, 600))}
    )
    page.wait_for_selector("#save:enabled")
    tab_to("#caption")
    key.type("a gate at night, in Wales")
    tab_to("#category")
    key.type("City")
    tab_to("input[name=era]")
    key.press("Space")
    tab_to("input[name=people]")
    key.press("Space")
    tab_to("#save")
    key.press("Enter")
    page.wait_for_selector(".card.given")
    text = page.locator("body").inner_text() + page.locator("main").aria_snapshot()
    assert not re.search(r"\b(null|undefined|NaN)\b|\[object|\{\w+\}", text)
    assert page.faults == []
    page.context.close()
