"""MMSR+Vote: what a crowd agrees on, its members weighted by skill (paper §5; Ma & Olshevsky 2020).

Every ranking becomes pairs; a *task* is a pair of variants, a *vote* says whether the left one was
ranked better (1) or worse (0). Participants' votes settle to one per task, MMSR estimates how far
each participant can be trusted, a weighted vote decides each task, and wins minus losses give the
order.
"""

from collections import Counter
from collections.abc import Iterable
from itertools import combinations

import numpy as np
import pandas as pd
import scipy.linalg
from crowdkit.aggregation import MMSR
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import rankdata, uniform

ITERATIONS, TOLERANCE = 10_000, 1e-10
SAME = 1e-9
"""Eigenvalues closer than this are one."""


class WideMMSR(MMSR):
    """crowd-kit's MMSR for crowds of hundreds: its sizes of the skills to rounding, and their signs mended.

    crowd-kit visits worker pairs one by one and finds the workers' signs from a dense matrix with a
    row for every agreeing pair, so its memory grows as the fourth power of the crowd (125 GB at 500).
    Here the same covariances are matrix products, the same trimmed means are taken for all workers
    at once, and the agreeing pairs are eliminated from the eigenproblem. For the signs crowd-kit counts
    a worker as disagreeing with themselves and with everyone they share no task with, and leaves out
    whose covariances add up to nothing with that; here pairs who share tasks decide alone.
    """

    def _construnct_covariation_matrix(self, answers: pd.DataFrame) -> None:
        worker, workers = pd.factorize(answers["worker"])
        task, tasks = pd.factorize(answers["task"])
        label, labels = pd.factorize(answers["label"])
        self._workers_mapping = {name: number for number, name in enumerate(workers)}
        self._n_workers, self._n_tasks, self._n_labels = len(workers), len(tasks), len(labels)
        given = np.zeros((len(labels), len(workers), len(tasks)))
        given[label, worker, task] = 1
        seen = given.sum(0)
        common = seen @ seen.T
        np.fill_diagonal(common, 0)
        agreed = np.einsum("lwt,lvt->wv", given, given, optimize=True)
        rate = np.where(common > 0, agreed / np.maximum(common, 1), 0)
        self._n_common_tasks = common
        self._sparsity = np.sign(common).sum(0).min()
        self._covariation_matrix = (rate * len(labels) - 1) / (len(labels) - 1)

    def _m_msr(self) -> None:
        agreement, seen = np.abs(self._covariation_matrix), self._n_common_tasks > 0
        trim = int(np.floor(self._sparsity / 2)) - 1
        size = self._n_workers
        u = np.asarray(uniform.rvs(size=size, random_state=self.random_state))
        v = np.asarray(uniform.rvs(size=size, random_state=self.random_state))
        self.loss_history_ = []
        for _ in range(self.n_iter):
            before = (u, v)
            v = _trimmed_means(agreement, seen, u, v, trim, self._n_tasks)
            u = _trimmed_means(agreement, seen, v, u, trim, self._n_tasks)
            self.loss_history_.append(float(np.linalg.norm(np.outer(u, v) - np.outer(*before), ord="fro")))
            if self.loss_history_[-1] < self.tol or np.isnan(u).all():
                break
        size_of_s = u / np.sqrt(np.linalg.norm(u) / np.linalg.norm(v))
        met = np.where(seen, self._covariation_matrix, 0)
        s = self._sign_determination_valid(met, size_of_s[:, None]).ravel()
        labels, margin = self._n_labels, 1 / np.sqrt(self._n_tasks)
        s = np.maximum(np.minimum(s, 1 - margin), margin - 1 / (labels - 1))
        right = s * (labels - 1) / labels + 1 / labels
        self.skills_ = self._get_skills_from_array(np.log(right * (labels - 1) / (1 - right)))

    @staticmethod
    def _sign_determination_valid(C: np.ndarray, s_abs: np.ndarray) -> np.ndarray:
        """Sign the sizes so that workers who agree share a sign and those who differ do not.

        The signs are those of the eigenvector of the smallest eigenvalue λ of the random walk on a
        graph with an edge for each disagreeing pair and, for each agreeing pair, a path over a
        node between. A node between has λw = (v_i + v_j)/2, so that with D the degrees, N the
        disagreements, P the agreements and p their row sums: λ²Dv = λNv + ½(diag(p) + P)v. The last
        matrix is RRᵀ, and [[N, R], [Rᵀ, 0]] against diag(D, 1) has the same λ and v. Where λ is no
        single eigenvalue (three who all disagree, groups without a link), or as many have one sign as
        the other, nothing says who is right: all are 0.
        """
        sign = np.sign(C)
        linked = np.flatnonzero(sign.any(axis=1))
        sign = sign[np.ix_(linked, linked)]
        signed = np.zeros_like(s_abs)
        if not len(linked):
            return signed
        differ, agree = (sign == -1).astype(float), (sign == 1).astype(float)
        degree = differ.sum(1) + agree.sum(1)
        values, vectors = scipy.linalg.eigh((np.diag(agree.sum(1)) + agree) / 2, driver="evd")
        # Columns of nothing would add eigenvalues 0 that are none of the walk's.
        between = values > SAME
        root = vectors[:, between] * np.sqrt(values[between])
        scale = 1 / np.sqrt(degree)
        walk = np.block(
            [
                [scale[:, None] * differ * scale, scale[:, None] * root],
                [(scale[:, None] * root).T, np.zeros((between.sum(), between.sum()))],
            ]
        )
        smallest, found = scipy.linalg.eigh(walk, subset_by_index=[0, 1])
        if smallest[1] - smallest[0] < SAME:
            return signed
        signs = np.sign(np.where(np.abs(found[: len(linked), 0]) < SAME, 0, found[: len(linked), 0]))
        signed[linked] = np.sign(signs.sum()) * s_abs[linked] * signs[:, None]
        return signed


