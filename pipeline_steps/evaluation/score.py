"""Every score of one variant's pictures from their features (paper §5, §6)."""

from pathlib import Path

from pipeline_steps.artifacts import FEATURES, IMAGES, SAMPLES, SCORES, rebuild, same_origin, seen_size
from pipeline_steps.cli import run_step
from pipeline_steps.config import ScoreConfig
from pipeline_steps.errors import UserError
from pipeline_steps.evaluation.measures import (
    against_test,
    against_train,
    alone,
    distances,
    drawn_world,
    pictures,
    real_pictures,
    same_networks,
    variety,
)


def score(
    samples: Path,
    features: Path,
    images: Path,
    reference: Path,
    scores: Path,
    variant: str,
    config: ScoreConfig,
) -> None:
    """Score one variant's pictures against a set of real ones.

    Against the reference's split "test": ``kid`` (full set, raw), ``kid_between`` (over pairs of
    different prompts), ``kid_subsets`` (torch-fidelity's), ``cmmd``, ``density``, ``coverage``. Against
    its split "train": ``nearest_train`` and, where the prompts are captions of training pictures,
    ``clip_i``, ``dino`` and ``dreamsim``. On their own: ``clip_score``, ``div``, ``vendi`` and, in the
    drawn world, the attribute scores. Blank pictures
    are counted and left out; a score for which there are too few pictures is left out with a
    warning that says so.

    Args:
        samples: the variant's generated pictures; only their prompts and size are read.
        features: theirs.
        images: the real pictures; only captions, splits and size are read.
        reference: their features.
        scores: the table to write.
        variant: its name.
        config: neighbours.

    Raises:
        UserError: fewer than two pictures on a side, sides of unlike pixel sizes, or files that do not
            belong together.
    """
    origin = same_origin((SAMPLES, samples), (FEATURES, features))
    same_origin((IMAGES, images), (FEATURES, reference))
    networks = same_networks(features, reference)
    rows = SAMPLES.read(samples, ["prompt_id", "prompt"])
    generated = pictures(features, [row["prompt"] for row in rows], [row["prompt_id"] for row in rows])
    test, train = real_pictures(images, reference)
    _check_sizes(samples, images)
    blank = generated.seen["blank"].numpy()
    generated = generated.where(~blank)
    for path, shown in ((samples, generated), (images, test)):
        if len(shown.texts) < 2:
            raise UserError(
                f"{path}: {len(shown.texts)} pictures to score (blank ones left out); need at least 2"
            )

    found = [
        *distances(generated, test),
        *against_test(generated, test, config.neighbours),
        *against_train(generated, train),
        *alone(generated, networks),
        variety(generated),
        *drawn_world(generated, origin.culture),
    ]
    SCORES.write(
        scores,
        [
            {
                "variant": variant,
                "metric": item.metric,
                **vars(item.estimate),
                "unit": item.unit,
                "generated": item.generated,
                "reference": item.reference,
                "extractor": networks[item.network]["path"],
                "weights_sha256": networks[item.network]["sha256"],
            }
            for item in sorted(found)
        ],
        origin,
        {"blank": int(blank.sum())},
    )


def _check_sizes(samples: Path, images: Path) -> None:
    """Refuse pictures of unlike sizes: the networks scale them, and the scores would compare the blur."""
    drawn, real = seen_size(SAMPLES, samples), seen_size(IMAGES, images)
    if drawn != real:
        raise UserError(
            f"{samples}: {drawn[0]}×{drawn[1]} pixels, but the real pictures in {images} are "
            f"{real[0]}×{real[1]}; {rebuild(samples)}"
        )


if __name__ == "__main__":
    run_step(score)
