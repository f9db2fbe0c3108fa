"""From a folder of pictures to one table: checked, cropped and resized once (paper §3)."""

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from tqdm import tqdm

from pipeline_steps import artifacts
from pipeline_steps.artifacts import FINDINGS, IMAGES, Origin, Row
from pipeline_steps.cli import LOG, run_step
from pipeline_steps.config import DataConfig
from pipeline_steps.data import picture_files as pictures
from pipeline_steps.data.checks import duplicate, look, too_few
from pipeline_steps.data.duplicates import same_looking
from pipeline_steps.data.entries import entries
from pipeline_steps.data.findings import LEFT_OUT, MEND, NOTE, Finding
from pipeline_steps.data.names import (
    hashed_id,
    is_by_address,
    is_by_content,
    picture_id,
    picture_names,
    withdrawn_names,
)
from pipeline_steps.data.rows import ANSWERS, Entry
from pipeline_steps.drawing.labels import many
from pipeline_steps.errors import UserError
from pipeline_steps.inputs.text import shown
from pipeline_steps.inputs.values import as_json
from pipeline_steps.seeds import derive_seed

LEAST_SCORED = 2
"""Held-out pictures without which there are no scores."""


@dataclass
class Held:
    """What is remembered of a picture while the others are read; the rest waits on disk.

    Attributes:
        name: as the user writes it.
        offset: of its row in the spool.
        source: SHA-256 of the file's bytes.
        pixels: SHA-256 of the encoded square.
        caption: part of the fingerprint.
        split: train, test, or None while undecided.
        small: 16 × 16 RGB, to find near duplicates.
        image_id: given once all names are known.
    """

    name: str
    offset: int
    source: str
    pixels: str
    caption: str
    split: str | None
    small: np.ndarray
    image_id: str = ""


def ingest(
    folder: Path,
    images: Path,
    culture: str,
    suffix: str,
    seed: int,
    config: DataConfig,
    findings: Path | None = None,
    withdrawn: Path | None = None,
    data_sets: Path | None = None,
    neighbours: int | None = None,
) -> None:
    """Read a culture's pictures, decide on every oddity once, and write one table.

    A picture that cannot be used is left out and named in ``findings``; a folder that cannot be
    understood is refused. The split is the metadata's, or drawn per picture from
    (seed, culture, image id), so that adding a picture does not move the others.

    Args:
        folder: pictures with captions, or a Parquet file; see :func:`entries`.
        images: table to write, in order of image id.
        culture: its name.
        suffix: of the culture; captions that do not name it are counted.
        seed: the run's seed.
        config: caption column, resolution, limits.
        findings: table to write: everything that was odd, worst first.
        withdrawn: list of pictures to leave out; see :func:`withdrawn_names`.
        data_sets: folder that keeps, for every fingerprint, which pictures it stands for.
        neighbours: k of density and coverage, where scores are wanted: too few held-out pictures are named.

    Raises:
        UserError: nothing usable, or the same picture in both splits.
    """
    found: list[Finding] = []
    images.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=images.parent) as spool:
        held = _read(folder, withdrawn_names(withdrawn), spool, config, found)
        if not held:
            reason = f"; first: {min(found).file}: {min(found).line}" if found else ""
            raise UserError(f"{folder}: no usable picture{reason}")
        _name(held)
        held.sort(key=lambda one: one.image_id)
        alike = _same_looking(held, config.duplicate_difference)
        _split(held, alike, culture, seed, config.test_share)
        found += [*_check_splits(culture, held, alike, neighbours), *_suffix_missing(held, suffix)]
        origin = Origin(culture, _fingerprint(held))
        with IMAGES.writer(images, origin, {"resolution": config.resolution}) as table:
            for one in held:
                table.add(_row(one, spool))
    found = sorted(set(found))
    if findings is not None:
        FINDINGS.write(findings, map(vars, found), origin)
    if data_sets is not None:
        listing = "".join(f"{one.image_id}\t{one.source}\t{shown(one.name)}\n" for one in held)
        artifacts.write_text(data_sets / f"{origin.fingerprint}.tsv", listing)
    _tell(culture, held, found)


