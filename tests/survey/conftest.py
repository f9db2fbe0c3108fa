"""What the tests of answers share."""

import csv
import json

import pytest

from pipeline_steps.artifacts import ANSWERS, PAGES, REJECTED
from pipeline_steps.config import SurveyConfig
from pipeline_steps.survey.survey_import import survey_import
from tests.postgres import postgres
from tests.survey.survey_world import make_pages

__all__ = ["postgres"]


@pytest.fixture
def world(tmp_path):
    """Two cultures' pages, a folder for answers, and what the pages hold."""

    class World:
        folder = tmp_path / "answers"
        result, rejected = tmp_path / "a.parquet", tmp_path / "r.parquet"

        def read(self, **config):
            survey_import(self.folder, self.tables, self.result, self.rejected, SurveyConfig(**config))
            return ANSWERS.read(self.result), [
                tuple(row.values())[:3] for row in REJECTED.read(self.rejected)
            ]

        def json(self, name, content):
            (self.folder / name).write_text(json.dumps(content))

        def csv(self, name, columns, rows):
            with (self.folder / name).open("w", newline="") as file:
                table = csv.writer(file)
                table.writerow(columns)
                table.writerows(rows)

    World.folder.mkdir()
    World.tables = [make_pages(tmp_path, culture)[0] for culture in ("india", "korea")]
    World.pages = {}
    for table in World.tables:
        for row in PAGES.rows(table):
            page = World.pages.setdefault(
                row["page"], {"pictures": [], "variants": [], "prompt": row["prompt"], "seed": row["seed"]}
            )
            page["pictures"].append(row["picture"])
            page["variants"].append(row["variant"])
    World.korea = sorted(page for page in World.pages if page.startswith("korea"))
    World.india = sorted(page for page in World.pages if page.startswith("india"))
    return World()
