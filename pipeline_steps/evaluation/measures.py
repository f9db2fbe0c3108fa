"""What every score is measured with: some pictures, what networks saw in them, and the scores' figures."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline_steps.artifacts import FEATURES, IMAGES, rebuild
from pipeline_steps.errors import UserError
from pipeline_steps.method.estimate import Estimate, clustered_mean, jackknife

if TYPE_CHECKING:
    from torch import Tensor

LOG = logging.getLogger(__name__)


class Score(NamedTuple):
    """An estimate and what it was measured with."""

    metric: str
    estimate: Estimate
    unit: str
    generated: int
    reference: int | None
    network: str


class Pictures(NamedTuple):
    """Some pictures: what each network saw (rows of one tensor each), their texts and their clusters."""

    seen: dict[str, "Tensor"]
    texts: list[str]
    clusters: list[str]

    def where(self, mask: "Sequence[bool] | np.ndarray") -> "Pictures":
        """Keep the pictures where the mask is true."""
        rows = np.flatnonzero(mask)
        return Pictures(
            {name: tensor[rows] for name, tensor in self.seen.items()},
            [self.texts[row] for row in rows],
            [self.clusters[row] for row in rows],
        )


def same_networks(*features: Path) -> dict[str, dict[str, str]]:
    """Return by which networks pictures were seen.

    Raises:
        UserError: not by the same.
    """
    networks = [json.loads(FEATURES.metadata(path)["networks"]) for path in features]
    for path, found in zip(features, networks, strict=True):
        if found != networks[0]:
            raise UserError(
                f"{features[0]} and {path}: seen by different networks; {rebuild(features[0], path)}"
            )
    known: dict[str, dict[str, str]] = networks[0]
    return known


def real_pictures(images: Path, features: Path) -> tuple["Pictures", "Pictures"]:
    """Read what the networks saw in the real pictures: of the split "test", and of "train"."""
    rows = IMAGES.read(images, ["caption", "split"])
    real = pictures(features, [row["caption"] for row in rows], [row["image_id"] for row in rows])
    split = np.array([row["split"] for row in rows])
    return real.where(split == "test"), real.where(split == "train")


def pictures(features: Path, texts: list[str], clusters: list[str]) -> Pictures:
    """Read what the networks saw in the pictures of a table.

    Args:
        features: theirs.
        texts: caption or prompt of each.
        clusters: what is left out together: the prompt's id, or the picture's own.

    Raises:
        UserError: there are not as many.
    """
    seen = FEATURES.read(features)
    if len(seen["blank"]) != len(texts):
        raise UserError(
            f"{features}: {len(seen['blank'])} rows for {len(texts)} pictures; {rebuild(features)}"
        )
    return Pictures(seen, [" ".join(text.split()) for text in texts], clusters)


def distances(generated: Pictures, test: Pictures) -> Iterator[Score]:
    """KID and CMMD to the held-out pictures."""
    from pipeline_steps.method.kid import UNIT, gaussian_kernel, kid

    n, m, clusters = len(generated.texts), len(test.texts), generated.clusters
    x, y = generated.seen["inception"], test.seen["inception"]
    yield Score("kid", kid(x, y, clusters), UNIT, n, m, "inception")
    cmmd = kid(generated.seen["clip"], test.seen["clip"], clusters, gaussian_kernel)
    yield Score("cmmd", cmmd, "MMD² (CMMD prints 1000 times this)", n, m, "clip")


def against_test(generated: Pictures, test: Pictures, neighbours: int) -> Iterator[Score]:
    """KID by other ways, density and coverage against the held-out pictures."""
    from pipeline_steps.method.coverage import density_and_coverage
    from pipeline_steps.method.kid import UNIT, kid_between, kid_subsets

    n, m = len(generated.texts), len(test.texts)

    def row(metric: str, estimate: Estimate, unit: str, network: str) -> Score:
        return Score(metric, estimate, unit, n, m, network)

    x, y = generated.seen["inception"], test.seen["inception"]
    if len(set(generated.clusters)) > 1:
        yield row("kid_between", kid_between(x, y, generated.clusters), UNIT, "inception")
    else:
        LOG.warning("kid_between left out: a single prompt")
    subsets = kid_subsets(x, y)
    if subsets:
        yield row("kid_subsets", subsets, UNIT, "inception")
    else:
        LOG.warning("kid_subsets left out: %d generated and %d real pictures are too few", n, m)
    if m <= neighbours:
        LOG.warning("density and coverage left out: %d real pictures, %d neighbours", m, neighbours)
        return
    density, coverage = density_and_coverage(x, y, generated.clusters, neighbours)
    yield row("density", density, f"share of balls over k = {neighbours}", "inception")
    yield row("coverage", coverage, "share of real pictures", "inception")


def against_train(generated: Pictures, train: Pictures) -> Iterator[Score]:
    """Likeness to the training pictures: the nearest one, and those of the same prompt (Table 2)."""
    import torch.nn.functional as F

    if not train.texts:
        return
    same = np.array([[text == caption for caption in train.texts] for text in generated.texts])
    prompted = np.asarray(same.any(1))
    for metric, network in (("clip_i", "clip"), ("dino", "dino"), ("dreamsim", "dreamsim")):
        x, y = (F.normalize(side.seen[network].double(), dim=-1) for side in (generated, train))
        cosines = (x @ y.T).numpy()
        if network == "dreamsim":
            nearest = clustered_mean(cosines.max(1), generated.clusters)
            yield Score("nearest_train", nearest, "cosine", len(cosines), len(train.texts), network)
        if prompted.any():
            own = np.where(same, cosines, 0).sum(1)[prompted] / same.sum(1)[prompted]
            mean = clustered_mean(own, generated.where(prompted).clusters)
            yield Score(metric, mean, "cosine", len(own), int(same.any(0).sum()), network)


def alone(generated: Pictures, networks: Mapping[str, Mapping[str, str]]) -> Iterator[Score]:
    """CLIPScore, whose unit says what stood before the prompts, and DIV."""
    from pipeline_steps.method.similarity import clip_score, diversity

    seen, n = generated.seen, len(generated.texts)
    fit = clustered_mean(clip_score(seen["clip"], seen["text"]).numpy(), generated.clusters)
    prefix = networks["clip"].get("prompt_prefix")
    unit = "2.5·max(cos, 0)" + (f", prompts behind '{prefix.strip()}'" if prefix else "")
    yield Score("clip_score", fit, unit, n, None, "clip")
    values, prompts = diversity(seen["dreamsim"], generated.clusters)
    if values:
        yield Score("div", clustered_mean(values, prompts), "1 − cosine", n, None, "dreamsim")
    else:
        LOG.warning("div left out: no prompt has two pictures")


def variety(generated: Pictures) -> Score:
    """The Vendi score."""
    from pipeline_steps.method.coverage import vendi

    seen, n = generated.seen, len(generated.texts)
    found = jackknife(
        lambda keep: vendi(seen["dreamsim"][np.flatnonzero(keep)]), generated.clusters, (1, np.inf)
    )
    return Score("vendi", found, "effective number of pictures", n, None, "dreamsim")


def drawn_world(generated: Pictures, culture: str) -> Iterator[Score]:
    """Shares of the culture's right values, of the stereotype's, and of what the prompts name.

    For the cultural attributes: each alone, all at once ("_all"), and their mean. The right values
    are known here alone, in evaluation.
    """
    from pipeline_steps.mini.world import ATTRIBUTES, CULTURAL, GENERIC, RIGHT, STEREOTYPE

    if "attributes" not in generated.seen:
        return
    read = {
        name: np.array(ATTRIBUTES[name])[column]
        for name, column in zip(ATTRIBUTES, generated.seen["attributes"].numpy().T, strict=True)
    }

    def row(metric: str, values: np.ndarray, clusters: list[str]) -> Score:
        estimate = clustered_mean(values, clusters, within=(0, 1))
        return Score(metric, estimate, "share", len(values), None, "attributes")

    wanted = {"stereotype": STEREOTYPE}
    if culture in RIGHT:
        wanted["attribute_accuracy"] = RIGHT[culture]
    else:
        LOG.warning("attribute_accuracy left out: the drawn world has no culture '%s'", culture)
    for metric, values in wanted.items():
        hits = np.stack([read[name] == values[name] for name in CULTURAL], axis=1)
        yield row(metric, hits.mean(1), generated.clusters)
        yield row(f"{metric}_all", np.asarray(hits.all(1)), generated.clusters)
        for name, column in zip(CULTURAL, hits.T, strict=True):
            yield row(f"{metric}_{name}", column, generated.clusters)

    shown, clusters = [], []
    for number, text in enumerate(generated.texts):
        words = set(text.lower().replace(",", " ").split())
        named = [(name, value) for name in GENERIC for value in ATTRIBUTES[name] if value in words]
        if named:
            shown.append(np.mean([read[name][number] == value for name, value in named]))
            clusters.append(generated.clusters[number])
    if shown:
        yield row("generic_accuracy", np.array(shown), clusters)
