"""Feeds spoilt files to everything that reads what others hand in.

    python -m tests.fuzz --seconds 3600 [--only data]

Sound files, in every form that is read, are changed at random (bits, pieces, lines, whole values, names)
and given to ingest, the survey's importer, the readers of prompts, codes and links, and those of artifacts.
Anything but success or a :class:`UserError` of one line is an escape, as is a case that takes longer than a
minute, a result that cannot be read again, or a file written outside its results folder.
"""

import argparse
import csv
import io
import itertools
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline_steps.artifacts import ANSWERS, FINDINGS, IMAGES, PAGES, REJECTED
from pipeline_steps.config import DataConfig, SurveyConfig
from pipeline_steps.data.download import _links
from pipeline_steps.data.ingest import ingest
from pipeline_steps.errors import UserError
from pipeline_steps.inputs.text import read_prompts
from pipeline_steps.survey.codes import read_codes
from pipeline_steps.survey.shown import ITEMS
from pipeline_steps.survey.survey_import import survey_import
from tests import ROOT
from tests.artifacts.test_artifacts import TABLES, TENSORS, write
from tests.survey.survey_world import make_pages

LONGEST = 60
"""Seconds after which a case counts as hanging."""
PIECES = [
    b"", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b'"', b"null", b"NaN", b"[[[[", b"{", b"-1",
    b"1e999", b"../../escape.png", b"/etc/passwd", b"\\u0000", b"\\ud800", b"=1+1", b"<script>", b"true",
    b"9" * 40, b"," * 50, b"9" * 5000, b"sep=;\r\n", b";", b"\t", b"\xe9", b"\xe2\x80\x8b", b"Rejected",
    b"pending",
]  # fmt: skip
VALUES = [
    None, "", " ", "\ud800", "\u200b", "9" * 5000, "x" * 5000, "../x.png", "train", "pending", "nan",
    "a@b.org", 0, -1, 2.5, 1e300, 10**300, float("nan"), float("inf"), True, [], ["a"], [1], {"a": 1},
    [[["a"]]], b"\xff",
]  # fmt: skip
NAMES = [
    b"caf\xe9.csv",
    b"x.JSON",
    b"\xff",
    b"metadata.CSV",
    b"a.PARQUET",
    b"x.xlsx",
    b"cache-1.arrow",
    b"a.txt",
]


FORMS = ("pictures", "set", "texts")
"""Beginnings of folders that hold pictures."""


