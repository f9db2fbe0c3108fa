"""The page from hand-made artifacts: whole, offline, readable; and in headless Chromium."""

import base64
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline_steps.artifacts import (
    DEPTH,
    DISTANCES,
    FEATURES,
    IMAGES,
    NEGATIVES,
    SAMPLES,
    SCORES,
    TRAIN_LOG,
    Origin,
    encode_picture,
)
from pipeline_steps.config import PipelineConfig
from pipeline_steps.drawing.charts import line_chart
from pipeline_steps.report.report import TABLES, _curves, _seen, report
from tests.browser import CHROMIUM, browser, check_axe, layout_shift

TEMPLATE, STYLE = Path("resources/report/page.html"), Path("resources/report/page.css")


def cell(seed, mode="RGB", side=32):
    shape = (side, side, 3) if mode == "RGB" else (side, side)
    pixels = np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)
    return encode_picture(Image.fromarray(pixels), f"{seed}.png")


def features(count):
    drawn = torch.randn(count, 5, generator=torch.Generator().manual_seed(count))
    return {"dreamsim": drawn, "blank": torch.arange(count) == 1}


def culture_files(root, name, variants=("sd", "scoft_mpc")):
    """Write every artifact the page reads for one culture, six training pictures and two prompts."""
    origin = Origin(name, name * 8)
    ids = [f"img_{number}" for number in range(8)]
    about = dict.fromkeys(IMAGES.schema.names) | {
        "crop": [0, 0, 32, 32],
        "source_width": 32,
        "source_height": 32,
    }
    IMAGES.write(
        root / "images.parquet",
        [
            about
            | {
                "image_id": image_id,
                "image": cell(number),
                "caption": f"<b>caption</b> {number}",
                "split": "train" if number < 6 else "test",
                "source_sha256": "0",
                "licence": "CC0-1.0" if number else None,
                "contributor": f"person {number % 3}",
            }
            for number, image_id in enumerate(ids)
        ],
        origin,
    )
    DEPTH.write(root / "depth.parquet", [{"image_id": i, "image": cell(9, "L")} for i in ids[:6]], origin)
    pairs = [(image_id, index) for image_id in ids[:6] for index in range(2)]
    NEGATIVES.write(
        root / "negatives.parquet",
        [{"image_id": i, "index": n, "image": cell(n), "prompt": "p", "seed": n} for i, n in pairs],
        origin,
    )
    DISTANCES.write(
        root / "distances.parquet",
        [{"image_id": i, "index": n, "distance": 0.05 + n / 2, "kept": n > 0} for i, n in pairs],
        origin,
    )
    networks = {"networks": json.dumps({"inception": {"path": "net", "sha256": "ab" * 32}})}
    FEATURES.write(root / "features/images.safetensors", features(8), origin, networks)
    score = dict.fromkeys(SCORES.schema.names) | {
        "interval": "95%",
        "unit": "u",
        "generated": 4,
        "reference": 2,
        "extractor": "net",
        "weights_sha256": "ab" * 32,
    }
    for variant in variants:
        rows = [
            {"prompt_id": p, "index": i, "prompt": f'a "{p}" & more', "seed": i, "image": cell(i)}
            for p in ("0000", "0001")
            for i in range(2)
        ]
        SAMPLES.write(root / f"samples/{variant}.parquet", rows, origin)
        FEATURES.write(root / f"features/{variant}.safetensors", features(4), origin, networks)
    SCORES.write(
        root / "scores.parquet",
        [
            score | {"variant": v, "metric": m, "value": 0.25, "low": 0.1, "high": 0.4}
            for v in sorted(variants)
            for m in ("clip_score", "kid")
        ],
        origin,
        {"blank": {"sd": 1, "scoft_mpc": 0}},
    )
    looks = {"look_share": [0.1, 0.9], "look_positive": [0.25, 0.5]}
    looks |= {"look_negative": [0.75, None], "look_active": [0.5, None]}
    log = dict.fromkeys(TRAIN_LOG.schema.names, 1.0) | looks
    TRAIN_LOG.write(
        root / "train_log.parquet",
        [
            log | {"update": n, "epoch": 0, "loss_c": None, "gradient_norm_perceptual": None}
            for n in range(1, 40)
        ],
        origin,
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    names, variants = ("korea", "nigeria"), ("sd", "scoft_mpc")
    for name in names:
        culture_files(root / name, name)
    table = root / "table1.csv"
    table.write_text("source,culture,variant,kid_ccub_x1000,kid_ccub_x1000_low,kid_ccub_x1000_high\n"
                     "ours,all,sd,3.5,3,4\npaper,all,sd,30.355,,\n")  # fmt: skip
    fig6, power = root / "korea/figures/fig6.png", root / "nigeria/figures/kid_power.svg"
    fig6.parent.mkdir()
    power.parent.mkdir()
    Image.new("RGB", (900, 40), "red").save(fig6)
    power.write_text(line_chart("How many pictures?", {"a − b": [(5, 0.5), (10, 0.9)]}, "pictures", "share"))
    settings = PipelineConfig.model_validate(
        {"cultures": {name: {"suffix": f", in {name}", "images": "nowhere"} for name in names}}
    )
    report(
        root / "report.html",
        TEMPLATE,
        STYLE,
        images=[root / name / "images.parquet" for name in names],
        depth=[root / name / "depth.parquet" for name in names],
        negatives=[root / name / "negatives.parquet" for name in names],
        distances=[root / name / "distances.parquet" for name in names],
        samples=[root / name / f"samples/{v}.parquet" for name in names for v in variants],
        features=[root / name / f"features/{v}.safetensors" for name in names for v in variants],
        references=[root / name / "features/images.safetensors" for name in names],
        scores=[root / name / "scores.parquet" for name in names],
        train_logs=[root / name / "train_log.parquet" for name in names],
        settings=settings,
        tables=[table],
        figures=[power, fig6],
    )
    return root / "report.html"


class Elements(HTMLParser):
    """Every element with its attributes, and the ids."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_every_picture_is_embedded_opens_and_has_a_text(page):
    pictures = [attrs for tag, attrs in Elements(page.read_text()).found if tag == "img"]
    # Per culture: 2 prompts before and after, 2 prompts × 2 pictures × 2 variants, 2 × 3 nearest pairs (one
    # picture is blank), 6 × (positive, depth, 2 negatives); and Fig. 6.
    assert len(pictures) == 2 * (4 + 8 + 2 * 3 * 2 + 6 * 4) + 1
    for attrs in pictures:
        assert attrs["alt"].strip()
        head, data = attrs["src"].split(",", 1)
        assert head == "data:image/webp;base64"
        Image.open(io.BytesIO(base64.b64decode(data))).verify()


def test_works_offline_and_every_link_has_its_target(page):
    elements = Elements(page.read_text()).found
    addresses = [v for _, attrs in elements for k, v in attrs.items() if k in ("src", "href")]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    ids = {attrs["id"] for _, attrs in elements if "id" in attrs}
    assert {address[1:] for address in addresses if address.startswith("#")} <= ids
    assert not re.search(r"@import|url\(\s*['\"]?http", page.read_text())


def test_can_be_read_by_keyboard_and_on_a_phone(page):
    elements = Elements(page.read_text()).found
    assert any(tag == "meta" and attrs.get("name") == "viewport" for tag, attrs in elements)
    for tag, attrs in elements:
        if "scroll" in attrs.get("class", "").split():
            assert attrs["tabindex"] == "0" and attrs["aria-label"]
        if tag == "svg":
            assert attrs["role"] == "img" and attrs["aria-label"]
    radios = {"opening": [], "variant-korea": []}
    for tag, attrs in elements:
        if tag == "input" and attrs["name"] in radios:
            radios[attrs["name"]].append(attrs["value"])
    assert radios == {"opening": ["before", "after"], "variant-korea": ["sd", "scoft_mpc", "all"]}


def test_every_term_with_a_mark_is_explained_and_no_other(page):
    elements = Elements(page.read_text()).found
    marked = {attrs["popovertarget"] for _, attrs in elements if "popovertarget" in attrs}
    assert marked == {attrs["id"] for _, attrs in elements if "popover" in attrs} and len(marked) > 5


def test_texts_are_escaped_and_statements_are_made(page):
    text = page.read_text()
    assert "<b>caption" not in text and "&lt;b&gt;caption" in text
    assert "CC0-1.0 (7), not stated (1)" in text
    assert "6 negatives kept, 6 dropped" in text
    assert text.count("Blank pictures, not scored: 1 of Stable Diffusion.") == 2
    assert "repeat the training picture (korea)" in text and "apart (nigeria)" in text
    assert text.count("0.050 dropped") == 12
    # By these withdraw_report finds the page.
    assert all(f"<small>{name * 8}</small>" in text for name in ("korea", "nigeria"))
    assert "30.36" in text and "3.5" in text
    assert page.stat().st_size < 20e6


def test_pages_to_read_and_pages_to_fill_in_have_the_same_colours():
    read, filled_in = STYLE.read_text(), Path("resources/web/form.css").read_text()
    colours = [set(re.findall(r"(--[\w-]+): (#\w+)", text)) for text in (read, filled_in)]
    assert colours[0] == colours[1] and len(colours[0]) > 30


def test_looks_are_summed_up_by_quarter_of_the_schedule(tmp_path):
    log = dict.fromkeys(TRAIN_LOG.schema.names, 1.0) | {"epoch": 0}
    names = ("look_share", "look_positive", "look_negative", "look_active")
    seen = [([0.1, 0.2], [0.2, 0.4], [0.5, None], [1.0, None]), ([1.0], [0.9], [0.1], [0.0])]
    rows = [log | {"update": n} | dict(zip(names, row, strict=True)) for n, row in enumerate(seen)]
    TRAIN_LOG.write(tmp_path / "log", rows)
    assert _seen(tmp_path / "log") == [
        ["0 to 0.25", "2", "0.300", "0.500", "1.000"],
        ["0.75 to 1", "1", "0.900", "0.100", "0.000"],
    ]


def test_updates_that_overflowed_are_left_out_of_the_curves(tmp_path):
    looks = {name: [] for name in TRAIN_LOG.schema.names if name.startswith("look_")}
    log = dict.fromkeys(TRAIN_LOG.schema.names, 1.0) | {"epoch": 0} | looks
    whole = [log | {"update": n, "loss_ldm": 1 / n} for n in range(1, 9)]
    skipped = [log | {"update": n, "loss_ldm": bad} for n, bad in ((9, math.inf), (10, math.nan))]
    kept = [row | {"loss_ldm": 1.0} for row in skipped]
    for name, rows in (("whole", whole), ("skipped", whole + skipped), ("kept", whole + kept)):
        TRAIN_LOG.write(tmp_path / name, rows)
    drawn = {name: _curves("korea", tmp_path / name) for name in ("whole", "skipped", "kept")}
    lines = {name: re.findall(r'<polyline points="([^"]*)"', charts[0]) for name, charts in drawn.items()}
    # ten updates everywhere but on the line of loss_ldm, which has eight
    assert [len(line.split()) for line in lines["whole"]] == [8] * 6
    assert [len(line.split()) for line in lines["skipped"]] == [8, *[10] * 5]
    assert drawn["skipped"][1] == drawn["kept"][1]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_line_chart_leaves_out_what_is_not_finite(bad):
    band = [(0, 1, 3), (1, 2, 4)]
    right = line_chart("t", {"a": [(0, 2), (1, 3)], "b": [(0, 1)]}, "x", "y", {"a": band})
    points = {"a": [(0, 2), (1, bad), (1, 3)], "b": [(0, 1), (bad, 1)]}
    assert line_chart("t", points, "x", "y", {"a": [*band, (2, 2, bad)]}) == right
    with pytest.raises(ValueError, match="no points"):
        line_chart("t", {"a": [(0, bad)]}, "x", "y")


SHOWN = """v => [...document.querySelectorAll("#sheet-korea .cell img")].filter(
    i => i.dataset.variant === v && getComputedStyle(i).display !== "none").length"""


@pytest.fixture(scope="module")
def chromium():
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def opened(chromium, page):
    """The page on a phone, with all faults of console and network, and no network but files."""
    context = chromium.new_context(viewport={"width": 390, "height": 844}, offline=True)
    shown, faults = context.new_page(), []
    shown.on("pageerror", lambda error: faults.append(str(error)))
    shown.on("console", lambda message: faults.append(message.text))
    shown.on("requestfailed", lambda request: faults.append(request.url[:80]))
    shown.goto(page.as_uri())
    return shown, faults


needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


@needs_chromium
def test_on_a_phone_every_picture_loads_and_nothing_is_cut(opened):
    shown, faults = opened
    assert shown.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert shown.evaluate("[...document.images].every(i => i.alt.trim())")
    small = """[...document.querySelectorAll("svg text")].map(t => t.getBoundingClientRect().height)
        .filter(h => h > 0 && h < 9).length"""
    assert shown.evaluate(small) == 0  # text of the charts keeps its size
    assert faults == []


@needs_chromium
def test_accessibility(chromium, page):
    """Folded as it comes, and with every topic open."""
    shown = chromium.new_page()
    shown.goto(page.as_uri())
    check_axe(shown)
    shown.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    check_axe(shown)
    shown.close()


@needs_chromium
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_moves_while_the_page_is_loaded(chromium, page, width):
    shown = chromium.new_page(viewport={"width": width, "height": 844})
    shown.goto(page.as_uri())
    assert layout_shift(shown) < 0.1
    shown.evaluate("document.querySelector('main').style.marginTop = '300px'")
    assert layout_shift(shown) > 0.1, "what moves is seen"
    shown.close()


@needs_chromium
def test_before_and_after_by_keyboard(opened):
    shown, _ = opened
    seen = """[...document.querySelectorAll(".opening img")]
        .filter(i => getComputedStyle(i).display !== "none").map(i => i.className)"""
    assert shown.evaluate(seen) == ["after"] * 4
    shown.focus("input[name=opening]:checked")
    shown.keyboard.press("ArrowLeft")
    assert shown.evaluate(seen) == ["before"] * 4
    shown.keyboard.press("ArrowRight")
    assert shown.evaluate(seen) == ["after"] * 4


@needs_chromium
def test_a_link_opens_its_topic_and_a_mark_its_explanation(opened):
    shown, _ = opened
    assert not shown.is_visible("#copies")
    shown.click(".contents a[href='#copies']")
    assert shown.is_visible("#copies") and shown.is_visible(".contents")
    shown.click("#copies .what >> nth=0")
    assert shown.is_visible("#word-dreamsim")
    shown.keyboard.press("Escape")
    assert not shown.is_visible("#word-dreamsim")


@needs_chromium
def test_variants_by_keyboard(opened):
    shown, _ = opened
    shown.click(".contents a[href='#sheets']")

    def counts():
        return [shown.evaluate(SHOWN, variant) for variant in ("sd", "scoft_mpc")]

    assert counts() == [0, 4]
    shown.focus("input[name=variant-korea]:checked")
    shown.keyboard.press("ArrowLeft")
    assert counts() == [4, 0]
    shown.keyboard.press("ArrowRight")
    shown.keyboard.press("ArrowRight")
    assert counts() == [4, 4]  # all, one above the other


@needs_chromium
def test_the_whole_page_is_reached_by_tab(opened):
    shown, _ = opened
    shown.evaluate("document.activeElement.blur()")
    shown.evaluate("getSelection().collapse(document.body, 0)")
    shown.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    reached = []
    for _ in range(80):
        shown.keyboard.press("Tab")
        reached.append(
            shown.evaluate(
                "(e => e.getAttribute('href') ?? e.getAttribute('aria-label') ?? e.name ?? e.tagName)"
                "(document.activeElement)"
            )
        )
    for wanted in ("#main", "#korea", TABLES["table1"], "variant-korea", "Scores of nigeria", "SUMMARY"):
        assert wanted in reached
