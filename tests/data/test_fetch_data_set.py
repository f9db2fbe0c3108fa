"""A data set of the hub, from a server that answers as the hub does."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading

import pytest

from pipeline_steps.config import Culture
from pipeline_steps.data.entries import entries
from tests import ROOT

COMMIT = "c" * 40
FILES = {
    "README.md": b"# Wales",
    "loader.py": b"raise SystemExit('never run, never fetched')",
    "metadata.jsonl": b'{"file_name": "a.png", "text": "a gate, in wales"}\n',
    "a.png": b"a picture",
}


class Hub(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def answer(self, status, data, **headers):
        self.send_response(status)
        for name, value in ({"Content-Length": len(data)} | headers).items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def do_GET(self):
        path = self.path.split("?")[0]
        self.server.asked.append(path)
        inner = path.removeprefix("/datasets/group/wales/resolve/" + COMMIT + "/")
        if inner in FILES:
            etag = hashlib.sha1(FILES[inner]).hexdigest()
            self.answer(200, FILES[inner], X_Repo_Commit=COMMIT, ETag=f'"{etag}"')
        elif path.startswith("/api/datasets/group/wales/revision/"):
            about = {"id": "group/wales", "sha": COMMIT, "siblings": [{"rfilename": name} for name in FILES]}
            self.answer(200, json.dumps(about).encode(), Content_Type="application/json")
        elif path.startswith("/api/datasets/group/wales/tree/"):
            tree = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in FILES.items()
            ]
            self.answer(200, json.dumps(tree).encode(), Content_Type="application/json")
        else:
            self.answer(404, b"{}", X_Error_Code="RepoNotFound")


@pytest.fixture(scope="module")
def hub():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def fetch(data_set, folder, url):
    command = [sys.executable, "-m", "pipeline_steps.data.fetch_data_set", "--data-set", data_set]
    environment = {"PYTHONPATH": str(ROOT), "HF_ENDPOINT": url, "HF_HOME": str(folder.parent / "home")}
    return subprocess.run(
        [*command, "--folder", folder], env=os.environ | environment, capture_output=True, text=True
    )


def test_files_are_fetched_and_read_like_any_folder(hub, tmp_path):
    done = fetch("hub:group/wales@v1", tmp_path / "wales", f"http://127.0.0.1:{hub.server_port}")
    assert done.returncode == 0, done.stderr
    assert "/api/datasets/group/wales/revision/v1" in hub.asked
    assert not any("loader.py" in path for path in hub.asked)
    assert sorted(p.name for p in (tmp_path / "wales").iterdir()) == ["README.md", "a.png", "metadata.jsonl"]
    found = list(entries(tmp_path / "wales", "text", []))
    assert [(entry.name, entry.caption) for entry in found] == [("a.png", "a gate, in wales")]


@pytest.mark.parametrize("data_set, port", [("hub:group/gone", None), ("hub:group/wales", 9)])
def test_what_cannot_be_fetched_ends_in_one_line(hub, tmp_path, data_set, port):
    done = fetch(data_set, tmp_path / "wales", f"http://127.0.0.1:{port or hub.server_port}")
    assert done.returncode == 1
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("ERROR"))
    assert line.startswith(f"ERROR {data_set}: cannot be fetched from the hub (")
    assert line.endswith("your token (hf auth login)")


@pytest.mark.parametrize("images", ["hub:wales", "hub:a/b/c", "hub:../wales", "hub:a/b@", "hub:a b/c"])
def test_what_is_no_name_on_the_hub_is_refused(images):
    with pytest.raises(ValueError, match="is written hub:owner/name or hub:owner/name@commit"):
        Culture(suffix=", in Wales", images=images)
    assert str(Culture(suffix=", in Wales", images="hub:group/wales@v1.2").images) == "hub:group/wales@v1.2"
