"""A set of prompts of the hub, from a server that answers as the hub does."""

import http.server
import os
import subprocess
import sys
import threading

import pytest

from tests import ROOT
from tests.data.test_fetch_data_set import COMMIT, FILES, Hub


@pytest.fixture
def hub():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def fetch(hub, home, source):
    environment = os.environ | {
        "HF_ENDPOINT": hub, "HF_HOME": str(home / "hf"), "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "pipeline_steps.evaluation.fetch_prompt_set", "--source", source,
         "--file", str(home / "set/prompts.jsonl")],
        cwd=home, env=environment, capture_output=True, text=True,
    )  # fmt: skip


def test_the_file_is_fetched_as_it_is_or_not_at_all(hub, tmp_path):
    missing = fetch(hub, tmp_path, f"hub:group/wales@{COMMIT}/nothing.json")
    assert missing.returncode == 1 and "Traceback" not in missing.stderr
    assert missing.stderr.strip().splitlines()[-1].startswith("ERROR hub:group/wales@")
    assert not list((tmp_path / "set").glob("*"))
    done = fetch(hub, tmp_path, f"hub:group/wales@{COMMIT}/metadata.jsonl")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "set/prompts.jsonl").read_bytes() == FILES["metadata.jsonl"]
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["prompts.jsonl"]
