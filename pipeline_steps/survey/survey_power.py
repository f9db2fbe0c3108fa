"""How many people to ask: simulated surveys of known truth, many times over."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_steps.artifacts import POWER, Row
from pipeline_steps.cli import LOG, run_step
from pipeline_steps.config import SurveyConfig
from pipeline_steps.seeds import derive_seed
from pipeline_steps.survey.rankings import votes_of
from pipeline_steps.survey.shown import ITEMS

if TYPE_CHECKING:
    import numpy as np


def survey_power(power: Path, seed: int, config: SurveyConfig) -> None:
    """Measure how often crowds of each size and make-up find the true order and the true best.

    Each participant gives pages_per_participant × 4 rankings, as in a survey of one culture; MMSR+Vote
    is set beside one vote each (plain majority) and Plackett–Luce.

    Args:
        power: table to write.
        seed: of the simulation.
        config: true strengths, sizes, shares of careless and adversarial people, trials.
    """
    cells = list(_cells(seed, config))
    cells.sort(key=lambda row: tuple(row[name] for name in POWER.key))
    strengths = {name: config.simulation.strengths[name] for name in config.variants}
    POWER.write(power, cells, extra={"simulated": True, "strengths": str(strengths)})


def _cells(seed: int, config: SurveyConfig) -> Iterator[Row]:
    import numpy as np
    from scipy.stats import binomtest

    from pipeline_steps.method.crowd import crowd_skills, simulate_ranks

    crowd = config.simulation
    strengths = [crowd.strengths[name] for name in config.variants]
    answers = config.pages_per_participant * len(ITEMS)
    for people, careless, adversarial in product(
        crowd.power_participants, crowd.power_careless, crowd.power_adversarial
    ):
        skills = crowd_skills(people, careless, adversarial)
        hits: dict[tuple[str, str], int] = {}
        for trial in range(crowd.power_trials):
            rng = np.random.default_rng(
                derive_seed(seed, "power", people, str(careless), str(adversarial), trial)
            )
            ranks = simulate_ranks(strengths, skills, answers, rng)
            for method, score in _scores(ranks, list(config.variants), seed).items():
                order = np.argsort(-np.array(score), kind="stable")
                true = np.argsort(-np.array(strengths), kind="stable")
                clear = len(set(score)) == len(score)
                found = {
                    "true_order": clear and (order == true).all(),
                    "true_best": score.count(max(score)) == 1 and order[0] == true[0],
                }
                for statistic, hit in found.items():
                    hits[method, statistic] = hits.get((method, statistic), 0) + int(hit)
        share = hits["mmsr_vote", "true_order"] / crowd.power_trials
        LOG.info(
            "%d people, %.0f%% careless, %.0f%% adversarial: the true order is found in %.0f%% of surveys",
            people, 100 * careless, 100 * adversarial, 100 * share,
        )  # fmt: skip
        for (method, statistic), count in hits.items():
            low, high = binomtest(count, crowd.power_trials).proportion_ci(method="wilson")
            yield {
                "participants": people,
                "careless": careless,
                "adversarial": adversarial,
                "method": method,
                "statistic": statistic,
                "value": count / crowd.power_trials,
                "low": float(low),
                "high": float(high),
                "trials": crowd.power_trials,
            }


def _scores(ranks: "np.ndarray", variants: list[str], seed: int) -> dict[str, list[float]]:
    """Score the variants of one simulated survey, shape (p, answers, k), by each method; more is better."""
    import numpy as np
    import pandas as pd

    from pipeline_steps.method.mmsr import mmsr_vote, order, settle
    from pipeline_steps.method.ranks import encode, orders, plackett_luce

    people, answers, k = ranks.shape
    worker = np.repeat([f"w{number:04d}" for number in range(people)], answers)
    flat = ranks.reshape(-1, k)
    votes = votes_of(flat, worker, variants, seed).rename(columns={"pair": "task"})
    weighted = mmsr_vote(votes, derive_seed(seed, "mmsr") % 2**32)[0].set_index("task")["winner"]
    lead = (settle(votes).groupby("task")["label"].mean() - 0.5).reindex(weighted.index).fillna(0)
    plain = pd.Series(np.select([lead > 0, lead < 0], ["left", "right"], "tie"), weighted.index)
    scores = {}
    for method, winners in (("mmsr_vote", weighted), ("majority", plain)):
        table = order(variants, [(*str(task).split("|"), winner) for task, winner in winners.items()])
        scores[method] = (-table["place"]).tolist()
    counts = np.bincount(encode(flat), minlength=len(orders(k))).astype(float)
    scores["plackett_luce"] = plackett_luce(counts, k).tolist()
    return scores


if __name__ == "__main__":
    run_step(survey_power)
