"""Cheaper looks go the way of dear ones: the gradient of 48 pictures, with a LoRA, on the embedded model."""

from benchmarks.looks import compare, measure
from benchmarks.train_step import prepare
from pipeline_steps.config import PerceptualConfig


def test_steps_by_time_and_pictures_of_late_times_keep_the_gradients_direction(tmp_path):
    """Against twenty even steps of every picture; rows are pictures in network calls without gradient."""
    prepare(tmp_path, None, 48, PerceptualConfig())
    whole, dear = measure(tmp_path, (20, False, 0.0), 48, 48)
    for case, share in (((10, True, 0.0), 0.3), ((20, False, 0.5), 0.6)):
        found, cheap = measure(tmp_path, case, 48, 48)
        assert compare(found, whole)["cosine"] > 0.985
        assert cheap["rows"] < share * dear["rows"]
    found, _ = measure(tmp_path, (3, False, 0.0), 48, 48)
    assert compare(found, whole)["cosine"] < 0.95  # fewer steps, but too few
