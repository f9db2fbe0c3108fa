"""Where the package's files are looked up."""

import shutil
from pathlib import Path

import pipeline_steps
from pipeline_steps.home import other_copy


def test_a_clone_that_says_something_else_than_what_is_installed_is_seen(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert other_copy() is None
    own = Path(pipeline_steps.__file__).parent
    shutil.copytree(own, "pipeline_steps", ignore=shutil.ignore_patterns("__pycache__"))
    assert other_copy() is None
    with Path("pipeline_steps/seeds.py").open("a") as file:
        file.write("# pulled\n")
    assert other_copy() == tmp_path / "pipeline_steps"
