"""Cheaper looks go the way of dear ones: the gradients of 24 pictures, with a LoRA, on the embedded model."""

import pytest

from benchmarks.looks import compare, measure
from benchmarks.train_step import prepare
from pipeline_steps.config import PerceptualConfig

PICTURES = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("looks")
    prepare(folder, None, PICTURES, PerceptualConfig())
    return folder


@pytest.fixture(scope="module")
def whole(folder):
    """Twenty even steps, every picture."""
    return measure(folder, (20, False, 0.0), PICTURES, PICTURES)


@pytest.mark.parametrize(
    ("case", "cosine", "saved"),
    [((10, True, 0.0), 0.985, 0.6), ((20, True, 0.0), 0.985, 0.35), ((20, False, 0.5), 0.985, 0.35)],
)
def test_fewer_steps_and_fewer_pictures_keep_the_gradients_direction(folder, whole, case, cosine, saved):
    """By time, and only t from the middle on; rows are pictures in network calls without gradient."""
    found, cost = measure(folder, case, PICTURES, PICTURES)
    assert compare(found, whole[0])["cosine"] > cosine
    assert cost["rows"] < (1 - saved) * whole[1]["rows"]


def test_too_few_steps_do_not(folder, whole):
    found, _ = measure(folder, (3, False, 0.0), PICTURES, PICTURES)
    assert compare(found, whole[0])["cosine"] < 0.97
