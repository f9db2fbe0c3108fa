"""What the administrator asks of the store: how far people are, what was handed out, and who is to go."""

from concurrent.futures import Future
from dataclasses import dataclass

import sqlalchemy as sa

from pipeline_steps.survey.codes import most_together
from pipeline_steps.survey.server.store import (
    ANSWER,
    CLOSED,
    ENROLMENT,
    EXPORT,
    EXPORTED,
    PARTICIPANT,
    SESSION,
    Store,
)


@dataclass(frozen=True)
class Progress:
    """How far the people of one culture are.

    Attributes:
        culture: its name.
        people: who began.
        answering: who gave an answer.
        answers: given, blank ones included.
        uncoded: people who came without a code.
        together: most of these who began within a minute.
    """

    culture: str
    people: int
    answering: int
    answers: int
    uncoded: int
    together: int


@dataclass(frozen=True)
class Handed:
    """A file that held somebody's answers.

    Attributes:
        time: it was downloaded.
        file: its name.
        answers: of the person it held.
    """

    time: str
    file: str
    answers: int


def progress(store: Store, cultures: list[str]) -> "Future[list[Progress]]":
    """Count people and answers of every culture."""
    joined = sa.select(PARTICIPANT.c.culture, sa.func.count(), sa.func.count(ANSWER.c.participant.distinct()))
    answered = joined.join(ANSWER).group_by(PARTICIPANT.c.culture)
    people = sa.select(PARTICIPANT.c.culture, sa.func.count()).group_by(PARTICIPANT.c.culture)
    came = sa.select(PARTICIPANT.c.culture, ENROLMENT.c.began).join(ENROLMENT)
    came = came.where(ENROLMENT.c.admission == "open").order_by(ENROLMENT.c.began)

    def action(connection: sa.Connection) -> list[Progress]:
        there = {culture: count for culture, count in connection.execute(people)}  # noqa: C416 (rows)
        given = {culture: (count, who) for culture, count, who in connection.execute(answered)}
        began: dict[str, list[str]] = {}
        for culture, time in connection.execute(came):
            began.setdefault(culture, []).append(time)
        return [
            Progress(
                culture,
                there.get(culture, 0),
                given.get(culture, (0, 0))[1],
                given.get(culture, (0, 0))[0],
                len(began.get(culture, ())),
                most_together(began.get(culture, [])),
            )
            for culture in cultures
        ]

    return store.submit(action)


def record_export(store: Store, file: str, now: str) -> "Future[None]":
    """Remember whose answers a download holds."""
    counted = sa.select(ANSWER.c.participant, sa.func.count()).group_by(ANSWER.c.participant)

    def action(connection: sa.Connection) -> None:
        written = connection.execute(sa.insert(EXPORT).values(time=now, file=file))
        (number,) = written.inserted_primary_key or (None,)
        rows = [
            {"number": number, "participant": participant, "answers": answers}
            for participant, answers in connection.execute(counted)
        ]
        if rows:
            connection.execute(sa.insert(EXPORTED), rows)

    return store.submit(action)


def delete(store: Store, participant: str) -> "Future[tuple[int, list[Handed]] | None]":
    """Delete a person with all answers.

    Returns:
        How many answers were deleted, and the downloads that hold some of them; nothing if there is nobody
        of this code.
    """
    wanted = sa.select(EXPORT.c.time, EXPORT.c.file, EXPORTED.c.answers).join(EXPORTED)
    wanted = wanted.where(EXPORTED.c.participant == participant).order_by(EXPORT.c.number)

    def action(connection: sa.Connection) -> tuple[int, list[Handed]] | None:
        counts = [
            connection.execute(sa.delete(table).where(table.c.participant == participant)).rowcount
            for table in (ANSWER, SESSION, ENROLMENT, PARTICIPANT)
        ]
        if not counts[-1]:
            return None
        return counts[0], [Handed(*row) for row in connection.execute(wanted)]

    return store.submit(action, erases=True)


def set_closed(store: Store, closed: bool, now: str) -> "Future[None]":
    """Close the survey, or open it again."""

    def action(connection: sa.Connection) -> None:
        connection.execute(sa.delete(CLOSED))
        if closed:
            connection.execute(sa.insert(CLOSED).values(time=now))

    return store.submit(action)


def closed_since(store: Store) -> "Future[str | None]":
    """Return when the survey was closed; nothing while it is open."""

    def action(connection: sa.Connection) -> str | None:
        found = connection.execute(sa.select(CLOSED)).first()
        return None if found is None else found.time

    return store.submit(action)
