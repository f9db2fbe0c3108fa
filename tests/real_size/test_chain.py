"""The chain at published size: it ends, and the plan's memory is that which it took.

Run by name, ``pytest -n 0 tests/real_size -k sd15``: it takes an hour, 15 GB of disk and 15 GB of memory;
SDXL takes hours, 30 GB of disk and 16 GB of memory.
"""

import os
from pathlib import Path

import pytest

from pipeline_steps.artifacts import LORA, SCORES
from tests.real_size import chain


@pytest.fixture
def folder(tmp_path):
    """One that is named goes on from what it holds."""
    return Path(os.environ.get("SCOFT_REAL_SIZE", tmp_path)).resolve()


@pytest.mark.parametrize("model", chain.TRAININGS)
def test_every_stage_ends_and_takes_the_memory_that_was_planned(model, folder):
    folder = folder / model
    chain.run(model, folder)
    results = folder / "project/results"
    assert LORA.read(results / "korea/lora.safetensors")
    assert {row["variant"] for row in SCORES.rows(results / "korea/scores.parquet")} == {"sd", "scoft_mpc"}
    assert "data:image" in (results / "report.html").read_text()
    off = {
        (row["training"], row["step"]): row["peak"] / row["planned"]
        for row in chain.rows(folder)
        if row["planned"]
    }
    assert off and all(0.75 <= share <= 1.25 for share in off.values()), off
