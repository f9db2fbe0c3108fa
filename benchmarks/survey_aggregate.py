"""Time of summing up a large survey: 500 participants, 50 pages, 4 items, from the table of answers.

OMP_NUM_THREADS=1 python -m benchmarks.survey_aggregate [--people 100] [--pages 50] [--cultures 5]

People and pages are those of one culture.
"""

import json
import tempfile
import time
from pathlib import Path

import cyclopts
import numpy as np

from pipeline_steps.artifacts import ANSWERS, CONSENSUS, Origin
from pipeline_steps.method.crowd import crowd_skills, simulate_ranks
from pipeline_steps.survey.shown import ITEMS
from pipeline_steps.survey.survey_aggregate import survey_aggregate

VARIANTS = ["sd", "scoft_m", "scoft_mp", "scoft_mpc"]


def run(people: int = 100, pages: int = 50, cultures: int = 5) -> dict[str, object]:
    """Simulate a crowd, sum its answers up, and return the time taken."""
    rng, rows = np.random.default_rng(0), []
    for culture in range(cultures):
        skills = crowd_skills(people, 0.2, 0.05)
        ranks = simulate_ranks([0, 0.7, 1, 1.8], skills, pages * len(ITEMS), rng)
        order = [rng.permutation(4) for _ in range(pages)]
        for person in range(people):
            for number in range(pages * len(ITEMS)):
                page, item = divmod(number, len(ITEMS))
                rows.append(
                    {
                        "culture": f"culture{culture}",
                        "participant": f"p{person:04d}",
                        "page": f"{culture}-{page:03d}",
                        "item": sorted(ITEMS)[item],
                        "prompt": f"prompt {page // 2}",
                        "variants": [VARIANTS[n] for n in order[page]],
                        "ranks": ranks[person, number][order[page]].tolist(),
                        "file": "simulated",
                    }
                )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        answers = folder / "answers.parquet"
        ANSWERS.write(answers, rows, Origin("all", "simulated"), {"simulated": True, "rejected": 0})
        tables = [folder / table for table in ("votes", "consensus", "skills", "statistics")]
        start = time.perf_counter()
        survey_aggregate(answers, *tables, seed=1)
        seconds = time.perf_counter() - start
        overall = {
            row["variant"]: row["place"]
            for row in CONSENSUS.rows(tables[1])
            if row["culture"] == row["item"] == "all"
        }
    return {"rankings": len(rows), "seconds": round(seconds, 1), "places": overall}


if __name__ == "__main__":
    app = cyclopts.App()
    app.default(run)
    print(json.dumps(app(result_action="return_value"), indent=1))
