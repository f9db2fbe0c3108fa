"""Which results still stand on a picture that was withdrawn."""

import base64
import binascii
import math
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from pipeline_steps import artifacts
from pipeline_steps.cli import LOG, run_step
from pipeline_steps.data.names import is_by_address, is_by_content, picture_names, withdrawn_names
from pipeline_steps.errors import UserError
from pipeline_steps.inputs.text import clean_text, name_key, read_text, shown

PAGES = (".html", ".md")
"""Text files that show pictures or speak of a data set; they carry its fingerprint in their text."""
FINGERPRINT = re.compile("[0-9a-f]{64}")
"""Of a data set; people's answers have a word in its place, and hold no picture."""
EMBEDDED = re.compile(";base64,([A-Za-z0-9+/]+)")
"""What a page holds as a data address."""


def withdraw_report(
    results: Path,
    report: Path,
    cultures: tuple[str, ...] = (),
    withdrawn: tuple[Path, ...] = (),
    configured: tuple[str, ...] = (),
) -> None:
    """List every file below ``results`` that holds a withdrawn picture or was made from one.

    ``ingest`` keeps, for every fingerprint it ever gave, the list of its pictures under
    ``<results>/<culture>/data_sets``. Tables, tensor files and contact sheets carry the fingerprint in
    their header, pages and cards in their text or in what they embed; downloaded pictures are compared
    byte by byte. A file whose data set is not listed, a downloaded table, or a file older than the present
    data set that says nothing of its pictures (prompts, TensorBoard's), is named as unknown. A line of a list
    that names no picture of any data set goes to the log: it may be misspelt.

    Args:
        results: root of all outputs.
        report: text file to write, tab-separated: file, culture, what it holds.
        cultures: names of the cultures with a withdrawn list.
        withdrawn: their lists, in the same order.
        configured: names of all cultures. Results of any other, whose entry was renamed or taken out, are
            held against every list.

    Raises:
        UserError: a list is missing, or there are more lists than cultures.
    """
    if len(cultures) != len(withdrawn):
        raise UserError(
            f"{len(cultures)} cultures but {len(withdrawn)} withdrawn lists; give one list per culture"
        )
    lists = {culture: withdrawn_names(path) for culture, path in zip(cultures, withdrawn, strict=True)}
    every = {key: name for names in lists.values() for key, name in names.items()}
    there = {folder.parent.name for folder in results.glob("*/data_sets")} if every else set()
    lists |= dict.fromkeys(sorted(there - {*lists, *configured}), every)
    lines = []
    used: set[str] = set()
    for culture, names in lists.items():
        data_sets = _data_sets(results / culture / "data_sets")
        digests = _digests(data_sets, names, used)
        holding = {
            key: [name for _, digest, name in rows if digest in digests] for key, rows in data_sets.items()
        }
        for file, held in (*_made_from(results, culture, holding), *_downloaded(results / culture, digests)):
            LOG.warning("%s: %s", file, held)
            cells = (clean_text(str(file.relative_to(results))), culture, held)
            lines.append("\t".join(map(artifacts.spreadsheet_text, cells)) + "\n")
    artifacts.write_text(report, "file\tculture\tholds\n" + "".join(lines))
    for culture, path in zip(cultures, withdrawn, strict=True):
        _say_unused(path, lists[culture], used)
    mend = "; delete them and what was copied from them" if lines else ""
    LOG.info("%d files still hold withdrawn pictures%s", len(lines), mend)


def _data_sets(folder: Path) -> dict[str, list[list[str]]]:
    """Map each listed fingerprint to its pictures: image id, SHA-256, file name."""
    return {
        path.stem: [line.split("\t") for line in read_text(path).splitlines()]
        for path in sorted(folder.glob("*.tsv"))
    }


def _digests(data_sets: dict[str, list[list[str]]], withdrawn: Mapping[str, str], used: set[str]) -> set[str]:
    """Return the SHA-256 of every withdrawn picture, so that copies under other names are found.

    What the list calls them is added to ``used``.
    """
    digests = set()
    for image_id, digest, name in (row for data_set in data_sets.values() for row in data_set):
        if names := withdrawn.keys() & {name_key(image_id), *picture_names(name, digest)}:
            digests.add(digest)
            used |= names
    return digests


def _say_unused(path: Path, withdrawn: Mapping[str, str], used: Collection[str]) -> None:
    """Name the lines of a list that name no picture, but for names that nobody types, and so misspells."""
    for key, name in withdrawn.items():
        if key not in used and not is_by_content(name) and not is_by_address(key):
            line = "names no picture of any data set here; check its spelling, unless it was never used"
            LOG.warning("%s: %s %s", path, shown(name), line)


def _made_from(results: Path, culture: str, holding: dict[str, list[str]]) -> Iterator[tuple[Path, str]]:
    home = results / culture
    until = _tainted_until(home, holding)
    for path in sorted(results.rglob("*")):
        if path.suffix in PAGES and path.is_file():
            texts = list(_texts(path.read_text(encoding="utf-8", errors="replace")))
            held = (names for key, names in holding.items() if names and any(key in text for text in texts))
            names = next(held, [])
        else:
            note = artifacts.any_note(path)
            if not note.get("fingerprint"):
                if _says_nothing(path, home) and path.stat().st_mtime < until:
                    yield path, "unknown: it does not say from which pictures it is; take it as holding them"
                continue
            if note.get("culture") != culture or not FINGERPRINT.fullmatch(str(note["fingerprint"])):
                continue
            if note["fingerprint"] not in holding:
                yield path, "unknown: its data set is not listed; take it as holding them"
            names = holding.get(note["fingerprint"], [])
        if names:
            yield path, "withdrawn: " + ", ".join(names)


def _texts(page: str) -> Iterator[str]:
    """Yield a page's text, and that of the files it embeds: Snakemake's report holds whole pages so."""
    yield page
    for found in EMBEDDED.finditer(page):
        try:
            yield from _texts(base64.b64decode(found[1] + "==").decode("latin-1"))
        except binascii.Error:  # looks like an address and is none
            continue


def _tainted_until(home: Path, holding: dict[str, list[str]]) -> float:
    """Return the time before which files may be from withdrawn pictures: when these left the data set."""
    if not any(holding.values()):
        return -math.inf
    newest = max((home / "data_sets").glob("*.tsv"), key=lambda file: file.stat().st_mtime)
    return math.inf if holding[newest.stem] else newest.stat().st_mtime


def _says_nothing(path: Path, home: Path) -> bool:
    """Whether a culture's file carries no word of its pictures and is looked at nowhere else."""
    elsewhere = ("data_sets", "download", "data_set")
    return path.is_file() and path.is_relative_to(home) and path.relative_to(home).parts[0] not in elsewhere


def _downloaded(home: Path, digests: set[str]) -> Iterator[tuple[Path, str]]:
    for path in sorted((*home.glob("download/pictures/*"), *home.glob("data_set/**/*"))):
        if path.is_file() and artifacts.file_sha256(path) in digests:
            yield path, "withdrawn: the picture itself"
        elif digests and path.suffix in (".parquet", ".arrow"):
            yield path, "unknown: a downloaded table of pictures; take it as holding them"


if __name__ == "__main__":
    run_step(withdraw_report)