def spoil(data: bytes, rng: random.Random) -> bytes:
    """Change bytes at one to four places."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(changed) + 1)
        end = min(len(changed), start + rng.choice((0, 1, 4, 40, 400)))
        match rng.randrange(4):
            case 0:
                changed[start:end] = rng.choice(PIECES)
            case 1:
                changed[start:end] = bytes(rng.randrange(256) for _ in range(end - start))
            case 2:
                changed[start:start] = changed[start:end] * rng.randint(1, 3)
            case _ if start < len(changed):
                changed[start] ^= 1 << rng.randrange(8)
    return bytes(changed)


def replace(content: Any, rng: random.Random) -> Any:
    """Put a foreign value somewhere into JSON."""
    if isinstance(content, dict | list) and content and rng.random() < 0.9:
        key = rng.choice(list(content)) if isinstance(content, dict) else rng.randrange(len(content))
        content[key] = replace(content[key], rng)
        return content
    value = rng.choice(VALUES)
    return value.decode("latin-1") if isinstance(value, bytes) else value


def save_workbook(book: openpyxl.Workbook, path: Path) -> None:
    """Write a workbook with the same bytes at any time: what is spoilt of it is then the same as well."""
    book.save(written := io.BytesIO())
    with zipfile.ZipFile(written) as parts, zipfile.ZipFile(path, "w") as fixed:
        for name in parts.namelist():
            text = re.sub(rb"\d{4}-\d\d-\d\dT[\d:.]+Z", b"2026-01-01T00:00:00Z", parts.read(name))
            fixed.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)


def write_table(path: Path, rows: list[dict[str, Any]], rng: random.Random | None = None) -> None:
    """Write rows in the form of the ending; with ``rng`` one column or cell holds a foreign value."""
    column, value = (rng.choice(list(rows[0])), rng.choice(VALUES)) if rng else (None, None)
    if path.suffix in (".parquet", ".arrow"):
        rows = [row | {column: value} for row in rows] if column else rows
        table = pa.Table.from_pylist(rows)
        if rng and rng.random() < 0.2:
            table = table.replace_schema_metadata({"scoft": rng.choice(["7", "[", "{}", '{"simulated": 1}'])})
        if path.suffix == ".parquet":
            return pq.write_table(table, path)
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            return stream.write_table(table)
    if column and rng:
        place = rng.randrange(len(rows))
        rows = [row | ({column: value} if n == place else {}) for n, row in enumerate(rows)]
    if path.suffix == ".jsonl":
        return path.write_text("\n".join(json.dumps(row, default=repr) for row in rows)) and None
    if path.suffix == ".xlsx":
        book = openpyxl.Workbook()
        for cells in (list(rows[0]), *(list(row.values()) for row in rows)):
            book.active.append([cell if isinstance(cell, int | str) else str(cell) for cell in cells])
        return save_workbook(book, path)
    with path.open("w", newline="", errors="replace") as file:
        table = csv.DictWriter(file, list(rows[0]), delimiter=";" if path.suffix == ".csv" else "\t")
        table.writeheader()
        table.writerows(rows)


class Fuzz:
    """Sound files, and one case after another made of them.

    Args:
        folder: everything is written below it.
        only: "data", "answers", "texts" or "artifacts"; all by turns where it is left out.
    """

    def __init__(self, folder: Path, only: str | None = None) -> None:
        self.folder, self.case = folder, folder / "case"
        self.sound = folder / "sound"
        self.sound.mkdir(parents=True)
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self._make_pictures()
        self._make_answers()
        self._make_texts()
        for number, (name, kind) in enumerate((TABLES | TENSORS).items()):
            write(kind, self.sound / f"artifacts/{number:02}_{name}")
        kinds = {"data": self.ingest, "answers": self.importer, "texts": self.texts, "artifacts": self.reader}
        self.kinds: list[Callable[[random.Random], None]] = [kinds[only]] if only else list(kinds.values())

    def _make_pictures(self) -> None:
        source = ROOT / "resources/mini/ccub/korea"
        rows = [json.loads(line) for line in (source / "metadata.jsonl").read_text().splitlines()[:4]]
        files = [source / row["file_name"] for row in rows]
        named = [row | {"file_name": file.name} for row, file in zip(rows, files, strict=True)]
        held = [
            {"image": {"bytes": file.read_bytes(), "path": file.name}, "text": row["text"]}
            for row, file in zip(rows, files, strict=True)
        ]
        for ending in ("jsonl", "csv", "tsv", "xlsx", "parquet"):
            self._pictures(f"pictures_{ending}", files)
            self.rows[f"pictures_{ending}/metadata.{ending}"] = named
        for ending in ("parquet", "arrow"):
            for split in ("train", "test"):
                self.rows[f"set_{ending}/{split}/0.{ending}"] = held[split == "test" :: 2]
        texts = self._pictures("texts", files)
        for row, file in zip(rows, files, strict=True):
            (texts / file.name).with_suffix(".txt").write_text(row["text"])
        for name, table in self.rows.items():
            (self.sound / name).parent.mkdir(parents=True, exist_ok=True)
            write_table(self.sound / name, table)

    def _pictures(self, name: str, files: list[Path]) -> Path:
        folder = self.sound / name
        folder.mkdir()
        for file in files:
            shutil.copy(file, folder)
        return folder

    def _make_answers(self) -> None:
        self.pages, _ = make_pages(self.sound)
        row = next(iter(PAGES.rows(self.pages)))
        page = row["page"]
        names = [other["picture"] for other in PAGES.rows(self.pages) if other["page"] == page]
        folder = self.sound / "answers"
        folder.mkdir()
        asked = {"participant": "a", "culture": "korea", "page": page, "item": "description", "years": 9}
        long = [asked | {"picture": name, "rank": rank} for rank, name in enumerate(names, 1)]
        cell = json.dumps([{f"promptrow1-img{n}-rating": str(n) for n in range(1, len(names) + 1)}])
        turk = {"HITId": "H", "WorkerId": "W", "Input.prompt": row["prompt"], "Input.seed": str(row["seed"])}
        turk |= {f"Input.img{n}": f"https://x.org/{name}.png" for n, name in enumerate(names, 1)}
        turk |= {"AssignmentStatus": "Approved", "Reject": "", "Answer.taskAnswers": cell}
        for ending in ("csv", "tsv", "xlsx", "parquet"):
            for kind, rows in (("long", long), ("turk", [turk])):
                self.rows[f"answers/{kind}.{ending}"] = rows
                write_table(folder / f"{kind}.{ending}", rows)
        result = [{"from_name": item, "type": "ranker", "value": {"ranker": {"_": names}}} for item in ITEMS]
        task, by = {"data": {"page": page}}, {"email": "a@b.org"}
        ranks = {name: rank for rank, name in enumerate(names, 1)}
        saved = {"format": "scoft-survey", "version": 1, "culture": "korea", "participant": "p", "years": 9}
        saved |= {"exported": 1, "answers": [{"page": page, "item": "description", "ranks": ranks}]}
        contents = {
            "page": saved,
            "tasks": [task | {"annotations": [{"completed_by": 1, "result": result}]}],
            "annotation": {"task": task, "completed_by": by, "result": result},
            "min": [
                {"page": page, "annotator": "a@b.org", "annotation_id": 1, ITEMS[0]: [{"ranker": names}]}
            ],
            "js": [{"participant": "s", "culture": "korea", "years": 9, f"{page}/description": names}],
        }
        (self.sound / "good.json").write_text(json.dumps(saved | {"participant": "good"}))
        for name, content in contents.items():
            (folder / f"{name}.json").write_text(json.dumps(content, default=repr))

    def _make_texts(self) -> None:
        folder = self.sound / "lists"
        folder.mkdir()
        (folder / "prompts.txt").write_text("# note\na jar\na robe\n")
        (folder / "codes.txt").write_text("seoul-1\nseoul-2\n")
        (folder / "links.csv").write_text("url,caption,country_code\nhttps://x.org/a.jpg,a jar,KR\n")
        (folder / "withdrawn.csv").write_text("file_name,asked\nimages/train_000.png,3 May\n")

    def run(self, rng: random.Random) -> None:
        """Make one case and read it."""
        shutil.rmtree(self.case, ignore_errors=True)
        self.case.mkdir()
        rng.choice(self.kinds)(rng)
        strangers = {path.name for path in self.folder.iterdir()} - {"case", "sound"}
        strangers |= {path.name for path in self.case.iterdir()} - {"in", "results", "list"}
        assert not strangers, f"written outside: {strangers}"

    def ingest(self, rng: random.Random) -> None:
        """Spoil the metadata, a picture, a table of pictures, a text or the withdrawn list."""
        forms = [
            path.name for path in self.sound.iterdir() if path.name.startswith(("pictures", "set", "texts"))
        ]
        given, out = self._given(rng.choice(sorted(forms)), rng), self.case / "results"
        listed = None
        if rng.random() < 0.2:
            listed = self.case / "list"
            listed.write_bytes(spoil((self.sound / "lists/withdrawn.csv").read_bytes(), rng))
        config = DataConfig(require_consent=rng.random() < 0.1)
        images, findings = out / "images.parquet", out / "findings.parquet"
        ingest(given, images, "korea", ", in korea", 1, config, findings, listed, neighbours=3)
        list(IMAGES.rows(images)), list(FINDINGS.rows(findings))

    def importer(self, rng: random.Random) -> None:
        """Spoil a file of answers; the sound one beside it must be counted."""
        given, out = self.case / "in", self.case / "results"
        given.mkdir()
        source = rng.choice(sorted((self.sound / "answers").iterdir()))
        self._spoil(Path(shutil.copy(source, given)), f"answers/{source.name}", rng)
        shutil.copy(self.sound / "good.json", given)
        answers, rejected = out / "answers.parquet", out / "rejected.parquet"
        survey_import(given, [self.pages], answers, rejected, SurveyConfig())
        assert "good" in {row["participant"] for row in ANSWERS.rows(answers)}
        list(REJECTED.rows(rejected))

    def texts(self, rng: random.Random) -> None:
        """Spoil prompts, codes or links."""
        name = rng.choice(("prompts.txt", "codes.txt", "links.csv"))
        path = self.case / "in"
        path.write_bytes(spoil((self.sound / "lists" / name).read_bytes(), rng))
        if name == "links.csv":
            list(_links(path, None, "text"))
        else:
            (read_prompts if name == "prompts.txt" else read_codes)(path)

    def reader(self, rng: random.Random) -> None:
        """Spoil an artifact."""
        source = rng.choice(sorted((self.sound / "artifacts").iterdir()))
        path = self.case / "in"
        path.write_bytes(spoil(source.read_bytes(), rng))
        kind = (TABLES | TENSORS)[source.name[3:]]
        kind.note(path)
        kind.read(path)

    def _given(self, name: str, rng: random.Random) -> Path:
        """Copy a folder and spoil one of its files."""
        given = self.case / "in"
        shutil.copytree(self.sound / name, given)
        path = rng.choice(sorted(path for path in given.rglob("*") if path.is_file()))
        self._spoil(path, f"{name}/{path.relative_to(given)}", rng)
        return given

    def _spoil(self, path: Path, name: str, rng: random.Random) -> None:
        """Spoil a file: its bytes, a value in it, or its name."""
        rows, how = self.rows.get(name), rng.random()
        if how < 0.4 and rows:
            try:
                write_table(path, rows, rng)
            except (pa.ArrowException, ArithmeticError, ValueError):  # the writer's own limits
                path.write_bytes(spoil(path.read_bytes(), rng))
        elif how < 0.4 and path.suffix == ".json":
            text = json.dumps(replace(json.loads(path.read_text()), rng))
            path.write_text(text.replace("1e+300", "9" * 5000))
        elif how < 0.5:
            path.rename(path.with_name(os.fsdecode(rng.choice(NAMES))))
        else:
            path.write_bytes(spoil(path.read_bytes(), rng))


def hang(*_: object) -> None:
    """End a case that takes too long."""
    raise TimeoutError(f"no end after {LONGEST} s")


def fuzz(
    folder: Path, cases: Iterable[int], seed: int, only: str | None = None
) -> tuple[Counter[str], list[str]]:
    """Run the cases of these numbers; return how they ended, and the escapes."""
    world, ends, escapes = Fuzz(folder, only), Counter(), []
    signal.signal(signal.SIGALRM, hang)
    for number in cases:
        signal.alarm(LONGEST)
        try:
            world.run(random.Random(f"{seed} {number}"))
            ends["read"] += 1
        except UserError as error:
            ends["refused" if "\n" not in str(error) else "escaped"] += 1
        except Exception as error:
            ends["escaped"] += 1
            escapes.append(f"case {number}: {type(error).__name__}: {error}")
        finally:
            signal.alarm(0)
    return ends, escapes


def main() -> None:
    """Run from the command line; exit code 1 when something escaped."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=("data", "answers", "texts", "artifacts"))
    options = parser.parse_args()
    until = time.monotonic() + options.seconds
    cases = itertools.takewhile(lambda _: time.monotonic() < until, itertools.count())
    with tempfile.TemporaryDirectory() as name:
        ends, escapes = fuzz(Path(name), cases, options.seed, options.only)
    print("\n".join([*escapes, str(dict(ends))]))
    sys.exit(bool(ends["escaped"]))


if __name__ == "__main__":
    main()
