"""How many pictures KID needs to tell two variants apart."""

from itertools import pairwise
from pathlib import Path

import numpy as np

from pipeline_steps.artifacts import FEATURES, IMAGES, SAMPLES, same_origin, write_text
from pipeline_steps.cli import run_step
from pipeline_steps.config import LABELS
from pipeline_steps.drawing import charts
from pipeline_steps.errors import UserError
from pipeline_steps.method.estimate import Estimate
from pipeline_steps.seeds import derive_seed

SIZES = (5, 10, 20, 50, 100, 200, 500, 1000)
DRAWS = 200


def kid_power(
    samples: Path,
    features: list[Path],
    images: Path,
    reference: Path,
    chart: Path,
    table: Path,
    culture: str,
    seed: int,
) -> None:
    """Draw, for each pair of neighbouring variants, how often small samples order them as all pictures do.

    Pictures that are blank in any variant are left out of all. Samples hold half of the pictures at
    most: larger ones are so alike that they agree with the whole whatever the truth. For all pictures
    the table has the difference of the two KIDs with its paired interval instead.

    Args:
        samples: one variant's pictures, for the prompts they share.
        features: of the variants' pictures, ``…/features/{variant}.safetensors``, best first or last.
        images: the culture's pictures; the rows of split "test" are the reference.
        reference: their features.
        chart: SVG file to write.
        table: CSV file to write: first, second, pictures, share, difference_x1000, low, high.
        culture: its name.
        seed: the run's seed.

    Raises:
        UserError: fewer than two variants, unlike variants, or too few pictures.
    """
    from pipeline_steps.method.kid import kid_difference, ordering_power

    sources = [(FEATURES, path) for path in (reference, *features)]
    same_origin((IMAGES, images), (SAMPLES, samples), *sources, culture=culture)
    test = [row["split"] == "test" for row in IMAGES.rows(images, ["split"])]
    prompts = [row["prompt_id"] for row in SAMPLES.rows(samples, ["prompt_id"])]
    real, found = FEATURES.read(reference)["inception"][test], [FEATURES.read(path) for path in features]
    if any(len(tensors["blank"]) != len(prompts) for tensors in found):
        raise UserError(f"{chart}: the variants have unlike numbers of pictures; sample them alike")
    whole = np.flatnonzero(~np.any([tensors["blank"].numpy() for tensors in found], axis=0))
    seen = {path.stem: tensors["inception"][whole] for path, tensors in zip(features, found, strict=True)}
    sizes = [size for size in SIZES if 2 * size <= len(whole)]
    if len(seen) < 2 or not sizes or len(real) < 2:
        raise UserError(
            f"{chart}: {len(seen)} variants of {len(whole)} pictures: need two variants of {2 * SIZES[0]}"
        )
    lines, series = ["first,second,pictures,share,difference_x1000,low,high"], {}
    for first, second in pairwise(seen):
        draws = derive_seed(seed, "kid_power", culture, first, second)
        points = ordering_power(seen[first], seen[second], real, sizes, DRAWS, draws)
        gap = kid_difference(seen[first], seen[second], real, [prompts[row] for row in whole])
        shown = ["" if end is None else f"{end * 1000:.6g}" for end in (gap.value, gap.low, gap.high)]
        lines += [f"{first},{second},{size},{share:.4f},,," for size, share in points]
        lines.append(f"{first},{second},{len(whole)},,{','.join(shown)}")
        series[f"{LABELS[first]} − {LABELS[second]}: {_in_words(gap)}"] = points
    title = (
        f"Share of samples in which KID orders two variants as all {len(whole)} pictures do; "
        "in the legend their difference × 10³"
    )
    write_text(chart, charts.line_chart(title, series, "generated pictures", "share (a coin: 0.5)"))
    write_text(table, "\n".join(lines) + "\n")


def _in_words(gap: Estimate) -> str:
    value, low, high = (
        "?" if end is None else f"{end * 1000:.3g}".replace("-", "−")
        for end in (gap.value, gap.low, gap.high)
    )
    return f"{value} ({low} to {high})"


if __name__ == "__main__":
    run_step(kid_power)