def _trimmed_means(
    agreement: np.ndarray, seen: np.ndarray, other: np.ndarray, own: np.ndarray, trim: int, tasks: int
) -> np.ndarray:
    """One half-step of M-MSR: each worker's mean of agreement/other, its extremes left out.

    The ``trim`` smallest go if as many lie below the worker's own value, else all that do; likewise
    the largest. A trim of −1 (someone shares tasks with one other only) keeps the largest alone.
    The path depends on ties, so values are compared and summed exactly as crowd-kit does.
    """
    rows = np.sort(np.where(seen, agreement / other, np.nan), axis=1)
    count, defined = seen.sum(1), (~np.isnan(rows)).sum(1)
    below, above = (rows < own[:, None]).sum(1), (rows > own[:, None]).sum(1)
    low = np.where(below < trim, below, trim % count)
    high = np.where(below < trim, defined, count) - max(trim, 0)
    high = np.where(above < trim, defined - above, high)
    new = own.copy()
    for worker, (first, end) in enumerate(zip(low, high, strict=True)):
        if end > first:
            kept = rows[worker, first:end]
            new[worker] = 1 / np.sqrt(tasks) if len(kept) == 1 and kept[0] == 0 else kept.sum() / len(kept)
    return new


def settle(votes: pd.DataFrame) -> pd.DataFrame:
    """Settle each worker's repeated votes on a task by majority; halves cancel out.

    Args:
        votes: columns task, worker, label (1: left better, 0: worse, missing: none), any number of
            rows each.

    Returns:
        The same columns, one row per (task, worker) in that order; independent of row order.
    """
    mean = votes.dropna().groupby(["task", "worker"], sort=True, observed=True)["label"].mean()
    return (mean[mean != 0.5] > 0.5).astype(int).reset_index().astype({"task": str, "worker": str})


def components(votes: pd.DataFrame) -> list[pd.DataFrame]:
    """Split votes into groups of workers who are linked by common tasks, in order of task name."""
    worker, workers = pd.factorize(votes["worker"], sort=True)
    task, tasks = pd.factorize(votes["task"], sort=True)
    size = len(workers) + len(tasks)
    links = coo_array((np.ones(len(votes)), (worker, len(workers) + task)), shape=(size, size))
    _, group = connected_components(links, directed=False)
    return [part for _, part in votes.groupby(group[len(workers) + task], sort=True)]


def skills(votes: pd.DataFrame, random_state: int) -> tuple["pd.Series[float]", str]:
    """Estimate the skills (log odds of voting right) of one component's workers.

    Args:
        votes: settled votes of linked workers.
        random_state: of MMSR's starting point.

    Returns:
        Skills by worker and "", or ones and the reason why MMSR says nothing here.
    """
    workers = np.sort(votes["worker"].unique())
    alike = pd.Series(1.0, index=pd.Index(workers, name="worker"))
    if len(workers) < 3:
        return alike, "fewer than three participants"
    if votes["task"].nunique() < 2:
        return alike, "a single task"
    if votes["label"].nunique() < 2:
        return alike, "all votes alike"
    model = WideMMSR(n_iter=ITERATIONS, tol=TOLERANCE, random_state=random_state)
    with np.errstate(all="ignore"):  # to overflow is one way not to settle
        found = model.fit(votes.sort_values(["task", "worker"])).skills_
    if not model.loss_history_[-1] < TOLERANCE:
        return alike, f"MMSR did not settle in {ITERATIONS} iterations"
    if found is None or not np.isfinite(found).all():
        return alike, "MMSR found no finite skills"
    if not found.any():
        return alike, "MMSR needs more: the votes do not tell who agrees with whom"
    # Rounded, so that the last bits of a linear algebra library decide nothing.
    return found.reindex(workers).round(8), ""


