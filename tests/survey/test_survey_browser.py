"""The survey page in a real browser: by mouse, by keyboard, interrupted, and two at once."""

import json

import pytest

from pipeline_steps.artifacts import ANSWERS, REJECTED
from pipeline_steps.config import SurveyConfig
from pipeline_steps.survey.shown import ITEMS
from pipeline_steps.survey.survey_html import survey_html
from pipeline_steps.survey.survey_import import survey_import
from pipeline_steps.survey.wording import read_wording
from tests.survey.survey_world import ADMIN_TOKEN, BROWSER_FLAGS, CHROMIUM, Server, dealt, make_pages, shown

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install '.[test]'"
)
if CHROMIUM is None:
    pytest.skip("no chromium on PATH: apt-get install chromium", allow_module_level=True)

CONFIG = SurveyConfig()


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=BROWSER_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def context(chromium):
    context = chromium.new_context(viewport={"width": 1000, "height": 900}, accept_downloads=True)
    context.set_default_timeout(20_000)
    yield context
    context.close()


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    folder = tmp_path_factory.mktemp("survey")
    pages, forms = make_pages(folder)
    survey_html(pages, forms, CONFIG.wording, folder / "survey.html", "korea", CONFIG)
    return folder, pages, forms


def opened(context, url):
    page = context.new_page()
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("console", lambda message: message.type == "error" and page.faults.append(message.text))
    page.goto(url)
    return page


def enrol(page, code, culture="korea", years="9"):
    page.check("#consent")
    page.fill("#code", code)
    page.select_option("#culture", culture)
    page.fill("#years", years)
    page.click("button[type=submit]")


def box(page, item, name):
    return page.locator(f"fieldset[data-item={item}] {name}")


def middle(locator):
    locator.scroll_into_view_if_needed()
    area = locator.bounding_box()
    return area["x"] + area["width"] / 2, area["y"] + area["height"] / 2


def drag(page, source, target):
    target.scroll_into_view_if_needed()
    page.mouse.move(*middle(source))
    page.mouse.down()
    page.mouse.move(*middle(target), steps=4)
    page.mouse.up()


def selects(page, item):
    return [box(page, item, "select").nth(n).input_value() for n in range(4)]


def saved(page):
    with page.expect_download() as download:
        page.click("#download")
    return json.loads(download.value.path().read_text())


def import_text(tmp_path, text, pages):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.json").write_text(json.dumps(text))
    survey_import(tmp_path / "in", [pages], tmp_path / "a.parquet", tmp_path / "r.parquet", CONFIG)
    assert REJECTED.read(tmp_path / "r.parquet") == []
    return ANSWERS.read(tmp_path / "a.parquet")


def test_whole_survey_by_mouse(context, survey, tmp_path):
    """Drag, tap, swap, put back, leave blank; then the file is what was ranked."""
    folder, pages, forms = survey
    page = opened(context, (folder / "survey.html").as_uri())
    enrol(page, "mouse-1")
    for number in range(3):
        for order, item in enumerate(ITEMS[:3]):
            cards, slots = box(page, item, ".card img"), box(page, item, ".slots li")
            for card in range(4):
                drag(page, cards.nth(card), slots.nth((card + order) % 4))
            assert selects(page, item) == [str((card + order) % 4 + 1) for card in range(4)]
        # Tapped in the order D, C, B, A; then D is dragged from box 1 onto B's box 3: they change places.
        for card in (3, 2, 1, 0):
            box(page, "offensiveness", ".card img").nth(card).click()
        assert selects(page, "offensiveness") == ["4", "3", "2", "1"]
        slots = box(page, "offensiveness", ".slots li")
        drag(page, slots.nth(0).locator("img"), slots.nth(2))
        assert selects(page, "offensiveness") == ["4", "1", "2", "3"]
        if number == 1:  # blank: dragged out, then cleared
            drag(page, slots.nth(0).locator("img"), page.locator("h1"))
            assert selects(page, "offensiveness") == ["4", "", "2", "3"]
            page.click("#next")
            assert "Offensiveness" in page.locator(".error").inner_text()
            box(page, "offensiveness", "button").click()
        page.click("#next")
    given = saved(page)
    assert page.faults == []
    assert (given["participant"], given["culture"], given["years"]) == ("mouse-1", "korea", 9)
    order = dealt(forms)[1 % len(dealt(forms))]
    assert [answer["page"] for answer in given["answers"][::4]] == order
    blank = given["answers"][7]
    assert blank["item"] == "offensiveness" and blank["ranks"] is None
    first = shown(pages)[order[0]]
    assert given["answers"][1]["ranks"] == dict(zip(first, [2, 3, 4, 1], strict=True))
    rows = import_text(tmp_path, given, pages)
    assert len(rows) == 12 and sum(row["ranks"] is None for row in rows) == 1


