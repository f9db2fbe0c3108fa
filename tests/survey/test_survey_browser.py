"""The survey page in a real browser: by mouse, by keyboard, interrupted, and two at once."""

import csv
import io
import json
import re
import urllib.request

import pytest
import yaml

from pipeline_steps.artifacts import ANSWERS, REJECTED
from pipeline_steps.config import SurveyConfig
from pipeline_steps.survey.shown import ITEMS
from pipeline_steps.survey.survey_codes import survey_codes
from pipeline_steps.survey.survey_html import survey_html
from pipeline_steps.survey.survey_import import survey_import
from pipeline_steps.survey.survey_people import survey_people
from pipeline_steps.survey.wording import read_wording
from tests.browser import CHROMIUM, PATIENCE, browser, check_axe, layout_shift, opened
from tests.survey.survey_world import ADMIN_TOKEN, Server, dealt, make_pages, shown
from tests.survey.test_survey_aggregate import made
from tests.survey.test_survey_report import page as report_page

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install '.[test]'"
)
if CHROMIUM is None:
    pytest.skip("no chromium on PATH: apt-get install chromium", allow_module_level=True)

CONFIG = SurveyConfig()


@pytest.fixture(scope="module")
def chromium():
    with browser() as started:
        yield started


@pytest.fixture
def context(chromium):
    context = chromium.new_context(viewport={"width": 1000, "height": 900}, accept_downloads=True)
    yield context
    context.close()


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    folder = tmp_path_factory.mktemp("survey")
    pages, forms = make_pages(folder)
    survey_html(pages, forms, list(CONFIG.wordings), folder / "survey.html", "korea", CONFIG)
    return folder, pages, forms


def enrol(page, code, culture="korea", years="9"):
    page.check("#consent")
    page.fill("#code", code)
    page.select_option("#culture", culture)
    page.fill("#years", years)
    page.click("button[type=submit]")


def ready(page):
    """Wait for a page's pictures: then it can be ranked."""
    page.wait_for_selector("fieldset:enabled")


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
    enrol(page, "mousemousemouse-1")
    for number in range(3):
        ready(page)
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
            playwright.expect(page.locator(".error")).to_contain_text("Offensiveness")
            box(page, "offensiveness", "button").click()
        page.click("#next")
    given = saved(page)
    assert page.faults == []
    assert (given["participant"], given["culture"], given["years"]) == ("mousemousemouse-1", "korea", 9)
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
    key.type("keyskeyskeys-2")
    tab_to("#culture")
    key.press("k")  # further letters, a second apart on a busy machine, would choose anew
    tab_to("#years")
    key.type("30")
    key.press("Enter")
    for _ in range(3):
        ready(page)
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
    enrol(page, "againagainagain-3")
    for card in range(4):
        box(page, "description", "select").nth(card).select_option(str(card + 1))
    page.click("#next")
    box(page, "stereotypes", "select").nth(2).select_option("1")
    page.reload()
    ready(page)
    playwright.expect(page.locator("h1")).to_have_text("Page 2 of 3")
    assert selects(page, "stereotypes") == ["", "", "1", ""]
    page.click("#back")
    assert selects(page, "description") == ["1", "2", "3", "4"]
    page.close()
    page = opened(context, url)
    ready(page)
    assert selects(page, "description") == ["1", "2", "3", "4"]
    box(page, "stereotypes", "button").click()
    page.click("#next")
    box(page, "stereotypes", "button").click()
    page.click("#next")
    page.click("#next")
    first = saved(page)
    again = saved(page)
    assert (first["exported"], again["exported"]) == (1, 2) and first["key"] == again["key"] != ""
    page.click("#another")
    enrol(page, "otherotherother-4")
    assert selects(page, "description") == ["", "", "", ""]
    assert page.faults == []


@pytest.fixture(scope="module")
def later(tmp_path_factory):
    """Pages and forms of a second round: other pictures, three to a page."""
    return make_pages(tmp_path_factory.mktemp("later"), variants=["sd", "scoft_mp", "scoft_mpc"])


