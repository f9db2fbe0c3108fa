"""A small collection for tests: a culture's folder, people with links, and a server that can be killed."""

import csv
import io
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from pipeline_steps.config import DataConfig
from pipeline_steps.data.collection.captions import Captions
from pipeline_steps.data.collection.folder import Folder
from pipeline_steps.data.collection.intake import Intake
from pipeline_steps.data.collection.secret import Secret
from pipeline_steps.data.collection.site import Site
from pipeline_steps.data.collection.store import Store
from pipeline_steps.data.collection.wording import CURATOR, WORDINGS, read_curator_wording, read_wordings
from pipeline_steps.web.gate import limits
from tests import ROOT
from tests.ports import free_port

CONFIG = DataConfig(max_megapixels=20, max_megabytes=2)
DETAILS = {
    "caption": "a red gate, in Wales",
    "category": "architecture",
    "era": "traditional",
    "origin": "own",
    "author": "",
    "licence": "CC BY 4.0",
    "people": "none",
    "remark": "",
}


def photo(seed=0, size=(96, 72), kind="JPEG", **options):
    """A smooth random picture as a file, so that no two seeds look alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(buffer, kind, **options)
    return buffer.getvalue()


def make_site(folder, config=CONFIG, database="", **more):
    """A site as the command makes it, with limits that tests do not reach."""
    files = Folder(folder / "wales", "text", more.pop("reserve", 0))
    return Site(
        "Wales",
        Store(database or f"sqlite:///{files.home / 'collection.sqlite'}"),
        files,
        Intake(config, more.pop("seconds", 20)),
        Captions(("wales",), ", in Wales", 10, lambda text: len(text.split())),
        read_wordings(WORDINGS),
        read_curator_wording(more.pop("curator_wording", CURATOR)),
        Secret(files.home / "curator"),
        "http://testserver",
        **{**limits(more.pop("per_minute", 10_000)), **more},
    )


class Person:
    """A browser without its window, with a personal link."""

    def __init__(self, client, link, begin=True):
        self.client = client
        page = self.client.get("/")
        self.csrf = page.text.split('"csrf":"')[1].split('"')[0]
        self.reply = self.post("/api/enter", json={"link": link})
        if self.reply.status_code == 200:
            self.csrf = self.reply.json()["csrf"]
            self.name = self.reply.json()["contributor"]
            if begin and self.reply.json()["years"] is None:
                assert self.agree(self.consent()).status_code == 200

    def post(self, path, **more):
        return self.client.post(path, headers={"X-CSRF-Token": self.csrf} | more.pop("headers", {}), **more)

    def put(self, path, **more):
        return self.client.put(path, headers={"X-CSRF-Token": self.csrf}, **more)

    def consent(self, language="en"):
        """The text to agree to, and its SHA-256, as it is now."""
        return self.client.get("/api/me").json()["consent"][language]

    def agree(self, read, **more):
        body = {"agreed": True, "years": 30.0, "affiliation": "born there", "language": "en"}
        return self.put("/api/me", json=body | {"consent": read["sha256"]} | more)

    def send(self, data, upload=None):
        return self.post(f"/api/pictures?upload={upload or uuid.uuid4()}", content=data)

    def give(self, data, **details):
        """Send a picture and describe it; return its id."""
        answer = self.send(data)
        assert answer.status_code == 200, answer.text
        picture = answer.json()["picture"]
        answer = self.put(f"/api/pictures/{picture}", json=DETAILS | details)
        assert answer.status_code == 200, answer.text
        return picture

    def withdraw(self, picture):
        return self.post(f"/api/pictures/{picture}/withdraw")

    def pictures(self):
        return {one["picture"]: one for one in self.client.get("/api/me").json()["pictures"]}


class Curator:
    """The curator's browser without its window."""

    def __init__(self, client, key):
        self.client = client
        self.reply = client.post("/curator/login", data={"key": key}, follow_redirects=True)
        self.csrf = re.findall(r'name="csrf" value="(\w+)"', self.reply.text)[:1]

    def post(self, path, **fields):
        return self.client.post(f"/curator/{path}", data={"csrf": self.csrf, **fields}, follow_redirects=True)

    def seen(self):
        """What the page's checkboxes say, by picture: its id and the version that is shown."""
        page = self.client.get("/curator").text
        return {value.split()[0]: value for value in re.findall(r'name="picture" value="([^"]+)"', page)}

    def decide(self, decision, *pictures, message=""):
        """Look at the page, and decide at once."""
        seen = self.seen()
        return self.post(
            "decide", decision=decision, picture=[seen[one] for one in pictures], message=message
        )


def rows(folder):
    """What metadata.csv says."""
    with (folder / "metadata.csv").open(newline="") as file:
        return list(csv.DictReader(file))


class Server:
    """The real server in a process that can be killed and started again."""

    def __init__(self, folder: Path, *flags, **data):
        self.folder, self.data = folder, folder / "data/wales"
        settings = {"cultures": {"wales": {"suffix": ", in Wales", "images": str(self.data)}}, "data": data}
        folder.mkdir(exist_ok=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(settings))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = [sys.executable, "-m", "pipeline_steps.data.collection", "--culture", "wales"]
        self.command += ["--settings", str(folder / "config.yaml"), "--port", str(self.port), *flags]
        self.log = folder / "log"
        self.process = None

    def start(self):
        with self.log.open("w") as log:
            self.process = subprocess.Popen(self.command, cwd=ROOT, env=os.environ, stderr=log)
        for _ in range(6000):
            try:
                urllib.request.urlopen(f"{self.url}/healthz", timeout=5).close()
                return self
            except OSError:
                if self.process.poll() is not None:
                    raise RuntimeError(self.log.read_text()) from None
                time.sleep(0.1)
        raise RuntimeError("the server did not start")

    def links(self):
        """The personal links that it printed."""
        return re.findall(r"#link=(\S+)", self.log.read_text())

    def key(self):
        return (self.folder / "data/wales.collection/curator").read_text().strip()

    def kill(self):
        """As a power cut: no chance to finish anything."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    __enter__ = start

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            self.kill()
