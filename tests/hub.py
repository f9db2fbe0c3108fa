"""A small server on the loopback that speaks as much of the hub's API as the real client asks for."""

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SHA = "1" * 40


class Hub(ThreadingHTTPServer):
    """Repositories, of bytes in memory or of files; counts what is asked, and fails on demand.

    Under ``repos["files"]`` lies what has no repository. Every repository has one commit.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.repos: dict[str, dict[str, bytes | Path]] = {}
        self.commits: dict[str, str] = {}
        self.lfs = (".safetensors", ".bin")
        self.gated: dict[str, int] = {}
        self.closed: dict[str, int] = {}
        self.cut_after: int | None = None
        self.stall: threading.Event | None = None
        self.go_on = threading.Event()
        self.spoil: set[str] = set()
        self.asked: list[tuple[str, str, str | None]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    @classmethod
    @contextmanager
    def serving(cls) -> "Iterator[Hub]":
        """A hub that answers until the end of the block."""
        with cls() as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield server
            server.shutdown()


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET(body=False)

    def do_GET(self, body=True):
        hub, path = self.server, self.path.split("?")[0]
        hub.asked.append((self.command, path, self.headers.get("Range")))
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            return self.model_info("/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main")
        if parts[2:3] == ["resolve"]:
            return self.file("/".join(parts[:2]), "/".join(parts[4:]), body)
        return self.file("files", path[1:], body)

    def refuse(self, status, code):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def model_info(self, repo, revision):
        hub = self.server
        if repo in hub.gated:
            return self.refuse(hub.gated[repo], "GatedRepo")
        if repo not in hub.repos:
            return self.refuse(404, "RepoNotFound")
        commit = hub.commits.get(repo, SHA)
        if revision not in ("main", commit):
            return self.refuse(404, "RevisionNotFound")
        siblings = [self.sibling(name, data) for name, data in hub.repos[repo].items()]
        answer = json.dumps({"id": repo, "modelId": repo, "sha": commit, "siblings": siblings}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def sibling(self, name, data):
        if not name.endswith(self.server.lfs):
            return {"rfilename": name, "size": size(data), "blobId": blob(data)}
        lfs = {"sha256": sha256(data), "size": size(data), "pointerSize": 1}
        return {"rfilename": name, "size": size(data), "blobId": "0" * 40, "lfs": lfs}

    def file(self, repo, name, body):
        hub = self.server
        data = hub.repos.get(repo, {}).get(name)
        if repo in hub.closed:
            return self.refuse(hub.closed[repo], "GatedRepo")
        if data is None:
            return self.refuse(404, "EntryNotFound")
        etag = sha256(data) if name.endswith(hub.lfs) else blob(data)
        length = size(data)
        if name in hub.spoil:
            data = data[:-1] + bytes([data[-1] ^ 1])
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", hub.commits.get(repo, SHA))
        self.send_header("ETag", f'"{etag}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(length - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{length - 1}/{length}")
        self.end_headers()
        if body and hub.cut_after is not None and length > hub.cut_after:
            self.wfile.write(data[start : start + hub.cut_after])
            self.close_connection = True
            if hub.stall:
                hub.stall.set()
                hub.go_on.wait()
        elif body and isinstance(data, Path):
            with data.open("rb") as file:
                file.seek(start)
                shutil.copyfileobj(file, self.wfile, 1 << 20)
        elif body:
            self.wfile.write(data[start:])


def size(data: bytes | Path) -> int:
    return data.stat().st_size if isinstance(data, Path) else len(data)


@cache
def sha256(data: bytes | Path) -> str:
    if isinstance(data, Path):
        with data.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(data).hexdigest()


def blob(data: bytes | Path) -> str:
    content = data.read_bytes() if isinstance(data, Path) else data
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
