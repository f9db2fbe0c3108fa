"""How many pictures KID needs to tell two variants apart."""

from itertools import pairwise
from pathlib import Path

from pipeline_steps.artifacts import FEATURES, IMAGES, same_origin, write_text
from pipeline_steps.cli import run_step
from pipeline_steps.errors import UserError
from pipeline_steps.method import charts

SIZES = (5, 10, 20, 50, 100, 200, 500, 1000)
DRAWS = 200


def kid_power(features: list[Path], images: Path, reference: Path, chart: Path, table: Path) -> None:
    """Draw, for each pair of neighbouring variants, how often small samples order them as all pictures do.

    Args:
        features: of the variants' pictures, ``…/features/{variant}.safetensors``, best first or last.
        images: the culture's pictures; the rows of split "test" are the reference.
        reference: their features.
        chart: SVG file to write.
        table: CSV file to write: first, second, pictures, share.

    Raises:
        UserError: fewer than two variants, or too few pictures.
    """
    from pipeline_steps.method.kid import ordering_power

    same_origin((IMAGES, images), *((FEATURES, path) for path in (reference, *features)))
    test = [row["split"] == "test" for row in IMAGES.rows(images, ["split"])]
    real = FEATURES.read(reference)["inception"][test]
    seen = {path.stem: FEATURES.read(path)["inception"] for path in features}
    count = min(len(tensor) for tensor in seen.values())
    sizes = [size for size in SIZES if size < count]
    if len(seen) < 2 or not sizes or len(real) < 2:
        raise UserError(
            f"{chart}: {len(seen)} variants of {count} pictures: need two variants of more than {SIZES[0]}"
        )
    power = {
        (first, second): ordering_power(seen[first], seen[second], real, sizes, DRAWS, seed=0)
        for first, second in pairwise(seen)
    }
    title = f"Share of samples in which KID orders two variants as all {count} pictures do"
    series = {f"{first} / {second}": points for (first, second), points in power.items()}
    write_text(chart, charts.line_chart(title, series, "generated pictures", "share (a coin: 0.5)"))
    lines = [f"{a},{b},{size},{share:.4f}" for (a, b), points in power.items() for size, share in points]
    write_text(table, "\n".join(["first,second,pictures,share", *lines]) + "\n")


if __name__ == "__main__":
    run_step(kid_power)
