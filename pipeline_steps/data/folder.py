"""A culture's folder: its files by name, and whether one of them has changed."""

import hashlib
import os
import unicodedata
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

from pipeline_steps.inputs.text import name_key, normal_name, shown

METADATA = (".jsonl", ".csv", ".tsv", ".xlsx", ".parquet")
"""Endings of "metadata", the table of a folder's pictures."""
PICTURES = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".webp", ".avif", ".heic", ".heif"),
    *(".gif", ".bmp", ".tif", ".tiff", ".jp2", ".ppm", ".pgm"),
)
"""Endings of pictures: of a file that no row and no text names."""
UNREAD = ("README.md", "withdrawn.txt")
"""Files of a culture's folder that are no data; the list of withdrawn pictures is read for itself."""


def is_metadata(path: PurePath) -> bool:
    """Tell whether a file is called as the table of a folder's pictures is."""
    return path.stem.lower() == "metadata" and path.suffix.lower() in METADATA


def collection_of(folder: Path) -> Path:
    """Return where everything lies that people gave for a culture's folder, if a collection writes it."""
    return folder.parent / f"{folder.name}.collection"


def is_picture(name: str) -> bool:
    """Tell whether a file is called as pictures are."""
    return name.lower().endswith(PICTURES)


class Files:
    """The files of a folder, found by name whatever its Unicode form or case."""

    def __init__(self, folder: Path) -> None:
        self.root = Path(os.path.normpath(folder))
        self.names: list[str] = []
        self.by_key: dict[str, list[str]] = {}
        for where, folders, files in os.walk(self.root):
            folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
            for file in sorted(files):
                if not file.startswith(".") and file not in ("Thumbs.db", "desktop.ini"):
                    name = (Path(where) / file).relative_to(self.root).as_posix()
                    self.names.append(name)
                    self.by_key.setdefault(name_key(name), []).append(name)

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
        if not path.is_relative_to(self.root):
            raise ValueError("lies outside the folder; copy it into the folder")
        if not os.path.exists(path):  # Path.exists raises where a name is too long  # noqa: PTH110
            similar = self.by_key.get(name_key(path.relative_to(self.root).as_posix()), [])
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

    def own_name(self, path: Path) -> str:
        """Return a file's name with composed characters, or as it is where several files would share that."""
        name = path.relative_to(self.root).as_posix()
        alike = [n for n in self.by_key.get(name_key(name), ()) if normal_name(n) == normal_name(name)]
        return normal_name(name) if len(alike) < 2 else name


def state(images: Path) -> str:
    """Return a hash over names, sizes and times of what is read of a culture: it changes when that does.

    Snakemake sees only a folder's own time, which stays when a caption is edited, and changes when a file
    manager that was opened there leaves a file of its own.

    Args:
        images: a folder, a table of pictures, or the metadata file of a folder.
    """
    images = images.parent if is_metadata(images) and images.is_file() else images
    digest = hashlib.sha256()
    for name in Files(images).names if images.is_dir() else [""]:
        path = images / name
        if path.is_file() and name not in UNREAD:
            facts = path.stat()
            line = f"{name or '.'}\0{facts.st_size}\0{facts.st_mtime_ns}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