def test_whole_survey_by_keyboard_only(context, survey, tmp_path):
    """Not one click: Tab, digits, arrows, Enter and Space."""
    folder, pages, _ = survey
    page = opened(context, (folder / "survey.html").as_uri())
    key = page.keyboard

    def tab_to(selector):
        for _ in range(60):
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                return
            key.press("Tab")
        raise AssertionError(f"{selector} cannot be reached by Tab")

    tab_to("#consent")
    key.press("Space")
    tab_to("#code")
    key.type("keys-2")
    tab_to("#culture")
    key.type("Korea")
    tab_to("#years")
    key.type("30")
    key.press("Enter")
    for _ in range(3):
        page.wait_for_selector("fieldset")
        for item in ITEMS:
            for card, digit in enumerate("3142"):
                tab_to(f"fieldset[data-item={item}] .card:nth-child({card + 1}) select")
                key.press(digit)
            assert selects(page, item) == list("3142")
        # Taking the first picture's rank away and giving it back.
        key.press("Shift+Tab")
        key.press("Backspace")
        assert selects(page, ITEMS[-1]) == ["3", "1", "", "2"]
        key.press("4")
        heading = page.locator("h1").inner_text()
        tab_to("#next")
        key.press("Enter")
        page.wait_for_function("old => document.querySelector('h1').innerText !== old", arg=heading)
    tab_to("#download")
    with page.expect_download() as download:
        key.press("Enter")
    rows = import_text(tmp_path, json.loads(download.value.path().read_text()), pages)
    assert {tuple(row["ranks"]) for row in rows} == {(3, 1, 4, 2)} and len(rows) == 12
    assert page.faults == []


def test_reload_in_the_middle_and_the_next_person(context, survey):
    folder, _, _ = survey
    url = (folder / "survey.html").as_uri()
    page = opened(context, url)
    enrol(page, "again-3")
    for card in range(4):
        box(page, "description", "select").nth(card).select_option(str(card + 1))
    page.click("#next")
    box(page, "stereotypes", "select").nth(2).select_option("1")
    page.reload()
    page.wait_for_selector("fieldset")
    assert page.locator("h1").inner_text() == "Page 2 of 3"
    assert selects(page, "stereotypes") == ["", "", "1", ""]
    page.click("#back")
    assert selects(page, "description") == ["1", "2", "3", "4"]
    page.close()
    page = opened(context, url)
    page.wait_for_selector("fieldset")
    assert selects(page, "description") == ["1", "2", "3", "4"]
    box(page, "stereotypes", "button").click()
    page.click("#next")
    box(page, "stereotypes", "button").click()
    page.click("#next")
    page.click("#next")
    first = saved(page)
    assert (first["exported"], saved(page)["exported"]) == (1, 2)
    page.click("#another")
    enrol(page, "other-4")
    assert selects(page, "description") == ["", "", "", ""]
    assert page.faults == []


def test_who_may_not_take_part(context, survey):
    folder, _, _ = survey
    page = opened(context, (folder / "survey.html").as_uri())
    page.click("button[type=submit]")
    assert "tick the box" in page.locator(".error").inner_text()
    enrol(page, "with space")
    assert "A code has" in page.locator(".error").inner_text()
    enrol(page, "young", years="4")
    assert "at least 5 years" in page.locator("main").inner_text()
    assert page.evaluate("localStorage.length") == 0


def test_the_page_hides_the_variants(survey):
    folder, _, _ = survey
    text = (folder / "survey.html").read_text()
    assert "scoft_m" not in text and "http" not in text.replace('"scoft-survey"', "")
    assert "in korea <b>" not in text, "a prompt's < must not reach the HTML"


