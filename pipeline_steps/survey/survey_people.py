"""How many people to ask: a page with a recommendation, made before anybody has answered."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline_steps.artifacts import write_text
from pipeline_steps.cli import LOG, run_step
from pipeline_steps.config import SurveyConfig
from pipeline_steps.drawing import page as pages_of_html
from pipeline_steps.seeds import derive_seed

PEOPLE = (5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 120, 150, 200, 300)
"""Sizes of a group that are tried."""
PAGES = (5, 10, 20, 40)
"""Pages that each of them decides on, beside the configured number."""
SHARES = (0.55, 0.6, 0.65, 0.7, 0.8)
"""Differences, beside the configured one."""
ALPHA = 0.05
TRIALS = 1000


def survey_people(
    page: Path,
    seed: int,
    config: SurveyConfig,
    template: Path = pages_of_html.TEMPLATES / "survey_people.html",
    style: Path = pages_of_html.STYLE,
) -> None:
    """Write how many people, with how many pages each, see a difference of a given size how surely.

    What counts as seen is as strict as the report's test of pairs: p below 0.05, shared among all pairs.

    Args:
        page: HTML file to write.
        seed: of the simulation.
        config: variants, pages of each person, the difference, the chance, the share of careless people.
        template: Jinja template of the page.
        style: its CSS.
    """
    crowd, own = config.simulation, config.pages_per_participant
    careless = max(crowd.power_careless, default=0.0)
    shares = sorted({*SHARES, crowd.difference})
    columns = sorted({*PAGES, own})
    chances = {n: list(_chances(seed, config, n, crowd.difference, careless)) for n in columns}
    needed = {n: _needed(found, crowd.chance) for n, found in chances.items()}
    attentive = {
        n: _needed(list(_chances(seed, config, n, crowd.difference, 0.0)), crowd.chance) for n in columns
    }
    others = {
        share: _needed(list(_chances(seed, config, own, share, careless)), crowd.chance) for share in shares
    }
    text = pages_of_html.render(
        template,
        style,
        people=needed[own],
        most=PEOPLE[-1],
        pages=own,
        variants=len(config.variants),
        difference=crowd.difference,
        chance=crowd.chance,
        careless=careless,
        needed=[(n, _text(attentive[n]), _text(needed[n])) for n in columns],
        others=[(f"{share:.0%} to {1 - share:.0%}", _text(count)) for share, count in others.items()],
        head=["People", *(f"{n} pages, %" for n in columns)],
        chances=[
            [people, *(pages_of_html.Figure(f"{100 * chances[n][row]:.0f}") for n in columns)]
            for row, people in enumerate(PEOPLE)
        ],
    )
    write_text(page, text)
    LOG.info("%s people with %d pages each; see %s", _text(needed[own]), own, page)


def _chances(seed: int, config: SurveyConfig, pages: int, share: float, careless: float) -> Iterator[float]:
    """How often each size of group sees a difference."""
    import numpy as np

    from pipeline_steps.method.crowd import chance_to_see

    variants = len(config.variants)
    alpha = ALPHA / (variants * (variants - 1) / 2)
    for people in PEOPLE:
        rng = np.random.default_rng(derive_seed(seed, "people", people, pages, str(share), str(careless)))
        yield chance_to_see(people, pages, share, careless, alpha, TRIALS, rng)


def _needed(chances: Sequence[float], wanted: float) -> int | None:
    """Return the smallest group that sees it surely enough, as every larger one does; or nothing."""
    found = None
    for people, chance in zip(reversed(PEOPLE), reversed(chances), strict=True):
        if chance < wanted:
            break
        found = people
    return found


def _text(people: int | None) -> str:
    return f"more than {PEOPLE[-1]}" if people is None else str(people)


if __name__ == "__main__":
    run_step(survey_people)