@pytest.mark.parametrize("passed", [1, 3])
def test_a_later_round_of_the_file_begins_anew(context, survey, later, tmp_path, passed):
    """The same code, on the same device, at the same address: half of the first round is done, or all."""
    _, pages, forms = survey
    file = tmp_path / "survey.html"
    survey_html(pages, forms, list(CONFIG.wordings), file, "korea", CONFIG)
    page = opened(context, file.as_uri())
    enrol(page, "againagainagain-3")
    for _ in range(passed):
        ready(page)
        page.click("#next")
    survey_html(*later, list(CONFIG.wordings), file, "korea", CONFIG)
    page.reload()
    enrol(page, "againagainagain-3")
    for number in range(3):
        ready(page)
        playwright.expect(page.locator("h1")).to_have_text(f"Page {number + 1} of 3")
        rank_page(page, "123", ["description"])
        page.click("#next")
    answers = saved(page)["answers"]
    assert {answer["page"] for answer in answers} == set(dealt(later[1])[3 % 2])  # of two forms
    assert [len(answer["ranks"]) for answer in answers if answer["ranks"]] == [3, 3, 3]
    # The first round's file still knows what was given in it.
    survey_html(pages, forms, list(CONFIG.wordings), file, "korea", CONFIG)
    page.reload()
    if passed < 3:
        playwright.expect(page.locator("h1")).to_have_text("Page 2 of 3")
    else:
        assert len(saved(page)["answers"]) == 12
    assert page.faults == []


def test_a_later_round_of_the_server_takes_the_answers_that_are_given_in_it(
    chromium, survey, later, tmp_path
):
    """An answer of the first round never reached the server, and its end was reached."""
    _, pages, forms = survey
    with Server([pages], [forms], f"sqlite:///{tmp_path / 's.sqlite'}") as server:
        context = chromium.new_context()
        page = opened(context, server.url)
        enrol(page, "")
        for _ in range(2):
            ready(page)
            rank_page(page)
            page.click("#next")
        ready(page)
        status(page, "saved")
        server.kill()
        page.click("#next")
        status(page, "unsaved")
        first = {str(pages): str(later[0]), str(forms): str(later[1])}
        server.command = [first.get(word, word) for word in server.command]
        server.start()
        page.reload()
        for number in range(3):
            ready(page)
            playwright.expect(page.locator("h1")).to_have_text(f"Page {number + 1} of 3")
            rank_page(page, "123", ["description"])
            page.click("#next")
        playwright.expect(page.locator("#handed-in")).to_have_text(WORDING.done_server)
        given = [row["page"] for row in exported(server) if row["rank"] and row["page"] in shown(later[0])]
        assert len(given) == 3 * 3
        context.close()


def test_pages_that_are_added_to_a_round_lose_no_answer(chromium, survey, tmp_path_factory, tmp_path):
    """The server was away when an answer was given, and came back with more pages."""
    _, pages, forms = survey
    more = make_pages(tmp_path_factory.mktemp("more"), pages=9)
    assert shown(pages).keys() < shown(more[0]).keys() and min(shown(more[0])) not in shown(pages)
    with Server([pages], [forms], f"sqlite:///{tmp_path / 's.sqlite'}") as server:
        context = chromium.new_context()
        page = opened(context, server.url)
        enrol(page, "")
        ready(page)
        server.kill()
        rank_page(page, "2143", ["description"])
        status(page, "unsaved")
        added = {str(pages): str(more[0]), str(forms): str(more[1])}
        server.command = [added.get(word, word) for word in server.command]
        server.start()
        page.reload()
        ready(page)
        status(page, "saved")
        assert sorted(row["rank"] for row in exported(server)) == ["1", "2", "3", "4"]
        assert (
            page.evaluate("Object.keys(localStorage).filter((key) => key.includes('participant')).length")
            == 1
        )
        context.close()