@pytest.mark.parametrize("width", [1000, 360])
def test_accessibility(context, survey, width):
    """axe finds nothing on any screen, in light and dark, and nothing hangs over on a phone."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    folder, _, _ = survey
    page = opened(context, (folder / "survey.html").as_uri())
    page.set_viewport_size({"width": width, "height": 800})

    def check():
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            found = axe.run(page)
            assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")

    check()
    enrol(page, "axe-5")
    box(page, "description", ".card img").nth(1).click()
    check()
    page.click(".pictures button >> nth=0")
    check()
    page.click("dialog .bar button")
    box(page, "description", "button").click()
    for _ in range(3):
        page.click("#next")
    page.wait_for_selector("#download")
    check()


def test_touch(chromium, survey):
    """On a phone: a tap ranks, a drag with the finger moves."""
    folder, _, _ = survey
    context = chromium.new_context(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page = opened(context, (folder / "survey.html").as_uri())
    enrol(page, "touch-6")
    box(page, "description", ".card img").nth(2).tap()
    assert selects(page, "description") == ["", "", "1", ""]
    slot = box(page, "description", ".slots li").nth(3)
    slot.scroll_into_view_if_needed()
    from_, to = middle(box(page, "description", ".card img").nth(0)), middle(slot)
    touch = context.new_cdp_session(page)
    for kind, points in (("Start", [from_]), ("Move", [to]), ("End", [])):
        dots = [{"x": x, "y": y} for x, y in points]
        touch.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": dots})
    assert selects(page, "description") == ["4", "", "1", ""]
    context.close()


# --- with the server ---


WORDING = read_wording(CONFIG.wording)


def status(page, word):
    playwright.expect(page.locator("#status")).to_have_text(getattr(WORDING, word), timeout=20_000)


def rank_page(page, digits="2143"):
    for item in ITEMS:
        for card, digit in enumerate(digits):
            box(page, item, "select").nth(card).select_option(digit)


def test_two_people_at_once_and_an_outage(chromium, survey, tmp_path):
    """Each sees their own form; the server is killed in the middle, and nothing is lost or mixed."""
    import csv
    import io
    import urllib.request

    _, pages, forms = survey
    database = f"sqlite:///{tmp_path / 's.sqlite'}"
    with Server([pages], [forms], database) as server:
        contexts = [chromium.new_context() for _ in range(2)]
        people = [opened(context, server.url) for context in contexts]
        for number, page in enumerate(people):
            enrol(page, "" if number else "first-1")
            page.wait_for_selector("fieldset")
        for page in people:
            rank_page(page)
        for page in people:
            status(page, "saved")
        server.kill()
        people[0].click("#next")
        rank_page(people[0], "4321")
        status(people[0], "unsaved")
        server.start()
        status(people[0], "saved")
        people[0].reload()
        people[0].wait_for_selector("fieldset")
        assert people[0].locator("h1").inner_text() == "Page 2 of 3"
        assert selects(people[0], "description") == list("4321")
        people[1].reload()
        people[1].wait_for_selector("fieldset")
        assert selects(people[1], "description") == list("2143")
        request = urllib.request.Request(
            f"{server.url}/admin/answers.csv", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}
        )
        rows = list(csv.DictReader(io.StringIO(urllib.request.urlopen(request).read().decode())))
        assert len(rows) == (4 + 4 + 4) * 4
        names = {row["participant"] for row in rows}
        assert "first-1" in names and len(names) == 2
        seen = {name: {row["page"] for row in rows if row["participant"] == name} for name in names}
        assert seen["first-1"] == set(dealt(forms)[0][:2])
        assert [len(pages) for name, pages in seen.items() if name != "first-1"] == [1]
        ours = [f for page in people for f in page.faults if "Failed to load" not in f and "ERR_" not in f]
        assert ours == []
        for context in contexts:
            context.close()


def test_a_code_opens_ones_answers_on_another_device(chromium, survey, tmp_path):
    _, pages, forms = survey
    codes = tmp_path / "codes.txt"
    codes.write_text("alpha-01\nbravo-02\n")
    database = f"sqlite:///{tmp_path / 's.sqlite'}"
    with Server([pages], [forms], database, "--codes", str(codes)) as server:
        one, two = chromium.new_context(), chromium.new_context()
        page = opened(one, server.url)
        enrol(page, "nobody-9")
        playwright.expect(page.locator(".error")).to_contain_text("unknown code")
        enrol(page, "alpha-01")
        page.wait_for_selector("fieldset")
        rank_page(page, "3412")
        status(page, "saved")
        other = opened(two, server.url)
        enrol(other, "alpha-01")
        other.wait_for_selector("fieldset")
        other.click("#back")
        assert selects(other, "description") == list("3412")
        one.close()
        two.close()
