"""What the server keeps: participants, their sessions and answers."""

import json
import secrets
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from pipeline_steps.web.database import Database, Refusal, digest

TABLES = sa.MetaData()
PARTICIPANT = sa.Table(
    "participant",
    TABLES,
    sa.Column("participant", sa.String(64), primary_key=True),
    sa.Column("culture", sa.String(64), nullable=False),
    sa.Column("years", sa.Float, nullable=False),
    sa.Column("form", sa.Integer, nullable=False),
)
SESSION = sa.Table(
    "session",
    TABLES,
    sa.Column("token_sha256", sa.String(64), primary_key=True),
    sa.Column("participant", sa.ForeignKey(PARTICIPANT.c.participant), nullable=False),
)
ANSWER = sa.Table(
    "answer",
    TABLES,
    sa.Column("participant", sa.ForeignKey(PARTICIPANT.c.participant), primary_key=True),
    sa.Column("page", sa.String(128), primary_key=True),
    sa.Column("item", sa.String(32), primary_key=True),
    sa.Column("ranks", sa.Text, nullable=True),
)
ENROLMENT = sa.Table(
    "enrolment",
    TABLES,
    sa.Column("participant", sa.ForeignKey(PARTICIPANT.c.participant), primary_key=True),
    sa.Column("admission", sa.String(8), nullable=False),
    sa.Column("began", sa.String(32), nullable=False),
)
"""How and when somebody came in; those of a database from before it was kept have no row."""
EXPORT = sa.Table(
    "export",
    TABLES,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("time", sa.String(32), nullable=False),
    sa.Column("file", sa.String(32), nullable=False),
)
EXPORTED = sa.Table(
    "exported",
    TABLES,
    sa.Column("number", sa.ForeignKey(EXPORT.c.number), primary_key=True),
    sa.Column("participant", sa.String(64), primary_key=True),
    sa.Column("answers", sa.Integer, nullable=False),
)
"""Whose answers were in which export, so that they can be found there once their owner is deleted."""
CLOSED = sa.Table("closed", TABLES, sa.Column("time", sa.String(32), primary_key=True))
"""A row while the survey is closed."""
NEXT_FORM = sa.Table(
    "next_form",
    TABLES,
    sa.Column("culture", sa.String(64), primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),
)

Ranks = Mapping[str, int] | None
Admission = Literal["code", "open"]


class TakenError(Refusal):
    """This code belongs to somebody else."""


class ClosedError(Refusal):
    """The survey takes no more answers."""


@dataclass(frozen=True)
class Participant:
    """Everything that is kept about a person beside the answers."""

    participant: str
    culture: str
    years: float
    form: int


class Store(Database):
    """The participants, and what they answered."""

    def __init__(self, url: str, cultures: list[str]) -> None:
        """Open the database and create what is missing.

        Args:
            url: of the database; see :class:`Database`.
            cultures: surveyed.

        Raises:
            UserError: the database cannot be opened.
        """

        def first_forms(connection: sa.Connection) -> None:
            for culture in cultures:
                first = self.insert(NEXT_FORM).values(culture=culture, number=0)
                connection.execute(first.on_conflict_do_nothing())

        super().__init__(url, TABLES, first_forms)

    # --- actions ---

    def enrol(
        self, code: str, culture: str, years: float, admission: Admission, now: str
    ) -> "Future[tuple[Participant, str]]":
        """Add a participant and open a session.

        Args:
            code: the participant's, or "" to make one.
            culture: declared.
            years: lived there.
            admission: "code" where codes were handed out: one that is known already opens its owner's
                answers again; "open" where anyone may come.
            now: the time, as text.

        Returns:
            The participant and the session's secret token. Fails with TakenError or ClosedError.
        """
        token, name = secrets.token_urlsafe(32), code or f"p{secrets.token_hex(6)}"

        def action(connection: sa.Connection) -> tuple[Participant, str]:
            known = connection.execute(
                sa.select(PARTICIPANT).where(PARTICIPANT.c.participant == name)
            ).first()
            if known is not None:
                if admission == "open" or known.culture != culture:
                    raise TakenError(name)
                person = Participant(*known)
            else:
                _open(connection)
                counted = sa.update(NEXT_FORM).where(NEXT_FORM.c.culture == culture)
                counted = counted.values(number=NEXT_FORM.c.number + 1).returning(NEXT_FORM.c.number)
                person = Participant(name, culture, years, connection.execute(counted).scalar_one() - 1)
                connection.execute(sa.insert(PARTICIPANT).values(**vars(person)))
                came = sa.insert(ENROLMENT).values(participant=name, admission=admission, began=now)
                connection.execute(came)
            connection.execute(sa.insert(SESSION).values(token_sha256=digest(token), participant=name))
            return person, token

        return self.submit(action)

    def who(self, token: str) -> "Future[Participant | None]":
        """Return whose session this is."""
        joined = sa.select(PARTICIPANT).join(SESSION).where(SESSION.c.token_sha256 == digest(token))

        def action(connection: sa.Connection) -> Participant | None:
            found = connection.execute(joined).first()
            return None if found is None else Participant(*found)

        return self.submit(action)

    def answers(self, participant: str) -> "Future[dict[str, dict[str, Ranks]]]":
        """Return a participant's answers by page and item."""
        wanted = sa.select(ANSWER).where(ANSWER.c.participant == participant)

        def action(connection: sa.Connection) -> dict[str, dict[str, Ranks]]:
            found: dict[str, dict[str, Ranks]] = {}
            for row in connection.execute(wanted):
                found.setdefault(row.page, {})[row.item] = json.loads(row.ranks) if row.ranks else None
            return found

        return self.submit(action)

    def save(self, participant: str, page: str, answers: Mapping[str, Ranks]) -> "Future[None]":
        """Store a page's answers; sent again, they replace themselves."""
        rows = [
            {
                "participant": participant,
                "page": page,
                "item": item,
                "ranks": None if ranks is None else json.dumps(dict(ranks)),
            }
            for item, ranks in answers.items()
        ]
        statement = self.insert(ANSWER)
        statement = statement.on_conflict_do_update(
            index_elements=["participant", "page", "item"], set_={"ranks": statement.excluded.ranks}
        )

        def action(connection: sa.Connection) -> None:
            _open(connection)
            connection.execute(statement, rows)

        return self.submit(action)

    def leave(self, token: str) -> "Future[None]":
        """End a session; its participant's answers stay."""

        def action(connection: sa.Connection) -> None:
            connection.execute(sa.delete(SESSION).where(SESSION.c.token_sha256 == digest(token)))

        return self.submit(action)

    def everything(self) -> Iterator[dict[str, Any]]:
        """Stream all answers with who gave them, in order; on a connection of its own."""
        came = ENROLMENT.c.participant == PARTICIPANT.c.participant
        wanted = (
            sa.select(ANSWER, PARTICIPANT.c.culture, PARTICIPANT.c.years)
            .add_columns(ENROLMENT.c.admission, ENROLMENT.c.began)
            .select_from(ANSWER.join(PARTICIPANT).outerjoin(ENROLMENT, came))
            .order_by(ANSWER.c.participant, ANSWER.c.page, ANSWER.c.item)
        )
        with self.engine.connect() as connection:
            for row in connection.execution_options(yield_per=1000).execute(wanted):
                ranks = json.loads(row.ranks) if row.ranks else None
                yield {**row._mapping, "ranks": ranks}


def _open(connection: sa.Connection) -> None:
    """Refuse what comes in after the survey was closed."""
    if connection.execute(sa.select(CLOSED)).first() is not None:
        raise ClosedError