def test_a_browser_that_keeps_nothing_is_said_and_goes_on(chromium, survey):
    """As where a page's data are blocked: even to look at what is kept is an error."""
    folder, _, _ = survey
    context = chromium.new_context()
    context.add_init_script(
        "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('', 'Security'); }})"
    )
    page = opened(context, (folder / "survey.html").as_uri())
    enrol(page, "nothingnothing-1")
    ready(page)
    rank_page(page, "2143", ["description"])
    status(page, "no_storage")
    assert page.faults == []
    context.close()


def test_who_may_not_take_part(context, survey):
    folder, _, _ = survey
    page = opened(context, (folder / "survey.html").as_uri())
    page.click("button[type=submit]")
    playwright.expect(page.locator(".error")).to_contain_text("tick the box")
    enrol(page, "with space")
    playwright.expect(page.locator(".error")).to_contain_text("as it was given to you")
    enrol(page, "seoul-1")
    playwright.expect(page.locator(".error")).to_contain_text("is not short")  # a code that can be guessed
    enrol(page, "youngyoungyoung", years="4")
    playwright.expect(page.locator("main")).to_contain_text("at least 5 years")
    assert page.evaluate("localStorage.length") == 0


def test_the_page_hides_the_variants(survey):
    folder, _, _ = survey
    text = (folder / "survey.html").read_text()
    assert "scoft_m" not in text and "http" not in text.replace('"scoft-survey"', "")
    assert "in korea <b>" not in text, "a prompt's < must not reach the HTML"


def test_every_page_shows_words_alone(context, survey):
    """Nothing that the script holds for empty is written out or read aloud."""
    folder, _, _ = survey
    page = opened(context, (folder / "survey.html").as_uri())
    enrol(page, "wordswordswords-1")
    for _ in range(4):
        text = page.locator("body").inner_text() + page.locator("main").aria_snapshot()
        assert not re.search(r"\b(null|undefined|NaN)\b|\[object", text)
        page.click("#next, #download")


def test_handing_on_without_saving_is_warned_of(context, survey):
    folder, _, _ = survey
    page = opened(context, (folder / "survey.html").as_uri())
    enrol(page, "handhandhand-1")
    box(page, "description", "select").nth(0).select_option("1")
    box(page, "description", "button").click()
    for _ in range(3):
        page.click("#next")
    page.click("#another")
    playwright.expect(page.locator(".error")).to_contain_text("not saved")
    given = saved(page)
    assert given["participant"] in page.locator(".printed").inner_text()
    page.click("#back")
    page.click("#next")
    page.click("#another")
    page.wait_for_selector("#consent")
    assert page.evaluate("window.print = () => {}; 1") and page.faults == []


def test_a_printed_page_shows_the_code(context, survey):
    folder, _, _ = survey
    page = opened(context, (folder / "survey.html").as_uri() + "#code=linklinklink-1")
    assert page.input_value("#code") == "linklinklink-1" and "#code" not in page.url
    page.evaluate("window.print = () => { document.title = 'printed'; }")
    enrol(page, "")
    page.click("#print")
    assert page.title() == "printed"
    page.emulate_media(media="print")
    code = page.locator(".printed .code").inner_text()
    assert re.fullmatch("p[0-9a-f]{16}", code)
    assert page.locator(".printed .code").is_visible() and not page.locator("h1").is_visible()


ARABIC = {
    "language": "ar",
    "language_name": "العربية",
    "language_choose": "اللغة",
    "direction": "rtl",
    "title": "كيف تُصوَّر ثقافتنا؟",
    "consent_agree": "قرأت هذا وأنا بالغ وأريد المشاركة.",
    "start": "ابدأ",
    "next": "التالي",
    "back": "السابق",
    "finish": "إنهاء",
    "description": "الوصف",
    "page_of": "الصفحة {page} من {pages}",
    "instructions": "رتّب الصور الـ{count} لكل سؤال، والرقم 1 للأفضل.",
    "done_title": "شكرًا لك",
    "your_code": "رمزك هو {code} فاحتفظ به.",
}


