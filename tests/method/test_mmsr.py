"""MMSR+Vote against crowd-kit, and every way in which crowd-kit fails."""

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
from crowdkit.aggregation import MMSR
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from pipeline_steps.method.mmsr import (
    ITERATIONS,
    TOLERANCE,
    WideMMSR,
    components,
    mmsr_vote,
    order,
    pairs,
    settle,
    skills,
    vote,
)

ARGUMENTS = {"n_iter": ITERATIONS, "tol": TOLERANCE, "random_state": 0}


def frame(rows):
    return pd.DataFrame(rows, columns=["task", "worker", "label"])


def crowd(workers, tasks, accuracy=0.8, seed=0, share=1.0):
    """Votes of workers who are right with probability ``accuracy`` and see a share of the tasks."""
    rng = np.random.default_rng(seed)
    truth = np.arange(tasks) % 2
    accuracy = np.broadcast_to(accuracy, workers)
    return frame(
        [
            (f"t{t}", f"w{w:02d}", int(truth[t] if rng.random() < accuracy[w] else 1 - truth[t]))
            for w in range(workers)
            for t in range(tasks)
            if rng.random() < share
        ]
    )


def truth_of(outcomes):
    return [int(winner == "left") for winner in outcomes.sort_values("task")["winner"]]


class ToldWhoHasMet(MMSR):
    """crowd-kit's own model, whose signs come from the pairs that share tasks."""

    def _sign_determination_valid(self, C, s_abs):
        return MMSR._sign_determination_valid(np.where(self._n_common_tasks > 0, C, 0), s_abs)


@pytest.mark.parametrize(
    ("workers", "tasks", "accuracy", "share"),
    [
        (5, 6, 0.8, 1),
        (13, 6, 0.7, 1),
        (13, 24, 0.6, 1),
        (30, 24, 0.7, 0.5),
        (51, 6, 0.75, 1),
        (9, 24, 0.8, 0.3),
    ],
)
def test_skills_are_those_of_crowd_kit_told_who_has_met(workers, tasks, accuracy, share):
    for seed in range(3):
        votes = crowd(workers, tasks, accuracy, seed, share)
        if len(components(votes)) > 1:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = ToldWhoHasMet(**ARGUMENTS).fit(votes).skills_
        ours = WideMMSR(**ARGUMENTS).fit(votes).skills_
        pd.testing.assert_series_equal(ours, theirs, rtol=1e-12)


def test_a_crowd_of_hundreds_takes_seconds():
    votes = crowd(200, 24, 0.75, share=0.8)
    found, reason = skills(votes, 0)
    assert reason == "" and len(found) == 200


def test_the_careless_and_the_adversarial_are_found():
    votes = crowd(12, 24, [0.9] * 8 + [0.5] * 2 + [0.1] * 2, seed=3)
    found, reason = skills(votes, 0)
    assert reason == ""
    assert found.iloc[:8].min() > found.iloc[8:10].max()
    assert found.iloc[10:].max() < 0


# --- crowd-kit's failures, each seen on crowd-kit and mended here ---


def test_one_label_everywhere():
    votes = frame([(f"t{t}", f"w{w}", 1) for t in range(6) for w in range(4)])
    with pytest.raises(ZeroDivisionError):
        MMSR(**ARGUMENTS).fit(votes)
    outcomes, trusted = mmsr_vote(votes, 0)
    assert set(outcomes["winner"]) == {"left"}
    assert set(outcomes["rule"]) == {"majority"}
    assert set(outcomes["reason"]) == set(trusted["reason"]) == {"all votes alike"}


def test_one_task():
    votes = frame([("t0", f"w{w}", int(w > 1)) for w in range(6)])
    with pytest.raises(ValueError, match="shape mismatch"):
        MMSR(**ARGUMENTS).fit(votes[votes["worker"].isin(["w0", "w5"])])
    assert (MMSR(**ARGUMENTS).fit(votes).skills_ == 0).all()  # so that every weighted vote ties
    outcomes, _ = mmsr_vote(votes, 0)
    assert outcomes[["winner", "rule", "reason"]].values.tolist() == [["left", "majority", "a single task"]]


def test_missing_label_is_a_key_error_there_and_never_reaches_us():
    votes = crowd(4, 4)
    votes["label"] = votes["label"].astype(float)
    votes.loc[0, "label"] = np.nan
    with pytest.raises(KeyError):
        MMSR(**ARGUMENTS).fit(votes)
    outcomes, _ = mmsr_vote(votes, 0)
    assert outcomes["votes_left"].sum() + outcomes["votes_right"].sum() == 15


