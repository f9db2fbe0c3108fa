"""The default pipeline, disturbed: three points of the kill harness, another order, secrets, a purge.

The whole harness is run by hand: ``python -m tests.kill_harness --points 50``.
"""

import random

import pytest

from tests.kill_harness import NEEDS_MOUNT, Harness, digests

MARK = "hf_thisTokenMustNotShowAnywhere"


@pytest.fixture(scope="module")
def harness(tmp_path_factory):
    """One culture, run once undisturbed, with secrets in the environment."""
    patch = pytest.MonkeyPatch()
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "SURVEY_ADMIN_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        patch.setenv(name, MARK)
    harness = Harness(tmp_path_factory.mktemp("harness"))
    harness.undisturbed()
    yield harness
    harness.close()
    patch.undo()


def test_no_secret_shows_in_outputs_logs_or_metadata(harness):
    files = [
        path
        for folder in (harness.results, harness.folder / ".snakemake", harness.folder / "run.log")
        for path in (folder.rglob("*") if folder.is_dir() else [folder])
        if path.is_file()
    ]
    assert len(files) > 40
    assert [path for path in files if MARK.encode() in path.read_bytes()] == []


def test_another_culture_beside_it_changes_no_byte(harness):
    """Two cultures at once, two jobs at a time: other orders, and nobody touches another's files."""
    harness.fresh("", random.Random())
    run = harness.start(False, "--config", "cultures={india: {suffix: ', in india', images: pictures/india}}")
    assert run.end() == 0, run.log.read_text()[-2000:]
    both = digests(harness.results)
    assert {name: sha for name, sha in both.items() if name.startswith("korea/")} == harness.expected
    assert len(both) == 2 * len(harness.expected)


def test_one_core_other_shards_and_another_order_change_no_byte(harness):
    """The same settings otherwise: one job at a time, split steps, and depth pulled to the front."""
    harness.fresh("", random.Random())
    run = harness.start(False, "--cores", "1", "--prioritize", "depth", "--config", "shards=2")
    assert run.end() == 0, run.log.read_text()[-2000:]
    found = digests(harness.results)
    assert {name: found.get(name) for name in harness.expected} == harness.expected
    assert any("/shards/" in name for name in found)


@pytest.mark.parametrize("kind", ["group", "step", "readonly"])
def test_nothing_is_lost(harness, kind):
    if kind in NEEDS_MOUNT and not harness.may_mount:
        pytest.skip("mounting is not permitted here")
    about = harness.point(kind, random.Random(5))
    assert about["survived"], about


def test_after_a_purge_nothing_is_made_again(harness):
    assert (harness.results / "korea/lora.safetensors").exists()
    purge = harness.start(False, "purge_negatives")
    assert purge.end() == 0, purge.log.read_text()[-2000:]
    gone = {name for name in harness.expected if name not in digests(harness.results)}
    assert gone == {"korea/negatives.parquet", "korea/negatives_kept.parquet"}
    (harness.folder / "run.log").unlink()
    again = harness.start(False, "-n")
    assert again.end() == 0
    assert "Nothing to be done" in again.log.read_text()
