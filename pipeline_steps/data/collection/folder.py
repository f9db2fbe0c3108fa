"""The collection's files, and the data set that comes out: a culture's folder as the pipeline reads it.

Everything that people gave lies beside the culture's folder, in ``<folder>.collection``. What the curator
accepted is linked into the folder itself, so that nothing else is ever trained on.
"""

import csv
import io
import logging
import os
import shutil
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock, Timeout

from pipeline_steps import artifacts
from pipeline_steps.data.collection.intake import FullError
from pipeline_steps.data.collection.records import DataSet
from pipeline_steps.data.folder import collection_of
from pipeline_steps.data.names import is_by_content
from pipeline_steps.errors import UserError
from pipeline_steps.inputs.tables import csv_rows
from pipeline_steps.inputs.text import read_text

LOG = logging.getLogger(__name__)
RESERVE = 200e6
"""Bytes that stay free: a withdrawal must always find room."""
COLUMNS = ("category", "era", "contributor", "source", "author", "licence", "consent", "people", "remark")
"""Of metadata.csv, after the file's name, the caption and the split."""
ORIGINALS = "originals"
"""Called by their pictures' ids: files of the same pixels differ in what else they say, such as where."""
KEPT = ("pictures", "previews", ORIGINALS)
"""Folders of what people gave."""
ADDRESS = "address"
"""Where the server that holds the collection is to be found."""
EDITED = "metadata-edited-*.csv"
"""Tables that somebody else wrote into."""


class Folder:
    """The files of one collection.

    Attributes:
        data: the culture's folder, which the pipeline reads.
        home: everything that people gave.
        lock: held by whoever changes files, in this process or another.
        server: held by the process that takes pictures in.
    """

    def __init__(self, data: Path, caption_column: str, reserve: float = RESERVE) -> None:
        """Lay the folders out.

        Args:
            data: the culture's folder.
            caption_column: of its metadata.csv.
            reserve: bytes that stay free.

        Raises:
            UserError: the folder holds pictures that this collection did not write.
        """
        self.data, self.home = data, collection_of(data)
        self.columns = ("file_name", caption_column, "split", *COLUMNS)
        self.reserve = reserve
        _only_ours(data)
        for folder in (data / "pictures", *(self.home / name for name in (*KEPT, "incoming"))):
            folder.mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o700)
        self.lock = FileLock(self.home / "lock")
        self.server = FileLock(self.home / "server")

    def begin_serving(self) -> bool:
        """Hold the collection for this process's server, and delete what interrupted uploads left.

        Returns:
            Whether it is held until the process ends; where another has it, its uploads are left alone.
        """
        try:
            self.server.acquire(blocking=False)
        except Timeout:
            return False
        for left in (self.home / "incoming").iterdir():
            shutil.rmtree(left, ignore_errors=True)
        return True

    def say_where(self, address: str) -> None:
        """Keep the address of this process's server, for links that are made beside it."""
        _write(self.home / ADDRESS, address)

    def where(self) -> str:
        """Return the address of the server that has the collection; nothing where none ever said it."""
        path = self.home / ADDRESS
        return read_text(path) if path.exists() else ""

    def check_room(self, size: int = 0) -> None:
        """Make sure that so many bytes find room.

        Raises:
            FullError: they do not.
        """
        if shutil.disk_usage(self.home).free < self.reserve + size:
            raise FullError("the disk is full")

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """Give a folder of one's own for an upload; it is gone afterwards."""
        folder = self.home / "incoming" / uuid.uuid4().hex
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def file(self, kind: str, name: str) -> Path:
        """Return where a kept file lies; a picture and its preview have its name, an original its id."""
        return self.home / kind / name

    def keep(self, files: Mapping[Path, Path]) -> list[Path]:
        """Put files into their places; they are there, and on the disk, when this returns.

        Args:
            files: by the place of each.

        Returns:
            The places where nothing was before.
        """
        new = [place for place in files if not place.exists()]
        for place, path in files.items():
            _sync(path)  # an original was written as it came
            path.replace(place)
            _sync(place.parent)
        return new

    def publish(self, found: DataSet) -> None:
        """Make the folder say what is to be trained on, and forget the files of no picture.

        Whatever was interrupted before, the folder is right afterwards: first what is withdrawn, then
        what is there.
        """
        names = {row["name"] for row in found.pictures}
        self._withdraw(found.withdrawn)
        for name in names:
            _link(self.file("pictures", name), self.data / "pictures" / name)
        _sync(self.data / "pictures")
        self._write_table(found.pictures)
        for path in (self.data / "pictures").iterdir():
            if is_by_content(path.name) and path.name not in names:
                path.unlink(missing_ok=True)
        for kind in KEPT:
            used = found.ids if kind == ORIGINALS else found.used
            for path in (self.home / kind).iterdir():
                if path.name not in used:
                    path.unlink(missing_ok=True)
                    _sync(self.home / kind)

    def _withdraw(self, names: Iterable[str]) -> None:
        path = self.data / "withdrawn.txt"
        text = read_text(path) if path.exists() else ""
        there = set(text.splitlines())
        new = [line for name in names if (line := f"pictures/{name}") not in there]
        if new or not path.exists():
            _write(path, text + ("\n" if text and not text.endswith("\n") else "") + _lines(new))

    def _write_table(self, rows: Collection[Mapping[str, Any]]) -> None:
        """Write metadata.csv, and put it aside first where somebody else wrote into it since.

        A picture's split, which nobody is asked here, may be written into it and stays.
        """
        path, own = self.data / "metadata.csv", self.home / "metadata.csv"
        there, before = _read(path), _read(own)
        text = self._table(rows, {str(row.get("file_name")): row.get("split") or "" for row in there})
        if path.exists() and own.exists() and _without_split(there) != _without_split(before):
            aside = self.home / EDITED.replace("*", uuid.uuid4().hex[:8])
            shutil.copyfile(path, aside)
            LOG.warning(
                "%s: was edited, and the collection writes it anew; the edited one is %s now. Mend captions "
                "on the curator's page, and put pictures from elsewhere into %s, with a table of their own",
                path,
                aside,
                self.data / "train",
            )
        _write(path, text)
        if withdrawn := {_name(row) for row in before} - {row["name"] for row in rows}:
            self._clear_edited(withdrawn)
        _write(own, text)  # last: what is interrupted is done again

    def _clear_edited(self, withdrawn: Collection[str]) -> None:
        """Take what is given no longer out of the tables that were put aside; one without names goes."""
        for path in self.home.glob(EDITED):
            rows = _read(path)
            if not rows or not all(row.get("file_name") for row in rows):
                path.unlink()
                LOG.warning(
                    "%s: deleted: it does not say which rows are of pictures that were withdrawn", path
                )
                continue
            columns = dict.fromkeys(name for row in rows for name in row if name is not None)
            text = io.StringIO()
            table = csv.DictWriter(text, list(columns), extrasaction="ignore", lineterminator="\n")
            table.writeheader()
            table.writerows(row for row in rows if _name(row) not in withdrawn)
            _write(path, text.getvalue())

    def _table(self, rows: Iterable[Mapping[str, Any]], splits: Mapping[str, str]) -> str:
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(self.columns)
        for row in rows:
            name = f"pictures/{row['name']}"
            source = row["link"] or ("own photograph" if row["origin"] == "own" else "")
            cells = [name, row["caption"], splits.get(name, ""), row["category"], row["era"]]
            cells += [row["contributor"], source, row["author"], row["licence"]]
            cells += [f"agreed {row['agreed'][:10]}", row["people"], row["remark"]]
            table.writerow(cells)
        return text.getvalue()


