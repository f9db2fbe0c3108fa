"""Files that appear whole or not at all, and their checksums."""

import hashlib
import shlex
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline_steps.errors import FULL


@contextmanager
def appears_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path`` and rename it to ``path`` on success.

    What a killed predecessor left is removed first; should it still be alive (a node that was
    given up), its own rename then fails and its half-written file never shows.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f".{path.name}.*.part"):
        stale.unlink(missing_ok=True)
    part = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.part"
    try:
        yield part
        part.replace(path)
    except OSError as error:
        if error.errno in FULL:  # which file that was, the error of a write does not say
            error.filename = str(path)
        raise
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def folder_appears_whole(path: Path) -> Iterator[Path]:
    """Yield a new folder beside ``path`` that takes its place on success."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f".{path.name}.*.part"):
        shutil.rmtree(stale, ignore_errors=True)
    part = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.part"
    part.mkdir()
    try:
        yield part
        shutil.rmtree(path, ignore_errors=True)
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def rebuild(*paths: Path) -> str:
    """Return the last words of every message about a file that cannot be used: how to make it anew.

    Without paths there is nothing to delete. Another command than the one that was given might know
    neither its settings nor its cluster.
    """
    first = f"delete {shlex.join(map(str, paths))} and " if paths else ""
    return f"{first}give Snakemake the same command again"


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with appears_whole(path) as part:
        part.write_text(text, encoding="utf-8")


def write_same(path: Path, source: Path) -> None:
    """Give a file a second name, or copy it where the file system knows no second names."""
    with appears_whole(path) as part:
        try:
            part.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, part)


def spreadsheet_text(text: object) -> str:
    """Return a cell of a CSV file that no spreadsheet takes for a formula."""
    cell = str(text)
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


WEIGHT_FILES = (".safetensors", ".bin", ".pt", ".pth", ".tar")


def folder_sha256(folder: Path) -> str:
    """Return one SHA-256 over the names and bytes of a folder's weight files."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in WEIGHT_FILES):
        digest.update(f"{path.relative_to(folder)} {file_sha256(path)}\n".encode())
    return digest.hexdigest()
