"""Feeds spoilt files to everything that reads what others hand in.

    python -m tests.fuzz --seconds 3600

Sound files are changed at random (bits, pieces, lines, whole values) and given to ingest, the survey's
importer and the readers of artifacts. Anything but success or a :class:`UserError` of one line is an
escape, as is a case that takes longer than a minute, or a file written outside its results folder.
"""

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from pipeline_steps.config import DataConfig, SurveyConfig
from pipeline_steps.data.ingest import ingest
from pipeline_steps.errors import UserError
from pipeline_steps.survey.survey_import import survey_import
from tests import ROOT
from tests.artifacts.test_artifacts import TABLES, TENSORS, write
from tests.survey.survey_world import make_pages

LONGEST = 60
"""Seconds after which a case counts as hanging."""
PIECES = [
    b"", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b'"', b"null", b"NaN", b"[[[[", b"{", b"-1",
    b"1e999", b"../../escape.png", b"/etc/passwd", b"\\u0000", b"\\ud800", b"=1+1", b"<script>", b"true",
    b"9" * 40, b"," * 50,
]  # fmt: skip


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


class Fuzz:
    """Sound files, and one case after another made of them.

    Args:
        folder: everything is written below it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.case = folder, folder / "case"
        self.sound = folder / "sound"
        pictures = self.sound / "pictures"
        pictures.mkdir(parents=True)
        source = ROOT / "resources/mini/ccub/korea"
        rows = [json.loads(line) for line in (source / "metadata.jsonl").read_text().splitlines()[:4]]
        for row in rows:
            row["file_name"] = Path(shutil.copy(source / row["file_name"], pictures)).name
        (pictures / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.pages, _ = make_pages(self.sound)
        answers = self.sound / "answers"
        answers.mkdir()
        answer = {
            "participant": "a",
            "culture": "korea",
            "page": "p",
            "item": "description",
            "picture": "x",
            "rank": 1,
        }
        (answers / "a.csv").write_text(",".join(answer) + "\n" + ",".join(map(str, answer.values())) + "\n")
        (answers / "b.json").write_text(json.dumps([answer]))
        for number, (name, kind) in enumerate((TABLES | TENSORS).items()):
            write(kind, self.sound / f"artifacts/{number:02}_{name}")

    def run(self, rng: random.Random) -> None:
        """Make one case and read it."""
        shutil.rmtree(self.case, ignore_errors=True)
        self.case.mkdir()
        rng.choice((self.ingest, self.importer, self.reader))(rng)
        strangers = {path.name for path in self.folder.iterdir()} - {"case", "sound"}
        strangers |= {path.name for path in self.case.iterdir()} - {"in", "results"}
        assert not strangers, f"written outside: {strangers}"

    def ingest(self, rng: random.Random) -> None:
        """Spoil the metadata, or a picture."""
        given, out = self._given("pictures", rng), self.case / "results"
        ingest(
            given, out / "images.parquet", "korea", ", in korea", 1, DataConfig(), out / "findings.parquet"
        )

    def importer(self, rng: random.Random) -> None:
        """Spoil a file of answers."""
        given, out = self._given("answers", rng), self.case / "results"
        survey_import(given, [self.pages], out / "answers.parquet", out / "rejected.parquet", SurveyConfig())

    def reader(self, rng: random.Random) -> None:
        """Spoil an artifact."""
        source = rng.choice(sorted((self.sound / "artifacts").iterdir()))
        path = self.case / "in"
        path.write_bytes(spoil(source.read_bytes(), rng))
        kind = (TABLES | TENSORS)[source.name[3:]]
        kind.note(path)
        kind.read(path)

    def _given(self, name: str, rng: random.Random) -> Path:
        given = self.case / "in"
        shutil.copytree(self.sound / name, given)
        path = rng.choice(sorted(given.iterdir()))
        path.write_bytes(spoil(path.read_bytes(), rng))
        return given


def fuzz(folder: Path, seconds: float, seed: int) -> tuple[Counter[str], list[str]]:
    """Run cases until the time is over; return how they ended, and the escapes."""
    world, ends, escapes = Fuzz(folder), Counter(), []
    until, number = time.monotonic() + seconds, 0
    while time.monotonic() < until:
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
        number += 1
    return ends, escapes


def main() -> None:
    """Run from the command line; exit code 1 when something escaped."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        ends, escapes = fuzz(Path(name), options.seconds, options.seed)
    print("\n".join([*escapes, str(dict(ends))]))
    sys.exit(bool(ends["escaped"]))


if __name__ == "__main__":
    main()
