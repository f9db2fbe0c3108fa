"""A small survey for tests: drawn pictures, pages, and a server in a process of its own."""

import os
import signal
import subprocess
import sys
import time
import urllib.request

from PIL import Image, ImageDraw

from pipeline_steps.artifacts import FORMS, PAGES, SAMPLES, Origin, encode_picture
from pipeline_steps.config import SurveyConfig
from pipeline_steps.survey.survey_pages import survey_pages
from tests import ROOT
from tests.ports import free_port

ADMIN_TOKEN = "the-token-of-the-administrator"
VARIANTS = ("sd", "scoft_m", "scoft_mp", "scoft_mpc")


def picture(variant, prompt, index, side=48):
    """Each variant, prompt and index has a picture of its own."""
    image = Image.new(
        "RGB", (side, side), (40 * VARIANTS.index(variant), 30 * prompt % 256, 25 * index % 256)
    )
    ImageDraw.Draw(image).ellipse((8, 8, side - 8, side - 12 - 4 * VARIANTS.index(variant)), fill="white")
    return image


def write_samples(folder, culture="korea", prompts=3, each=4, flat=()):
    """One table of samples per variant with common prompts and seeds; ``flat`` names (prompt, index)."""
    paths = []
    for variant in VARIANTS:
        rows = (
            {
                "prompt_id": f"{prompt:04d}",
                "index": index,
                "prompt": f"scene {prompt}, in {culture} <b>",
                "seed": 1000 * prompt + index,
                "image": encode_picture(
                    Image.new("RGB", (48, 48))
                    if (prompt, index) in flat and variant == "sd"
                    else picture(variant, prompt, index),
                    "x.png",
                ),
            }
            for prompt in range(prompts)
            for index in range(each)
        )
        paths.append(folder / culture / f"{variant}.parquet")
        SAMPLES.write(paths[-1], rows, Origin(culture, "f" * 64))
    return paths


def make_pages(folder, culture="korea", prompts=3, each=4, **settings):
    """Write samples, pages and forms; return the paths of the latter two."""
    config = SurveyConfig(**{"pages": 6, "pages_per_participant": 3, **settings})
    pages, forms = (folder / culture / f"{name}.parquet" for name in ("pages", "forms"))
    samples = [path for path in write_samples(folder, culture, prompts, each) if path.stem in config.variants]
    survey_pages(samples, pages, forms, culture, 7, config, folder / culture / "rounds")
    return pages, forms


def shown(pages):
    """Pictures of each page in order, as {page: [picture, ...]}."""
    found = {}
    for row in PAGES.rows(pages, ["picture"]):
        found.setdefault(row["page"], []).append(row["picture"])
    return found


def dealt(forms):
    """Pages of each form."""
    found = {}
    for row in FORMS.rows(forms):
        found.setdefault(row["form"], []).append(row["page"])
    return list(found.values())


class Server:
    """The real server in a process that can be killed and started again."""

    def __init__(
        self, pages, forms, database, *flags, admin=ADMIN_TOKEN, module="pipeline_steps.survey.server"
    ):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = [sys.executable, "-m", module, "--port", str(self.port)]
        self.command += [
            "--pages",
            *map(str, pages),
            "--forms",
            *map(str, forms),
            "--database",
            database,
            *flags,
        ]
        self.admin = admin
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            self.command,
            cwd=ROOT,
            env=os.environ | {"SURVEY_ADMIN_TOKEN": self.admin},
            stderr=subprocess.PIPE,
        )
        for _ in range(6000):
            try:
                urllib.request.urlopen(f"{self.url}/healthz", timeout=5)
                return self
            except OSError:
                if self.process.poll() is not None:
                    raise RuntimeError(self.process.stderr.read().decode()) from None
                time.sleep(0.1)
        raise RuntimeError("the server did not start")

    def kill(self):
        """As a power cut: no chance to finish anything."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stderr.close()

    __enter__ = start

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            self.kill()
