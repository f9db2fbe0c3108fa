"""A culture's folder: its files by name, and whether one of them has changed."""

import hashlib
import os
import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


from pipeline_steps.inputs.text import shown


class Files:
    """The files of a folder, found by name whatever its Unicode form or case."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.names: list[str] = []
        self.by_key: dict[str, list[str]] = {}
        for where, folders, files in os.walk(folder):
            folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
            for file in sorted(files):
                if not file.startswith(".") and file not in ("Thumbs.db", "desktop.ini"):
                    name = (Path(where) / file).relative_to(folder).as_posix()
                    self.names.append(name)
                    self.by_key.setdefault(_key(name), []).append(name)

    def find(self, name: str) -> Path:
        """Return the file a row means.

        Raises:
            ValueError: there is none, or it lies outside the folder; the message says how to mend it.
        """
        if "://" in name:
            raise ValueError("is a link, not a file; give the table of links as 'images' of the culture")
        if PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute():
            raise ValueError("is an absolute path; write it relative to the folder")
        if any(unicodedata.category(c) == "Cc" for c in name):
            raise ValueError("its name holds control characters; rename it")
        path = Path(os.path.normpath(self.root / name.replace("\\", "/")))
        if not path.is_relative_to(Path(os.path.normpath(self.root))):
            raise ValueError("lies outside the folder; copy it into the folder")
        if not path.exists():
            similar = self.by_key.get(_key(path.relative_to(os.path.normpath(self.root)).as_posix()), [])
            if len(similar) != 1:
                elsewhere = [known for known in self.names if known.endswith(f"/{name}")]
                mend = f"write {shown(elsewhere[0])}" if elsewhere else "add it or delete its row"
                raise ValueError(f"no such file; {mend}")
            path = self.root / similar[0]
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise ValueError("is a link that leads out of the folder; copy the picture into the folder")
        if not path.is_file():
            raise ValueError("is no file; delete its row")
        return path


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def state(images: Path) -> str:
    """Return a hash over names, sizes and times of a culture's files: it changes when one of them does.

    Snakemake sees only a folder's own time, which stays when a caption is edited.
    """
    digest = hashlib.sha256()
    for path in sorted(images.rglob("*")) if images.is_dir() else [images]:
        if path.is_file():
            facts = path.stat()
            line = f"{path.relative_to(images)}\0{facts.st_size}\0{facts.st_mtime_ns}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