def _read(
    folder: Path, withdrawn: Mapping[str, str], spool: IO[bytes], config: DataConfig, found: list[Finding]
) -> list[Held]:
    """Decode every picture once, keeping the squares in ``spool``; leave out the withdrawn ones.

    Of several rows the first that is taken counts, but for a refusal or an unclear answer in any of them.
    """
    held: dict[str, Held] = {}
    gone: dict[str, Held] = {}
    doubted: set[str] = set()
    again: set[str] = set()
    used: set[str] = set()
    given = entries(folder, config.caption_column, found, config.require_consent)
    for entry in tqdm(given, desc="ingest", unit="picture", mininterval=1):
        name = entry.name
        if name in gone:
            continue
        names = _listed(entry, withdrawn)
        used |= names
        try:
            if names or entry.withdrawn:
                found.append(Finding(NOTE, "withdrawn", shown(name), "is withdrawn; left out"))
                gone[name] = held.pop(name) if name in held else _hold(entry, spool, config, found)
            elif entry.fault:
                found.append(entry.fault)
                if entry.fault.kind in ANSWERS:
                    doubted.add(name)
                    held.pop(name, None)
            elif name not in held and name not in doubted:
                held[name] = _hold(entry, spool, config, found)
            elif name in held:
                if entry.split != held[name].split:
                    raise UserError(f"{folder}: {shown(name)} is in both splits; delete one of its rows")
                again.add(name)
        except pictures.UnusableError as error:
            found.append(Finding(LEFT_OUT, "picture", shown(name), str(error)))
    for name in again & held.keys():
        found.append(Finding(NOTE, "row", shown(name), "has several rows; the first counts"))
    for key in sorted(withdrawn.keys() - used):
        if is_by_content(withdrawn[key]) or is_by_address(key):
            line = "is in the withdrawn list and is here no longer"
            found.append(Finding(NOTE, "withdrawn", shown(withdrawn[key]), line))
            continue
        line = "is in the withdrawn list and names no picture here; check its spelling, unless it was deleted"
        found.append(Finding(MEND, "withdrawn", shown(withdrawn[key]), line))
    return _without(list(held.values()), list(gone.values()), config.duplicate_difference, found)


def _listed(entry: Entry, withdrawn: Mapping[str, str]) -> set[str]:
    """Return what the withdrawn list calls a picture, as it is compared."""
    if not withdrawn:
        return set()
    try:
        data = entry.data
        digest = hashlib.sha256(data).hexdigest() if isinstance(data, bytes) else artifacts.file_sha256(data)
    except OSError:  # a link that leads nowhere; it still has a name
        digest = ""
    return withdrawn.keys() & picture_names(entry.name, digest)


def _without(held: list[Held], gone: list[Held], difference: float, found: list[Finding]) -> list[Held]:
    """Drop identical copies of the withdrawn pictures, and name what merely looks like one."""
    originals = {one.pixels: one for one in reversed(gone)}
    kept = []
    for one in held:
        if original := originals.get(one.pixels):
            line = f"is a copy of the withdrawn {shown(original.name)}; left out"
            found.append(Finding(NOTE, "withdrawn", shown(one.name), line))
        else:
            kept.append(one)
    # Withdrawn pictures that look alike are led by one of them, so only the finding may ask for the leader.
    for i, leader in _same_looking([*gone, *kept], difference).items():
        if leader < len(gone) <= i:
            line = f"looks like the withdrawn {shown(gone[leader].name)}; withdraw it too if it is the same"
            found.append(Finding(MEND, "withdrawn", shown(kept[i - len(gone)].name), line))
    return kept


def _bytes(entry: Entry, max_megabytes: float) -> bytes:
    if isinstance(entry.data, bytes):
        return entry.data
    size = entry.data.stat().st_size
    if size > max_megabytes * 1e6:
        raise pictures.UnusableError(
            f"{size / 1e6:.3g} MB are more than data.max_megabytes ({max_megabytes:g}); make it smaller"
        )
    return entry.data.read_bytes()


def _hold(entry: Entry, spool: IO[bytes], config: DataConfig, found: list[Finding]) -> Held:
    data = _bytes(entry, config.max_megabytes)
    digest = hashlib.sha256(data).hexdigest()
    cut, odd = look(shown(entry.name), data, config)
    found.extend(odd)
    png = artifacts.encode_picture(cut.picture, "")["bytes"]
    row = {
        "caption": entry.caption,
        "source_width": cut.width,
        "source_height": cut.height,
        "crop": list(cut.crop),
        "source_sha256": digest,
        **entry.about,
        "extra": as_json(entry.extra) if entry.extra else None,
    }
    text = json.dumps(row).encode()
    offset = spool.tell()
    spool.write(len(text).to_bytes(8) + len(png).to_bytes(8) + text + png)
    pixels = hashlib.sha256(png).hexdigest()
    return Held(entry.name, offset, digest, pixels, entry.caption, entry.split, np.asarray(cut.small))


def _row(one: Held, spool: IO[bytes]) -> Row:
    spool.seek(one.offset)
    text_size, png_size = int.from_bytes(spool.read(8)), int.from_bytes(spool.read(8))
    row = json.loads(spool.read(text_size))
    cell = {"bytes": spool.read(png_size), "path": f"{one.image_id}.png"}
    return {**row, "image_id": one.image_id, "image": cell, "split": one.split}


