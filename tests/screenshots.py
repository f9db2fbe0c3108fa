"""The pictures of pages in docs/, drawn anew by Chromium.

python -m tests.screenshots [results]

Of a run it takes results/report.html and results/korea/data_report.html, where they are there. The survey is
one of drawn pictures, its report one of simulated people, the collection a small one of its own.
"""

import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from pipeline_steps.artifacts import SAMPLES, Origin, encode_picture
from pipeline_steps.config import SurveyConfig
from pipeline_steps.mini.corpora import base_corpus
from pipeline_steps.survey.survey_html import survey_html
from pipeline_steps.survey.survey_pages import survey_pages
from tests import ROOT
from tests.browser import browser, opened
from tests.data.collection_world import Curator, Person, Server
from tests.survey.survey_world import VARIANTS
from tests.survey.test_survey_aggregate import made
from tests.survey.test_survey_report import page as report_page

DOCS = Path("docs")
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 1060}
DRAWN = ROOT / "resources/mini/ccub/korea/images"
QUALITY = 75
GIVEN = (
    ("a house with a round door, in Wales", "architecture", "traditional"),
    ("a bowl of broth", "food and drink", "modern"),
    ("a hill, in Wales", "nature", "modern"),
)


def save(page: Any, name: str, **options: Any) -> None:
    """Save what is shown as docs/<name>.webp."""
    picture = Image.open(io.BytesIO(page.screenshot(**options))).convert("RGB")
    picture.save(DOCS / f"{name}.webp", quality=QUALITY, method=6)


def of_run(chromium: Any, results: Path) -> None:
    """The pages that a run leaves."""
    for name, path in (("report", "report.html"), ("data_report", "korea/data_report.html")):
        if (results / path).exists():
            page = opened(chromium, (results / path).absolute().as_uri(), viewport=DESK)
            save(page, name)


def of_survey(chromium: Any, folder: Path) -> None:
    """A page of the survey, three pictures put in order for the first question, and the survey's report."""
    config, drawn = SurveyConfig(pages=2, pages_per_participant=2), base_corpus(2 * len(VARIANTS))
    for number, variant in enumerate(VARIANTS):
        rows = [
            {
                "prompt_id": f"{n:04d}",
                "index": 0,
                "prompt": "a house, in Korea",
                "seed": n,
                "image": encode_picture(
                    Image.fromarray(drawn.pictures[2 * number + n]).resize((512, 512)), "x.png"
                ),
            }
            for n in range(2)
        ]
        SAMPLES.write(folder / f"{variant}.parquet", rows, Origin("korea", "f" * 64))
    samples, pages, forms = (
        [folder / f"{variant}.parquet" for variant in VARIANTS],
        folder / "p",
        folder / "f",
    )
    survey_pages(samples, pages, forms, "korea", 7, config)
    survey_html(pages, forms, list(config.wordings), folder / "survey.html", "korea", config)
    page = opened(chromium, (folder / "survey.html").as_uri(), viewport=DESK)
    page.check("#consent")
    page.fill("#code", "river-stone-cloud-1")
    page.select_option("#culture", "korea")
    page.fill("#years", "9")
    page.click("button[type=submit]")
    page.wait_for_selector("fieldset:enabled")
    for number in (2, 0, 3):
        page.locator("fieldset[data-item=description] .card img").nth(number).click()
    save(page, "survey_page")
    report_page(folder, made(people=12, pages=8), called=("India", "Korea"), simulated=True)
    page.goto((folder / "report.html").as_uri())
    save(page, "survey_report")


def photographs() -> Iterator[bytes]:
    """Drawn pictures, as large as a small photograph."""
    for path in sorted(DRAWN.glob("train_*.png")):
        buffer = io.BytesIO()
        Image.open(path).resize((768, 576), Image.Resampling.LANCZOS).save(buffer, "JPEG")
        yield buffer.getvalue()


def of_collection(chromium: Any, folder: Path) -> None:
    """The contributor's two pages, and the curator's."""
    with Server(folder) as server, httpx.Client(base_url=server.url, timeout=120) as client:
        link, given = server.links()[0], photographs()
        one = Person(client, link)
        ids = [one.give(next(given), caption=text, category=kind, era=era) for text, kind, era in GIVEN]
        desk = Curator(client, server.key())
        desk.decide("accepted", ids[0])
        desk.decide("asked", ids[1], message="Please name Wales in the sentence.")
        phone = opened(
            chromium,
            f"{server.url}/#link={link}",
            viewport=PHONE,
            has_touch=True,
            is_mobile=True,
            device_scale_factor=1,
        )
        phone.wait_for_selector(".cards img")
        save(phone, "collection_phone")
        picture = {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": next(given)}
        phone.set_input_files("#file", picture)
        phone.wait_for_selector("#save:enabled")
        phone.fill("#caption", "a tower in the evening")
        phone.locator("#tokens", has_text="Wales").wait_for()
        save(phone, "collection_picture")
        page = opened(chromium, f"{server.url}/curator#key={server.key()}", viewport=DESK)
        page.wait_for_selector("#pictures")
        page.evaluate("document.getElementById('pictures').scrollIntoView()")
        save(page, "collection_curator")


if __name__ == "__main__":
    with browser() as chromium, tempfile.TemporaryDirectory() as folder:
        of_run(chromium, Path(sys.argv[1] if len(sys.argv) > 1 else "results"))
        of_survey(chromium, Path(folder))
        of_collection(chromium, Path(folder))