@pytest.fixture(scope="module")
def languages(survey, tmp_path_factory):
    """The survey in English, Korean and Arabic, with some prompts translated."""
    folder = tmp_path_factory.mktemp("languages")
    words = yaml.safe_load(CONFIG.wording.read_text())
    arabic = folder / "wording.ar.yaml"
    arabic.write_text(yaml.safe_dump(words | ARABIC, allow_unicode=True))
    korean = CONFIG.wording.with_name("wording.ko.yaml")
    prompts = folder / "prompts.csv"
    prompts.write_text(
        "prompt,ko\n" + "".join(f'"scene {n}, in korea <b>",한국의 장면 {n}\n' for n in range(3))
    )
    _, pages, forms = survey
    offered = [CONFIG.wording, korean, arabic]
    survey_html(pages, forms, offered, folder / "survey.html", "korea", CONFIG, "Korea", prompts)
    return folder / "survey.html"


def test_the_language_is_the_participants_choice(context, languages):
    page = opened(context, languages.as_uri())
    assert page.get_attribute("html", "lang") == "en"
    page.select_option("#language", "ko")
    assert page.get_attribute("html", "lang") == "ko"
    page.reload()
    playwright.expect(page.locator("h1")).to_have_text("우리는 어떻게 그려지고 있을까요?")
    enrol(page, "languagelanguage-1")
    ready(page)
    assert re.fullmatch(r"한국의 장면 \d", page.locator("#prompt").inner_text())
    for _ in range(3):
        page.click("#next")
    assert saved(page)["language"] == "ko"
    page.click("#another")
    page.select_option("#language", "ar")
    assert page.get_attribute("html", "dir") == "rtl"
    enrol(page, "languagelanguage-2")
    ready(page)
    prompt = page.locator("bdi#prompt")
    assert prompt.get_attribute("dir") == "auto" and prompt.inner_text().endswith("in korea <b>")
    assert page.faults == []


def test_the_browsers_language_comes_first(chromium, languages):
    context = chromium.new_context(locale="ko-KR")
    page = opened(context, languages.as_uri())
    assert page.get_attribute("html", "lang") == "ko"
    context.close()


@pytest.mark.parametrize("language", ["ko", "ar"])
def test_accessibility(context, languages, language):
    page = opened(context, languages.as_uri())
    page.select_option("#language", language)
    check_axe(page)
    enrol(page, "axeaxeaxeaxe-5")
    ready(page)
    box(page, "description", ".card img").nth(1).click()
    check_axe(page)
    page.click(".pictures button >> nth=0")
    check_axe(page)
    page.click("dialog .bar button")
    box(page, "description", "button").click()
    for _ in range(3):
        page.click("#next")
    page.wait_for_selector("#download")
    page.click("#another")
    check_axe(page)


def test_a_page_fits_a_desktop_with_one_scroll_and_each_picture_is_large_once(context, survey):
    page = opened(context, (survey[0] / "survey.html").as_uri())
    page.set_viewport_size({"width": 1280, "height": 900})
    enrol(page, "fitsfitsfitsf-1")
    ready(page)
    for _ in range(2):
        assert page.evaluate("document.documentElement.scrollHeight") <= 2 * 900
        wide = page.evaluate("[...document.querySelectorAll('main img')].map(i => i.clientWidth)")
        assert sum(width > 200 for width in wide) == 4 and sum(width > 80 for width in wide) == 4
        rank_page(page)
        page.click("#next")
        ready(page)
    page.click(".pictures button >> nth=0")
    shown = "document.querySelector('dialog img').src === document.querySelectorAll('.pictures img')[{}].src"
    for key, number in (("ArrowRight", 1), ("ArrowLeft", 0), ("ArrowLeft", 3), ("ArrowDown", 0)):
        page.keyboard.press(key)
        assert page.evaluate(shown.format(number)), key
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")  # its "close" event comes after the key