def _read(table: Path) -> list[dict[str, Any]]:
    """Rows of a table; none of one that is not there or is none any more."""
    try:
        return [row for _, row in csv_rows(table, read_text(table), ("file_name",))]
    except UserError:
        return []


def _name(row: Mapping[str, Any]) -> str:
    return PurePosixPath(str(row.get("file_name"))).name


def _without_split(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "split"} for row in rows]


def _only_ours(data: Path) -> None:
    """Refuse a folder whose table would be lost."""
    for path in sorted(data.glob("metadata.*")):
        names = []
        if path.name == "metadata.csv":
            names = [str(row.get("file_name")) for _, row in csv_rows(path, read_text(path), ("file_name",))]
        if path.name != "metadata.csv" or not all(map(is_by_content, names)):
            raise UserError(
                f"{path}: lists pictures that no collection wrote; move it with its pictures into "
                f"{data / 'train'}, which is read as well, or give the collection another folder with --data"
            )


def _link(source: Path, target: Path) -> None:
    """Let a file have a second name; where the disk knows no such thing, copy it."""
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError:
        with artifacts.appears_whole(target) as part:
            shutil.copyfile(source, part)
            _sync(part)


def _write(path: Path, text: str) -> None:
    """Write a text file that is on the disk, whole, when this returns; leave it alone if it says the same."""
    with suppress(OSError, ValueError):
        if path.read_text(encoding="utf-8") == text:
            return
    with artifacts.appears_whole(path) as part:
        part.write_text(text, encoding="utf-8")
        _sync(part)
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Have a file or the names of a folder on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lines(names: Iterable[str]) -> str:
    return "".join(f"{name}\n" for name in names)