def _fingerprint(held: list[Held]) -> str:
    """Return the SHA-256 over image id, picture, caption and split of all rows in order."""
    digest = hashlib.sha256()
    for one in held:
        digest.update(json.dumps([one.image_id, one.pixels, one.caption, one.split]).encode() + b"\n")
    return digest.hexdigest()


def _name(held: list[Held]) -> None:
    """Give every picture its id; those that would share one get a piece of their name's hash."""
    taken = Counter(picture_id(one.name).casefold() for one in held)
    for one in held:
        one.image_id = picture_id(one.name)
        if taken[one.image_id.casefold()] > 1:
            one.image_id = hashed_id(one.name)


# --- splits and duplicates --------------------------------------------------------------------


def _same_looking(held: list[Held], difference: float) -> dict[int, int]:
    return same_looking([one.pixels for one in held], [one.small for one in held], difference)


def _split(held: list[Held], alike: dict[int, int], culture: str, seed: int, test_share: float) -> None:
    """Decide every open split; pictures that look alike go together."""
    given = {alike.get(i, i): one.split for i, one in enumerate(held) if one.split}
    leaders = {alike.get(i, i) for i, one in enumerate(held) if not one.split} - given.keys()
    # Not by the picture's own id, which changes where another one of its name is added.
    plain = {i: picture_id(held[i].name) for i in leaders}
    drawn = sorted((derive_seed(seed, "split", culture, plain[i]) / 2**63, i) for i in leaders)
    test = {i for value, i in drawn if value < test_share}
    if 0 < test_share < 1 and drawn:  # neither side may stay empty where pictures can be moved
        if not test and "test" not in given.values() and (len(drawn) > 1 or given):
            test = {drawn[0][1]}
        elif len(test) == len(drawn) and "train" not in given.values():
            test.remove(drawn[-1][1])
    for i, one in enumerate(held):
        leader = alike.get(i, i)
        one.split = one.split or given.get(leader) or ("test" if leader in test else "train")


def _check_splits(
    culture: str, held: list[Held], alike: dict[int, int], neighbours: int | None
) -> Iterator[Finding]:
    """Name duplicates, and too few held-out pictures; refuse twins across splits, and no training picture."""
    for i, other in sorted(alike.items()):
        one, twin = held[i], held[other]
        same = "is the same picture as" if one.pixels == twin.pixels else "looks the same as"
        if one.split != twin.split:
            raise UserError(
                f"{shown(one.name)} ({one.split}) {same} {shown(twin.name)} ({twin.split}): a training "
                "picture in the test split; delete one, or lower data.duplicate_difference if they differ"
            )
        yield duplicate(one.name, twin.name, same)
    splits = Counter(one.split for one in held)
    if not splits["train"]:
        there = many(len(held), "picture")
        raise UserError(f"{culture}: no training picture, {there} in the test split; mark some as train")
    yield from _held_out(splits["train"], splits["test"], neighbours)


def _held_out(train: int, test: int, neighbours: int | None) -> Iterator[Finding]:
    """Name too few held-out pictures; whoever cannot spare so many of the training's is to add some."""
    if not test:
        line, lacking = "no picture is held out for scoring", 1
    elif neighbours and test < LEAST_SCORED:
        line, lacking = "one picture is held out, and scores need two", 1
    elif neighbours and test <= neighbours:
        line = f"{test} pictures are held out, and density and coverage need more than score.neighbours"
        line, lacking = f"{line} ({neighbours})", neighbours + 1 - test
    else:
        return
    mend = f"mark {'more' if test else 'some'} as test" if train > lacking else "add pictures"
    yield Finding(MEND, "split", "", f"{line}; {mend}")


def _suffix_missing(held: list[Held], suffix: str) -> Iterator[Finding]:
    words = suffix.strip(" ,.").casefold()
    missing = sum(words not in one.caption.casefold() for one in held)
    if missing:
        line = f"{missing} of {len(held)} captions do not say '{words}'; they are kept as written"
        yield Finding(NOTE, "suffix", "", line)


def _tell(culture: str, held: list[Held], found: list[Finding]) -> None:
    train = sum(one.split == "train" for one in held)
    if few := too_few("train", train):  # the report says it too; nothing else matters before it
        LOG.warning("%s: %s", culture, few.line)
    for finding in found:
        level = LOG.warning if finding.severity < NOTE else LOG.info
        level("%s: %s", culture, f"{finding.file} {finding.line}".strip())
    out = sum(finding.severity == LEFT_OUT for finding in found)
    parts = (many(len(held), "picture"), train, len(held) - train, out)
    LOG.info("%s: %s: %d train, %d test; %d left out", culture, *parts)


if __name__ == "__main__":
    run_step(ingest)