def test_accessibility_of_the_number_of_people(context, tmp_path):
    survey_people(tmp_path / "people.html", 1, SurveyConfig())
    check_axe(opened(context, (tmp_path / "people.html").as_uri()))


def test_the_report_is_accessible_and_nothing_moves_while_it_is_loaded(context, tmp_path):
    report_page(tmp_path, made(people=6, pages=2), together=3)
    check_axe(opened(context, (tmp_path / "report.html").as_uri()))
    for width in (390, 1280):
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.set_viewport_size({"width": width, "height": 844})
        page.goto((tmp_path / "report.html").as_uri())
        assert layout_shift(page) < 0.1, width


def test_accessibility_of_the_codes(context, tmp_path):
    survey_codes(3, tmp_path / "codes.txt", tmp_path / "codes.html", "https://survey.example/")
    check_axe(opened(context, (tmp_path / "codes.html").as_uri()))


def test_touch(chromium, survey):
    """On a phone: a tap ranks, a drag with the finger moves."""
    folder, _, _ = survey
    context = chromium.new_context(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page = opened(context, (folder / "survey.html").as_uri())
    enrol(page, "touchtouchtouch-6")
    ready(page)
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
    playwright.expect(page.locator("#status")).to_have_text(getattr(WORDING, word))


PICTURES_COME = """count => performance.getEntriesByType("resource")
    .filter(one => one.name.includes("/pictures/")).length >= count"""


def rank_page(page, digits="2143", items=ITEMS):
    for item in items:
        for card, digit in enumerate(digits):
            box(page, item, "select").nth(card).select_option(digit)


def test_two_people_at_once_and_an_outage(chromium, survey, tmp_path):
    """Each sees their own form; the server is killed in the middle, and nothing is lost or mixed."""
    _, pages, forms = survey
    database = f"sqlite:///{tmp_path / 's.sqlite'}"
    with Server([pages], [forms], database) as server:
        contexts = [chromium.new_context() for _ in range(2)]
        people = [opened(context, server.url) for context in contexts]
        for number, page in enumerate(people):
            enrol(page, "" if number else "first-1")
            ready(page)
        for page in people:
            rank_page(page)
        for page in people:
            status(page, "saved")
            page.wait_for_function(PICTURES_COME, arg=2 * 4)  # the next page's as well
        server.kill()
        people[0].click("#next")
        rank_page(people[0], "4321")
        status(people[0], "unsaved")
        server.start()
        status(people[0], "saved")
        people[0].reload()
        ready(people[0])
        playwright.expect(people[0].locator("h1")).to_have_text("Page 2 of 3")
        assert selects(people[0], "description") == list("4321")
        people[1].reload()
        ready(people[1])
        assert selects(people[1], "description") == list("2143")
        rows = exported(server)
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


@pytest.mark.parametrize("kiosk", [False, True])
def test_answers_are_called_stored_once_they_are(chromium, survey, tmp_path, kiosk):
    """The server is away when the last page is handed in: who would close the page is warned."""
    _, pages, forms = survey
    database = f"sqlite:///{tmp_path / 's.sqlite'}"
    with Server([pages], [forms], database, *["--kiosk"] * kiosk) as server:
        context = chromium.new_context()
        page = opened(context, server.url)
        enrol(page, "")
        for _ in range(2):
            ready(page)
            page.click("#next")
        ready(page)
        status(page, "saved")
        server.kill()
        page.click("#next")
        end = page.locator("#handed-in")
        playwright.expect(end).to_have_text(WORDING.not_stored)
        status(page, "unsaved")
        playwright.expect(end).to_have_text(WORDING.not_stored)
        with page.expect_event("dialog") as asked:
            page.close(run_before_unload=True)
        assert asked.value.type == "beforeunload"
        asked.value.dismiss()
        server.start()
        playwright.expect(end).to_have_text(WORDING.done_kiosk if kiosk else WORDING.done_server)
        assert len(exported(server)) == 3 * 4 * 4
        with page.expect_event("close"):
            page.close(run_before_unload=True)
        context.close()


def test_what_the_server_refuses_at_the_end_is_said(chromium, survey, tmp_path):
    _, pages, forms = survey
    with Server([pages], [forms], f"sqlite:///{tmp_path / 's.sqlite'}") as server:
        context = chromium.new_context()
        page = opened(context, server.url)
        enrol(page, "")
        for _ in range(2):
            ready(page)
            page.click("#next")
        status(page, "saved")
        admin = opened(context, f"{server.url}/admin")
        admin.fill("#token", ADMIN_TOKEN)
        admin.click("button")
        admin.click("text=Close the survey")
        playwright.expect(admin.locator("main")).to_contain_text("is closed")
        page.click("#next")
        end = page.locator("#handed-in")
        playwright.expect(end).to_have_text(WORDING.refused.format(reason="the survey is closed"))
        admin.click("text=Open it again")
        playwright.expect(end).to_have_text(WORDING.done_server)
        context.close()


def test_who_is_enrolled_stays_so_while_the_server_is_away(chromium, survey, tmp_path):
    """A proxy's 502 is no reason to enrol once more, as somebody else."""
    _, pages, forms = survey
    with Server([pages], [forms], f"sqlite:///{tmp_path / 's.sqlite'}") as server:
        context = chromium.new_context()
        page = opened(context, server.url)
        enrol(page, "")
        ready(page)
        code = page.locator(".printed .code").inner_text()
        away = [502, 503, 429]
        page.route("**/api/me", lambda r: r.fulfill(status=away.pop()) if away else r.continue_())
        page.reload()
        status(page, "unsaved")
        assert page.locator("#consent").count() == 0
        ready(page)
        assert page.locator(".printed .code").inner_text() == code and away == []
        context.close()


def test_a_code_opens_ones_answers_on_another_device(chromium, survey, tmp_path):
    _, pages, forms = survey
    codes = tmp_path / "codes.txt"
    codes.write_text("alphaalphaalpha-1\nbravobravobravo-2\n")
    database = f"sqlite:///{tmp_path / 's.sqlite'}"
    with Server([pages], [forms], database, "--codes", str(codes)) as server:
        one, two = chromium.new_context(), chromium.new_context()
        page = opened(one, server.url)
        enrol(page, "nobodynobody-9")
        playwright.expect(page.locator(".error")).to_contain_text("unknown code")
        enrol(page, "alphaalphaalpha-1")
        ready(page)
        rank_page(page, "3412")
        status(page, "saved")
        other = opened(two, server.url)
        enrol(other, "alphaalphaalpha-1")
        ready(other)
        other.click("#back")
        assert selects(other, "description") == list("3412")
        one.close()
        two.close()


def test_pictures_that_fail_are_loaded_again(chromium, survey, tmp_path):
    """A page without all its pictures cannot be ranked."""
    _, pages, forms = survey
    with Server([pages], [forms], f"sqlite:///{tmp_path / 's.sqlite'}") as server:
        context = chromium.new_context()
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        broken, away = [], [True]

        def picture(route):
            url = route.request.url
            if url.endswith("-2") or ("-2?" in url and (away or len(broken) < 2)):
                broken.append(url)
                return route.abort()
            return route.continue_()

        page.route("**/pictures/*", picture)
        page.goto(server.url)
        enrol(page, "")
        playwright.expect(page.locator("#loading")).to_have_text(WORDING.loading_again)
        playwright.expect(page.locator("fieldset:enabled")).to_have_count(0)
        box(page, "description", ".card img").nth(0).dispatch_event("pointerdown")
        box(page, "description", ".card img").nth(0).dispatch_event("pointerup")
        assert selects(page, "description") == [""] * 4
        away.clear()
        ready(page)
        assert len(broken) >= 2 and page.locator("#loading").count() == 0
        shows = "[...document.querySelectorAll('.pictures img')].map(i => i.naturalWidth)"
        # A function: the page's policy lets no expression be evaluated.
        page.wait_for_function(f"() => {shows}.every(Boolean)")
        box(page, "description", ".card img").nth(0).click()
        assert selects(page, "description") == ["1", "", "", ""]
        context.close()


def test_untouched_questions_are_blanks(chromium, survey, tmp_path):
    _, pages, forms = survey
    with Server([pages], [forms], f"sqlite:///{tmp_path / 's.sqlite'}") as server:
        context = chromium.new_context()
        page = opened(context, server.url)
        enrol(page, "")
        ready(page)
        for card in range(4):
            box(page, "stereotypes", "select").nth(card).select_option(str(card + 1))
        for _ in range(3):
            page.click("#next")
        status(page, "saved")
        rows = exported(server)
        assert len({(row["page"], row["item"]) for row in rows}) == 3 * 4
        assert {row["item"] for row in rows if row["rank"]} == {"stereotypes"}
        context.close()


def exported(server):
    request = urllib.request.Request(
        f"{server.url}/admin/answers.csv", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}
    )
    return list(csv.DictReader(io.StringIO(urllib.request.urlopen(request).read().decode())))


