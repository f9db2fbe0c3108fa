"""Chromium, as the tests of pages drive it."""

import shutil
from contextlib import contextmanager

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
BROWSER_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


PATIENCE = 120_000
"""Milliseconds that a busy machine may take; what is waited for comes, or the test fails."""


@contextmanager
def browser():
    """Yield a headless Chromium; one at a time in a process."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install '.[test]'")
    playwright.expect.set_options(timeout=PATIENCE)
    with playwright.sync_playwright() as player:
        started = player.chromium.launch(executable_path=CHROMIUM, args=BROWSER_FLAGS)
        yield started
        started.close()


def opened(context, url, **options):
    """Open a page; ``page.faults`` are those of its scripts and what its console calls errors.

    Args:
        context: where; with ``options``, as ``new_page`` takes them, the browser.
        url: its address.
        options: of a context of its own.
    """
    page = context.new_page(**options)
    page.set_default_timeout(PATIENCE)
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("console", lambda message: message.type == "error" and page.faults.append(message.text))
    page.goto(url)
    return page


def check_axe(page, known=()):
    """axe finds nothing in light and dark, and nothing hangs over on a phone.

    Args:
        page: as it is shown.
        known: rules that a library's own parts break, each with a reason where it is named.
    """
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    rules = {"rules": {rule: {"enabled": False} for rule in known}}
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            found = axe.run(page, options=rules)
            assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), width


SHIFTS = """new Promise(done => {
  let sum = 0;
  new PerformanceObserver(list => list.getEntries().forEach(entry => { sum += entry.value; }))
    .observe({type: "layout-shift", buffered: true});
  requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => done(sum))));
})"""


def layout_shift(page):
    """How much of what is shown has moved without being asked (web.dev's CLS; below 0.1 is good)."""
    return page.evaluate(SHIFTS)
