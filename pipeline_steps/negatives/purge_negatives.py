"""Delete the negatives: pictures that show a model's stereotypes, and that nobody needs any more."""

from collections.abc import Iterator
from pathlib import Path

from pipeline_steps import artifacts
from pipeline_steps.artifacts import NEGATIVE_CACHE, NEGATIVES, NEGATIVES_KEPT
from pipeline_steps.cli import LOG, run_step


def purge_negatives(results: Path, pages: tuple[Path, ...] = ()) -> None:
    """Delete every table of negatives below ``results``, their latents, and the pages that show them.

    Files are known by their header, wherever they lie: runs' own, shards, and what a killed job
    left half written. LoRAs, distances and perceptual targets hold no picture and stay, so that
    nothing is trained again; latents are a picture but for the decoder.

    Args:
        results: root of all outputs.
        pages: HTML files in which negatives are embedded.
    """
    size = count = 0
    for path in sorted({*_pictures(results), *pages}):
        if path.is_file():
            size += path.stat().st_size
            count += 1
            path.unlink()
            LOG.info("deleted %s", path)
    LOG.info(
        "%d files with negatives deleted, %.1f MB; copies made elsewhere are not known here",
        count,
        size / 1e6,
    )


def _pictures(results: Path) -> Iterator[Path]:
    """The files that hold negatives, as pictures or as latents."""
    for ending, names in (
        ("parquet", (NEGATIVES.name, NEGATIVES_KEPT.name)),
        ("safetensors", (NEGATIVE_CACHE.name,)),
    ):
        for path in results.rglob(f"*.{ending}"):
            note = artifacts.any_note(path)
            # A damaged file's header cannot be read; its pictures perhaps can.
            if note.get("artifact") in names or path.stem in names:
                yield path
        for name in names:
            yield from results.rglob(f".{name}.{ending}.*.part")


if __name__ == "__main__":
    run_step(purge_negatives)