def test_a_kiosk_is_handed_from_person_to_person(chromium, survey, tmp_path):
    _, pages, forms = survey
    with Server([pages], [forms], f"sqlite:///{tmp_path / 's.sqlite'}", "--kiosk") as server:
        context = chromium.new_context()
        page = opened(context, server.url)
        enrol(page, "")
        ready(page)
        rank_page(page)
        status(page, "saved")
        page.reload()  # in the middle, the visitor goes on
        ready(page)
        for _ in range(2):
            page.click("#next")
        code = page.locator(".printed .code").inner_text()
        playwright.expect(page.locator("#back")).to_have_count(0)
        page.click("#another")
        page.wait_for_selector("#consent")
        for go in (page.go_back, page.reload):
            go()
            page.goto(server.url) if page.url == "about:blank" else None
            page.wait_for_selector("#consent")
            assert code not in page.content()
        assert page.evaluate("localStorage.length + sessionStorage.length") == 0
        assert {row["participant"] for row in exported(server)} == {code}

        enrol(page, "")
        ready(page)
        box(page, "description", "select").nth(0).select_option("1")
        page.click("#another")  # one who stops in the middle
        page.wait_for_selector("#consent")
        context.close()


def test_the_administrators_page(chromium, survey, tmp_path):
    """Without a command: come in, look, download, delete, close, leave."""
    _, pages, forms = survey
    with Server([pages], [forms], f"sqlite:///{tmp_path / 's.sqlite'}") as server:
        context = chromium.new_context(accept_downloads=True)
        person = opened(context, server.url)
        enrol(person, "")
        ready(person)
        rank_page(person)
        status(person, "saved")
        code = person.locator(".printed .code").inner_text()
        page = opened(context, f"{server.url}/admin")
        check_axe(page)
        page.fill("#token", ADMIN_TOKEN)
        page.click("button")
        with page.expect_download() as download:
            page.click("text=answers.csv")
        assert code in download.value.path().read_text()
        check_axe(page)
        page.fill("#participant", code)
        page.click("text=Delete the person")
        playwright.expect(page.locator(".banner")).to_contain_text(f"{code} is deleted, with 4 answers")
        playwright.expect(page.locator(".banner")).to_contain_text("answers.csv of 20")
        check_axe(page)
        page.click("text=Close the survey")
        playwright.expect(page.locator("main")).to_contain_text("is closed")
        person.goto(server.url)
        playwright.expect(person.locator("main")).to_contain_text(WORDING.closed)
        page.click("text=Leave this page")
        playwright.expect(page.locator("#token")).to_have_count(1)
        assert page.faults == []
        context.close()
