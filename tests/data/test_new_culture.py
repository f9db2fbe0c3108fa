"""A new culture is one entry and one folder."""

from pathlib import Path

import pytest
import yaml

from pipeline_steps.config import Culture, PipelineConfig
from pipeline_steps.data.entries import entries
from pipeline_steps.data.names import withdrawn_names
from pipeline_steps.errors import UserError
from pipeline_steps.new_culture import new_culture

CONFIG = """\
# top
seed: 1  # kept

cultures:
  # first
  korea:
    suffix: ", in korea"  # so
    images: resources/mini/ccub/korea

# data of all
data:
  resolution: 64
"""


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return path


def test_entry_is_added_and_everything_else_stays(config, tmp_path):
    new_culture("wales", ', in "Wales": 한', tmp_path / "data", config)
    text = config.read_text()
    assert [line for line in text.splitlines() if line in CONFIG.splitlines()] == CONFIG.splitlines()
    loaded = PipelineConfig.model_validate(yaml.safe_load(text))
    assert list(loaded.cultures) == ["korea", "wales"]
    added = Culture(
        suffix=', in "Wales": 한', images=tmp_path / "data", withdrawn=tmp_path / "data/withdrawn.txt"
    )
    assert loaded.cultures["wales"] == added
    new_culture("second", ", x", tmp_path / "data2", config)
    assert list(yaml.safe_load(config.read_text())["cultures"]) == ["korea", "wales", "second"]


@pytest.mark.parametrize("name", ["no", "on", "y", "null", "a-b_9"])
def test_names_that_yaml_would_take_for_something_else(config, tmp_path, name):
    new_culture(name, ", there", tmp_path / "data", config)
    assert name in yaml.safe_load(config.read_text())["cultures"]


@pytest.mark.parametrize(
    "text", ["", "seed: 1\n", "cultures:\n", "cultures:\n\ndata:\n  resolution: 64", "seed: 1"]
)
def test_configurations_without_a_culture(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    new_culture("wales", ", in Wales", tmp_path / "data", path)
    assert list(yaml.safe_load(path.read_text())["cultures"]) == ["wales"]


@pytest.mark.parametrize(
    "name, suffix, text, line",
    [
        ("korea", ", x", CONFIG, r"cultures\.korea is there already; choose another name"),
        (
            "korea",
            ", x",
            "presets: [drawn]\n",
            r"drawn.yaml: cultures\.korea is there already; .* take 'drawn'",
        ),
        ("Wales", ", x", CONFIG, r"cultures\.Wales: a name has lower-case letters"),
        ("../up", ", x", CONFIG, "a name has lower-case letters"),
        ("survey", ", x", CONFIG, "no culture can be called 'survey'"),
        ("wales", " ", CONFIG, r"cultures\.wales\.suffix: must be one line of visible text"),
        ("wales", "in Wales", CONFIG, r"cultures\.wales\.suffix: would be joined to .*; write ', in Wales'"),
        (
            "wales",
            ", x",
            "cultures: {korea: {suffix: x, images: y}}\n",
            "is not written one entry a line; add 'wales'",
        ),
        ("wales", ", x", "cultures: [", "cannot be read as YAML"),
    ],
)
def test_what_cannot_be_added_is_refused_and_nothing_is_written(tmp_path, name, suffix, text, line):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=line):
        new_culture(name, suffix, tmp_path / "data", path)
    assert path.read_text() == text
    assert not (tmp_path / "data").exists()


def test_skeleton_says_what_to_do_and_keeps_what_is_there(config, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "withdrawn.txt").write_text("mine.png\n")
    new_culture("wales", ", in Wales", folder, config)
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md",
        "metadata.csv",
        "pictures",
        "withdrawn.txt",
    ]
    assert withdrawn_names(folder / "withdrawn.txt") == {"mine.png": "mine.png"}
    with pytest.raises(UserError, match=r"metadata\.csv: holds no row; write one line per picture"):
        list(entries(folder, "text", []))
    assert "commas in quotes" in (folder / "README.md").read_text()
    with (folder / "metadata.csv").open("a") as file:
        file.write("pictures/a.png,a gate\n")
    (folder / "pictures/a.png").write_bytes(b"x")
    found = list(entries(folder, "text", []))
    assert [(entry.name, entry.caption, entry.split) for entry in found] == [
        ("pictures/a.png", "a gate", None)
    ]


def test_fresh_withdrawn_list_withdraws_nobody(config, tmp_path):
    new_culture("wales", ", in Wales", tmp_path / "data", config)
    assert withdrawn_names(tmp_path / "data/withdrawn.txt") == {}
