"""Simulated participants: they try the survey out, and are never mixed with real ones."""

from pathlib import Path

from pipeline_steps.artifacts import FORMS, PAGES, SIMULATED, Origin, Row
from pipeline_steps.cli import run_step
from pipeline_steps.config import SurveyConfig
from pipeline_steps.errors import UserError
from pipeline_steps.seeds import derive_seed
from pipeline_steps.survey.shown import ITEMS, read_forms


def survey_simulate(
    pages: list[Path], forms: list[Path], answers: Path, seed: int, config: SurveyConfig
) -> None:
    """Write the answers of simulated participants of every culture, marked as simulated.

    Each ranks by Plackett–Luce with the true strengths in ``config.simulation``, times a skill: 1
    attentive, 0 careless, −1 adversarial. Checks are answered by the attentive.

    Args:
        pages: pages of each culture.
        forms: who sees which, in the same order.
        answers: table to write, in the generic long form.
        seed: the run's seed.
        config: the simulated crowd.

    Raises:
        UserError: a surveyed variant has no true strength.
    """
    import numpy as np

    from pipeline_steps.method.crowd import crowd_skills, simulate_ranks

    crowd = config.simulation
    skills = crowd_skills(crowd.participants, crowd.careless, crowd.adversarial)
    rows = []
    for page_table, form_table in zip(pages, forms, strict=True):
        culture = str(PAGES.note(page_table)["culture"])
        dealt = read_forms(form_table)
        shown: dict[str, list[Row]] = {}
        for row in PAGES.rows(page_table, ["picture", "variant", "check"]):
            if row["variant"] not in crowd.strengths:
                raise UserError(f"survey.simulation.strengths: name a strength for '{row['variant']}'")
            shown.setdefault(row["page"], []).append(row)
        for number, skill in enumerate(skills):
            participant = f"simulated{number:04d}"
            for page in dealt[number % len(dealt)]:
                rng = np.random.default_rng(derive_seed(seed, "simulate", culture, participant, page))
                strengths = [crowd.strengths[row["variant"]] for row in shown[page]]
                ranks = simulate_ranks(strengths, np.array([skill]), len(ITEMS), rng)[0]
                if shown[page][0]["check"] and skill > 0:
                    ranks[:] = np.arange(1, len(strengths) + 1)
                rows += [
                    {
                        "culture": culture,
                        "participant": participant,
                        "page": page,
                        "item": item,
                        "picture": row["picture"],
                        "rank": int(rank),
                    }
                    for item, ranking in zip(ITEMS, ranks, strict=True)
                    for row, rank in zip(shown[page], ranking, strict=True)
                ]
    cultures = ",".join(str(FORMS.note(path)["culture"]) for path in forms)
    rows.sort(key=lambda row: tuple(row[name] for name in SIMULATED.key))
    truth = dict(sorted(crowd.strengths.items()))
    SIMULATED.write(
        answers, rows, Origin(cultures, "simulated"), {"simulated": True, "strengths": str(truth)}
    )


if __name__ == "__main__":
    run_step(survey_simulate)
