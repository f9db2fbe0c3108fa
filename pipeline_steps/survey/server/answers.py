"""Answers as they are given: checked, and acknowledged once they are on disk."""

from fastapi import APIRouter, Depends, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from pipeline_steps.survey.server.site import SESSIONS, Person, ThisSite
from pipeline_steps.survey.shown import ITEMS
from pipeline_steps.web.database import ask

ROUTES = APIRouter()


class PageAnswers(BaseModel):
    """Rankings of one page: item to picture to rank, or null for a blank."""

    model_config = ConfigDict(extra="forbid", strict=True)
    page: str = Field(max_length=128)
    answers: dict[str, dict[str, int] | None] = Field(min_length=1, max_length=len(ITEMS))


@ROUTES.put("/api/answers", dependencies=[Depends(SESSIONS.guard)])
async def answers(given: PageAnswers, found: Person, site: ThisSite) -> dict[str, int]:
    """Store a page's answers; sent again, they replace themselves."""
    culture = site.survey.cultures[found.culture]
    if given.page not in culture.form(found.form):
        raise HTTPException(422, "this page is not one of yours")
    pictures = culture.pages[given.page]["pictures"]
    for item, ranks in given.answers.items():
        if item not in ITEMS:
            raise HTTPException(422, "unknown item")
        if ranks is not None and (
            ranks.keys() != set(pictures) or sorted(ranks.values()) != list(range(1, len(pictures) + 1))
        ):
            raise HTTPException(422, f"{item}: each picture needs a rank of its own")
    await ask(site.store.save(found.participant, given.page, given.answers))
    return {"stored": len(given.answers)}
