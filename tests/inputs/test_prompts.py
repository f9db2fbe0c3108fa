"""Prompts: one a line, tables with columns named by the user, and the published sets in small."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline_steps.config import PromptSet
from pipeline_steps.errors import UserError
from pipeline_steps.inputs.prompts import Prompt, prompts_of


def write_csv(path, head, *rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return path


def read(path, culture="korea", name=None, **settings):
    found = PromptSet(path=path, **settings)
    spellings = found.spellings(culture, name) if found.names_countries else ()
    return prompts_of(path, found.named, spellings, found.most)


def test_cube_as_it_is_published(tmp_path):
    about = {"P31": "nan", "P279": "nan", "id": "LLM"}
    rows = [
        about | {"name": "jeon", "country": "South Korea", "domain": "cuisine", "prompt": "An image of jeon"},
        about | {"name": "kurta", "country": "India", "domain": "art", "prompt": "A person in kurta"},
        about | {"name": "jeon", "country": "South Korea", "domain": "cuisine", "prompt": "An image of jeon"},
    ]
    path = tmp_path / "CUBE_1K.json"
    path.write_text(json.dumps(rows))
    korea = read(path, format="cube", countries={"korea": "South Korea"})
    assert korea == [Prompt("An image of jeon", "cuisine")]
    assert read(path, "india", format="cube") == [Prompt("A person in kurta", "art")]
    with pytest.raises(UserError, match=r"no prompts of 'korea' \(there are: India, South Korea\)"):
        read(path, format="cube")


def test_culturalframes_as_it_is_published(tmp_path):
    """One entry a picture: a prompt stands there once for each model."""
    rows = [
        {"id": f"{n}_{model}", "prompt": f"A greeting {n}", "country": country, "category": "greetings",
         "model_name": model, "human_annotations": [{"overall_score": 3}]}
        for n, country in enumerate(("Japan", "Iran", "Japan"))
        for model in ("flux", "SD35")
    ]  # fmt: skip
    path = tmp_path / "culturalframes_human_annotations.json"
    path.write_text(json.dumps(rows))
    found = read(path, "japan", format="culturalframes")
    assert found == [Prompt(f"A greeting {n}", "greetings") for n in (0, 2)]


def test_ecb_as_it_is_published(tmp_path):
    head = ["model", "country", "category", "sub_category", "variant", "T2I prompt", "I2I prompt", "base"]
    path = write_csv(
        tmp_path / "prompt-img-path_s3.csv", head,
        ["flux", "united_states", "food", "main_dish", "modern", "Modern dish in the US, photo.", "Change", "https://x"],
        ["flux", "kenya", "food", "main_dish", "modern", "Modern dish in Kenya, photo.", "Change", "https://x"],
    )  # fmt: skip
    found = read(path, "usa", "United States", format="ecb")
    assert found == [Prompt("Modern dish in the US, photo.", "food", "modern")]


def test_columns_of_the_user_s_own_in_csv_and_parquet(tmp_path):
    columns = {"prompt": "Text", "country": "Land", "category": "Art"}
    rows = [("ein Haus", "Wales", "Bau"), ("ein Topf", "Korea", None), ("noch ein Haus", "wales", "")]
    path = write_csv(tmp_path / "own.csv", ["Text", "Land", "Art"], *rows)
    expected = [Prompt("ein Haus", "Bau"), Prompt("noch ein Haus")]
    assert read(path, "wales", columns=columns) == expected
    table = {name: [row[n] for row in rows] for n, name in enumerate(("Text", "Land", "Art"))}
    pq.write_table(pa.table(table), tmp_path / "own.parquet")
    assert read(tmp_path / "own.parquet", "wales", columns=columns) == expected
    assert read(path, "wales", columns={"prompt": "Text"}) == [Prompt(row[0]) for row in rows]


def test_lines_are_every_culture_s_and_take_its_suffix(tmp_path):
    path = tmp_path / "own.txt"
    path.write_text("# mine\na house\n\na jar\n")
    assert read(path) == [Prompt("a house"), Prompt("a jar")]
    assert not PromptSet(path=path).names_countries
    assert PromptSet(path="x.csv").names_countries
    assert not PromptSet(path="x.csv", columns={"prompt": "prompt"}).names_countries


@pytest.mark.parametrize(("most", "kept"), [(None, 10), (20, 10), (5, [0, 2, 4, 6, 8]), (3, [0, 3, 6])])
def test_at_most_so_many_at_even_distances(tmp_path, most, kept):
    path = tmp_path / "own.txt"
    path.write_text("".join(f"prompt {n}\n" for n in range(10)))
    kept = range(10) if kept == 10 else kept
    assert [p.text for p in read(path, **({"most": most} if most else {}))] == [f"prompt {n}" for n in kept]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        (
            "a.csv",
            "text,country\na,korea\n",
            r"no column 'prompt' \(there are: text, country\); name the column",
        ),
        (
            "a.csv",
            "prompt,land\na,korea\n",
            r"no column 'country' .* or none where the prompts name no culture",
        ),
        ("a.csv", "prompt,country\n\u200b,korea\n", r"row 2: the prompt is missing; mend it"),
        ("a.json", '{"prompt": "a"}', r"is no list of objects"),
        ("a.json", "[1]", r"no column 'prompt'"),
        ("a.json", '[{"prompt": "a", "country": "x"}, 1]', r"row 2: is no object"),
        ("a.json", "[", r"is not JSON"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, name, text, line):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=line) as error:
        read(tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "path", ["hub:owner", "hub:owner/name", "hub:../x/y.json", "hub:owner/name@../y.json"]
)
def test_a_file_on_the_hub_is_named_with_its_data_set(path):
    with pytest.raises(ValueError, match="hub:owner/name/file"):
        PromptSet(path=path)


def test_files_on_the_hub():
    assert PromptSet(path="hub:mair-lab/CulturalFrames/culturalframes_human_annotations.json")
    assert PromptSet(path="hub:owner/name@0123abc/data/set.parquet").names_countries