def vote(votes: pd.DataFrame, weights: "pd.Series[float]", reason: str = "") -> pd.DataFrame:
    """Decide every task by weighted vote, and by plain majority where the weights say nothing.

    The weight for a label is the plain sum of its voters' skills (crowd-kit divides by the total
    and so turns a vote round where that is negative). A task whose voters' skills sum to nothing or
    less would be decided against those who voted: there the plain majority stands.

    Args:
        votes: settled votes.
        weights: skill by worker.
        reason: why the weights are no skills, if they are not.

    Returns:
        Per task: votes_left, votes_right, weight_left, weight_right, winner ("left", "right", or
        "tie"), rule ("mmsr" or "majority") and the reason for a majority.
    """
    weight = votes["worker"].map(weights)
    left = votes["label"] == 1
    table = pd.DataFrame(
        {
            "task": votes["task"],
            "votes_left": left.astype(int),
            "votes_right": (~left).astype(int),
            "weight_left": weight.where(left, 0.0),
            "weight_right": weight.where(~left, 0.0),
        }
    )
    found = table.groupby("task", sort=True, observed=True).sum().round(8)
    lead = found["weight_left"] - found["weight_right"]
    reasons = pd.Series(reason, index=found.index)
    if not reason:
        reasons[found["weight_left"] + found["weight_right"] <= 0] = "skills sum to nothing or less"
        reasons[(lead == 0) & (reasons == "")] = "weights tie"
    majority = reasons != ""
    lead = lead.where(~majority, found["votes_left"] - found["votes_right"])
    found["winner"] = np.select([lead > 0, lead < 0], ["left", "right"], "tie")
    found["rule"] = np.where(majority, "majority", "mmsr")
    found["reason"] = reasons
    return found.reset_index()


def mmsr_vote(votes: pd.DataFrame, random_state: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run MMSR+Vote on raw votes, one connected component at a time.

    Args:
        votes: columns task, worker, label (1: left better); repeats and any row order allowed.
        random_state: of MMSR's starting point.

    Returns:
        Outcomes (see :func:`vote`; a task on which everyone cancels out is a tie without votes),
        and skills: columns worker, skill, reason. Both sorted.
    """
    settled = settle(votes)
    outcomes, trusted = [], []
    for part in components(settled) if len(settled) else []:
        skill, reason = skills(part, random_state)
        outcomes.append(vote(part, skill, reason))
        trusted.append(pd.DataFrame({"worker": skill.index, "skill": skill.to_numpy(), "reason": reason}))
    silent = sorted(set(votes["task"].astype(str)) - set(settled["task"].astype(str)))
    outcomes.append(
        pd.DataFrame(
            {
                "task": silent,
                "votes_left": 0,
                "votes_right": 0,
                "weight_left": 0.0,
                "weight_right": 0.0,
                "winner": "tie",
                "rule": "majority",
                "reason": "every participant's votes cancel out",
            }
        )
    )
    if not trusted:
        trusted = [pd.DataFrame({"worker": [], "skill": [], "reason": []}).astype({"skill": float})]
    decided = pd.concat([part for part in outcomes if len(part)])
    return (
        decided.sort_values("task", ignore_index=True),
        pd.concat(trusted).sort_values("worker", ignore_index=True),
    )


def pairs(variants: Iterable[str], turned: Iterable[bool]) -> list[tuple[str, str]]:
    """Return every pair of variants as (left, right), turned round where told.

    Fixed orientations drawn at random keep the labels from being all alike, without which MMSR has
    nothing to go on.
    """
    both = combinations(variants, 2)
    return [(b, a) if turn else (a, b) for (a, b), turn in zip(both, turned, strict=True)]


def order(variants: list[str], outcomes: Iterable[tuple[str, str, str]]) -> pd.DataFrame:
    """Order the variants by wins minus losses.

    Args:
        variants: all of them.
        outcomes: (left, right, winner) of each decided pair.

    Returns:
        Columns variant, wins, losses, ties, place (1 is best; equals share the mean place), in the
        given order.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for left, right, winner in outcomes:
        if winner == "tie":
            counts.update([(left, "ties"), (right, "ties")])
        else:
            better, worse = (left, right) if winner == "left" else (right, left)
            counts.update([(better, "wins"), (worse, "losses")])
    columns = {what: [counts[name, what] for name in variants] for what in ("wins", "losses", "ties")}
    table = pd.DataFrame({"variant": variants, **columns})
    table["place"] = rankdata(table["losses"] - table["wins"], method="average")
    return table