def test_repeats_do_not_depend_on_row_order():
    votes = crowd(7, 6, 0.7, seed=3)
    repeated = pd.concat([votes, votes.assign(label=1 - votes["label"]).iloc[::2], votes.iloc[::2]])
    forward, backward = (
        MMSR(**ARGUMENTS).fit(v.reset_index(drop=True)).skills_ for v in (repeated, repeated[::-1])
    )
    assert not np.allclose(forward.sort_index(), backward.sort_index())
    first = mmsr_vote(repeated, 0)
    for seed in range(5):
        again = mmsr_vote(repeated.sample(frac=1, random_state=seed), 0)
        for a, b in zip(first, again, strict=True):
            pd.testing.assert_frame_equal(a, b)
    # Two of three stand for the original label.
    pd.testing.assert_frame_equal(settle(repeated), settle(votes))


def test_a_negative_weight_sum_flips_crowd_kits_vote():
    votes = frame([("a", "x", 1), ("a", "y", 0), ("b", "x", 1), ("b", "z", 1)])
    weights = pd.Series({"x": 1.0, "y": -3.0, "z": 2.0})
    from crowdkit.aggregation import MajorityVote

    theirs = MajorityVote().fit(votes, skills=weights).labels_
    # x says left, and y, whose word is to be read backwards, says right: both point left.
    assert theirs["a"] == 0
    ours = vote(votes, weights).set_index("task")
    assert ours.loc["b", ["winner", "rule"]].tolist() == ["left", "mmsr"]
    assert ours.loc["a", ["winner", "rule", "reason"]].tolist() == [
        "tie",
        "majority",
        "skills sum to nothing or less",
    ]


def test_signs_of_a_crowd_of_whom_not_all_have_met():
    """Covariances that are exactly s sᵀ where two have met: only one vector of signs fits, s itself."""
    rng = np.random.default_rng(0)
    wrong = {"crowd-kit": 0, "ours": 0}
    for _ in range(60):
        signs = rng.permutation([1.0] * 5 + [-1.0] * 3)
        covariance = np.outer(signs, signs) * 0.5
        met = np.zeros((8, 8), bool)
        met[np.triu_indices(8, 1)] = rng.random(28) < 0.6
        met |= met.T
        if connected_components(met)[0] > 1:
            continue
        sizes = np.full((8, 1), 0.5)
        theirs = MMSR._sign_determination_valid(np.where(met, covariance, -1), sizes)
        ours = WideMMSR._sign_determination_valid(np.where(met, covariance, 0), sizes)
        wrong["crowd-kit"] += not np.allclose(theirs.ravel(), signs / 2)
        wrong["ours"] += not np.allclose(ours.ravel(), signs / 2)
    assert wrong["ours"] == 0 < wrong["crowd-kit"], wrong


def test_three_people_and_six_pairs_have_skills_or_a_reason():
    """By enumeration: where one vector of signs fits all three covariances, it is the skills'."""
    told, both = 0, list(itertools.combinations(range(3), 2))
    for seed in range(120):
        votes = settle(crowd(3, 6, 0.8, seed))
        found, reason = skills(votes, 0)
        assert found.any(), "no skill at all, and no reason"
        table = votes.pivot(index="worker", columns="task", values="label").to_numpy()
        agree = [np.sign((table[a] == table[b]).mean() - 0.5) for a, b in both]
        fitting = [
            signs
            for signs in itertools.product((1, -1), repeat=3)
            if sum(signs) > 0
            and all(x in (0, signs[a] * signs[b]) for x, (a, b) in zip(agree, both, strict=True))
        ]
        if agree == [-1, -1, -1] and "settle" not in reason:
            assert reason == "MMSR needs more: the votes do not tell who agrees with whom"
        if len(fitting) == 1 and not reason:
            assert tuple(np.sign(found)) == fitting[0]
            told += 1
    assert told > 30


def test_where_nobody_agrees_nothing_is_told():
    def signs(covariance):
        return WideMMSR._sign_determination_valid(np.array(covariance, float), np.ones((len(covariance), 1)))

    assert not signs([[0, -1, -1], [-1, 0, -1], [-1, -1, 0]]).any()
    assert not signs([[0, -1], [-1, 0]]).any(), "of two who differ neither is right"
    assert not np.any(signs([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])), "two pairs, no link"
    assert signs([[0, 1, -1], [1, 0, -1], [-1, -1, 0]]).ravel().tolist() == [1, 1, -1]


