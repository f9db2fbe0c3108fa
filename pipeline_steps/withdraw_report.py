"""Which results still stand on a picture that was withdrawn."""

import json
from collections.abc import Iterator
from pathlib import Path

from pipeline_steps import artifacts, sources
from pipeline_steps.cli import LOG, run_step
from pipeline_steps.errors import UserError


def withdraw_report(
    results: Path, report: Path, cultures: tuple[str, ...] = (), withdrawn: tuple[Path, ...] = ()
) -> None:
    """List every table and tensor file below ``results`` made from a data set with a withdrawn picture.

    ``ingest`` keeps, for every fingerprint it ever gave, the list of its pictures under
    ``<results>/<culture>/data_sets``; files whose data set is not listed there are named as unknown.

    Args:
        results: root of all outputs.
        report: text file to write, tab-separated: file, culture, fingerprint, what it holds.
        cultures: names of the cultures with a withdrawn list.
        withdrawn: their lists, in the same order.

    Raises:
        UserError: a list is missing, or there are more lists than cultures.
    """
    if len(cultures) != len(withdrawn):
        raise UserError(
            f"{len(cultures)} cultures but {len(withdrawn)} withdrawn lists; give one list per culture"
        )
    holding: dict[str, dict[str, list[str]]] = {}
    for culture, path in zip(cultures, withdrawn, strict=True):
        holding[culture] = _data_sets(results / culture / "data_sets", sources.withdrawn_names(path))
    lines = []
    for path, culture, fingerprint in _made_from(results):
        if culture not in holding:
            continue
        if fingerprint not in holding[culture]:
            held = "unknown: its data set is not listed; take it as holding them"
        elif names := holding[culture][fingerprint]:
            held = "withdrawn: " + ", ".join(names)
        else:
            continue
        LOG.warning("%s: %s", path, held)
        lines.append(f"{path.relative_to(results)}\t{culture}\t{fingerprint}\t{held}\n")
    artifacts.write_text(report, "file\tculture\tfingerprint\tholds\n" + "".join(lines))
    LOG.info("%d files still hold withdrawn pictures; delete them and what was copied from them", len(lines))


def _data_sets(folder: Path, withdrawn: set[str]) -> dict[str, list[str]]:
    """Map each listed fingerprint to the names of withdrawn pictures in it, copies included."""
    pictures: dict[str, list[list[str]]] = {}
    for path in sorted(folder.glob("*.tsv")):
        pictures[path.stem] = [line.split("\t") for line in sources.read_text(path).splitlines()]
    digests = {
        digest
        for rows in pictures.values()
        for image_id, digest, name in rows
        if withdrawn & ({image_id} | sources.called(name, digest))
    }
    return {key: [name for _, digest, name in rows if digest in digests] for key, rows in pictures.items()}


def _made_from(results: Path) -> Iterator[tuple[Path, str, str]]:
    """Yield every file that names its data set: path, culture, fingerprint."""
    for path in sorted(results.rglob("*")):
        note = json.loads(artifacts.raw_metadata(path).get("scoft", "{}")) if path.is_file() else {}
        if note.get("fingerprint"):
            yield path, str(note.get("culture")), str(note["fingerprint"])


if __name__ == "__main__":
    run_step(withdraw_report)