def test_countries_that_share_no_task():
    def country(name, people, seed):
        votes = crowd(people, 24, 0.85, seed)
        return votes.assign(task=name + votes["task"], worker=name + votes["worker"])

    korea, india = country("korea/", 13, 1), country("india/", 10, 101)
    joined = pd.concat([korea, india], ignore_index=True)
    theirs = MMSR(**ARGUMENTS).fit(joined).skills_
    whole = theirs.groupby(theirs.index.str.split("/").str[0]).mean()
    assert whole.min() < 0 < whole.max(), "crowd-kit no longer turns a whole country round"
    outcomes, trusted = mmsr_vote(joined, 0)
    alone = [mmsr_vote(part, 0) for part in (india, korea)]
    pd.testing.assert_frame_equal(outcomes, pd.concat([a for a, _ in alone], ignore_index=True))
    pd.testing.assert_frame_equal(trusted, pd.concat([b for _, b in alone], ignore_index=True))
    assert (trusted.groupby(trusted["worker"].str.split("/").str[0])["skill"].mean() > 0).all()


def test_categorical_columns():
    votes = crowd(5, 6)
    plain = mmsr_vote(votes, 0)
    for a, b in zip(
        plain, mmsr_vote(votes.astype({"task": "category", "worker": "category"}), 0), strict=True
    ):
        pd.testing.assert_frame_equal(a, b, check_dtype=False)


def test_a_run_that_does_not_settle():
    votes = crowd(5, 6, 0.8, seed=0)
    assert MMSR(**ARGUMENTS).fit(votes).loss_history_[-1] > 1
    outcomes, _ = mmsr_vote(votes, 0)
    assert set(outcomes["reason"]) == {"MMSR did not settle in 10000 iterations"}


def test_few_people_and_no_votes():
    outcomes, _ = mmsr_vote(crowd(2, 6), 0)
    assert set(outcomes["reason"]) == {"fewer than three participants"}
    cancelled = frame([("t", "w", 1), ("t", "w", 0)])
    outcomes, trusted = mmsr_vote(cancelled, 0)
    assert outcomes[["winner", "reason"]].values.tolist() == [["tie", "every participant's votes cancel out"]]
    assert len(trusted) == 0


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6), st.integers(0, 1)), min_size=1, max_size=60))
def test_any_votes_end_in_outcomes(rows):
    votes = frame([(f"t{t}", f"w{w}", label) for t, w, label in rows])
    outcomes, trusted = mmsr_vote(votes, 0)
    assert outcomes["task"].tolist() == sorted(set(votes["task"]))
    assert np.isfinite(trusted["skill"]).all()
    shuffled, _ = mmsr_vote(votes.sample(frac=1, random_state=1), 0)
    pd.testing.assert_frame_equal(outcomes, shuffled)
    again, _ = mmsr_vote(votes, 0)
    pd.testing.assert_frame_equal(outcomes, again)


def test_weighted_vote_by_hand():
    votes = frame([("t", "a", 1), ("t", "b", 0), ("t", "c", 0)])
    found = vote(votes, pd.Series({"a": 2.0, "b": 0.5, "c": 0.5}))
    assert found.iloc[0].tolist() == ["t", 1, 2, 2.0, 1.0, "left", "mmsr", ""]
    found = vote(votes, pd.Series({"a": 1.0, "b": 0.5, "c": 0.5}))
    assert found.iloc[0, 5:].tolist() == ["right", "majority", "weights tie"]


def test_order_by_hand():
    left_right = pairs("abc", [True, False, False])
    assert left_right == [("b", "a"), ("a", "c"), ("b", "c")]
    table = order(list("abc"), [("b", "a", "right"), ("a", "c", "left"), ("b", "c", "tie")])
    assert table.values.tolist() == [["a", 2, 0, 0, 1.0], ["b", 0, 1, 1, 2.5], ["c", 0, 1, 1, 2.5]]


def test_a_crowd_that_agrees_recovers_the_truth():
    outcomes, _ = mmsr_vote(crowd(15, 24, 0.85, seed=8), 0)
    assert truth_of(outcomes) == [int(t.removeprefix("t")) % 2 for t in sorted(outcomes["task"])]
