"""What the collection keeps: who was invited, what they agreed to, their pictures, and every decision."""

import secrets
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from pipeline_steps.data.collection.intake import Taken
from pipeline_steps.web.database import Database, Refusal, digest
from pipeline_steps.web.sessions import new_token

MOST = 100
"""Pictures that one person may give; the paper asks for 20 to 30."""
State = Literal["new", "given", "asked", "accepted", "declined"]
"""Of a picture: not described yet, to be decided, sent back with a message, in the data set, not taken."""

TABLES = sa.MetaData()
CONTRIBUTOR = sa.Table(
    "contributor",
    TABLES,
    sa.Column("contributor", sa.String(16), primary_key=True),
    sa.Column("link_sha256", sa.String(64), nullable=False, unique=True),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("invited", sa.String(32), nullable=False),
    sa.Column("years", sa.Float, nullable=True),
    sa.Column("affiliation", sa.Text, nullable=True),
)
CONSENT = sa.Table(
    "consent",
    TABLES,
    sa.Column("contributor", sa.ForeignKey(CONTRIBUTOR.c.contributor), primary_key=True),
    sa.Column("time", sa.String(32), nullable=False),
    sa.Column("language", sa.String(32), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
)
"""The very text that somebody agreed to."""
PICTURE = sa.Table(
    "picture",
    TABLES,
    sa.Column("picture", sa.String(32), primary_key=True),
    sa.Column("contributor", sa.ForeignKey(CONTRIBUTOR.c.contributor), nullable=False),
    sa.Column("upload", sa.String(64), nullable=False),
    sa.Column("name", sa.String(64), nullable=False, index=True),
    sa.Column("given", sa.String(32), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("message", sa.Text, nullable=False, default=""),
    sa.Column("link", sa.Text, nullable=False),
    sa.Column("width", sa.Integer, nullable=False),
    sa.Column("height", sa.Integer, nullable=False),
    sa.Column("small", sa.LargeBinary, nullable=False),
    sa.Column("findings", sa.JSON, nullable=False),
    *(
        sa.Column(name, sa.Text, nullable=False, default="")
        for name in ("caption", "category", "era", "origin", "author", "licence", "people", "remark")
    ),
    sa.UniqueConstraint("contributor", "upload"),
    sa.UniqueConstraint("contributor", "name"),
)
DECISION = sa.Table(
    "decision",
    TABLES,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("picture", sa.String(32), nullable=False, index=True),
    sa.Column("contributor", sa.String(16), nullable=False),
    sa.Column("time", sa.String(32), nullable=False),
    sa.Column("decision", sa.String(16), nullable=False),
    sa.Column("message", sa.Text, nullable=False),
)
"""Every decision on a picture, and when; a withdrawn picture keeps its lines here and nothing else."""
WITHDRAWN = sa.Table(
    "withdrawn",
    TABLES,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("time", sa.String(32), nullable=False),
)
"""Pictures that were in the data set once and were withdrawn."""
CONSENT_TEXT = sa.Table(
    "consent_text",
    TABLES,
    sa.Column("language", sa.String(32), primary_key=True),
    sa.Column("text", sa.Text, nullable=False),
)
"""Where the curator's wording takes the place of the wording file's."""


class RefusedError(Refusal):
    """This is not taken; ``reason`` is one of the wording's refusals."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NobodyError(Refusal):
    """There is no such picture of this person, or no such person."""


@dataclass(frozen=True)
class Contributor:
    """Somebody who was invited; who has not begun has no years."""

    contributor: str
    note: str
    invited: str
    years: float | None
    affiliation: str | None

    @property
    def takes_part(self) -> bool:
        """Whether the person has agreed."""
        return self.years is not None


PERSON = [CONTRIBUTOR.c[name] for name in Contributor.__dataclass_fields__]


class Store(Database):
    """Contributors and their pictures."""

    def __init__(self, url: str) -> None:
        """Open the database and create what is missing.

        Raises:
            UserError: it cannot be opened.
        """
        super().__init__(url, TABLES)

    # --- people ---

    def invite(self, note: str, now: str) -> "Future[tuple[str, str]]":
        """Add somebody; return the pseudonym, and the secret of the personal link, which is not kept."""
        name, link = f"c-{secrets.token_hex(4)}", new_token()
        row = {"contributor": name, "link_sha256": digest(link), "note": note, "invited": now}

        def action(connection: sa.Connection) -> tuple[str, str]:
            connection.execute(sa.insert(CONTRIBUTOR).values(row))
            return name, link

        return self.submit(action)

    def renew(self, contributor: str) -> "Future[str]":
        """Give somebody a new personal link; the old one opens nothing any more. Fails with NobodyError."""
        link = new_token()
        changed = sa.update(CONTRIBUTOR).where(CONTRIBUTOR.c.contributor == contributor)

        def action(connection: sa.Connection) -> str:
            if not connection.execute(changed.values(link_sha256=digest(link))).rowcount:
                raise NobodyError
            return link

        return self.submit(action)

    def who(self, link: str) -> "Future[Contributor | None]":
        """Return whose personal link this is."""
        wanted = sa.select(*PERSON).where(CONTRIBUTOR.c.link_sha256 == digest(link))

        def action(connection: sa.Connection) -> Contributor | None:
            found = connection.execute(wanted).first()
            return None if found is None else Contributor(*found)

        return self.submit(action)

    def introduce(
        self, contributor: str, years: float, affiliation: str, language: str, text: str, now: str
    ) -> "Future[None]":
        """Keep who somebody is to the culture; the first time, also the text that was agreed to."""
        changed = sa.update(CONTRIBUTOR).where(CONTRIBUTOR.c.contributor == contributor)
        agreed = {"contributor": contributor, "time": now, "language": language, "text": text}

        def action(connection: sa.Connection) -> None:
            connection.execute(changed.values(years=years, affiliation=affiliation))
            connection.execute(self.insert(CONSENT).values(agreed).on_conflict_do_nothing())

        return self.submit(action)

    # --- pictures ---

    def uploaded(self, contributor: str, upload: str) -> "Future[dict[str, Any] | None]":
        """Return the picture of an upload that was acknowledged, or whose acknowledgement was lost."""
        wanted = sa.select(PICTURE).where(PICTURE.c.contributor == contributor, PICTURE.c.upload == upload)
        return self.submit(lambda connection: _one(connection, wanted))

    def room(self, contributor: str) -> "Future[None]":
        """Fail with RefusedError where somebody has given as much as one person may."""
        return self.submit(lambda connection: _enough(connection, contributor))

    def add(
        self, picture: str, contributor: str, upload: str, taken: Taken, link: str, now: str
    ) -> "Future[dict[str, Any]]":
        """Add a picture, under a new id, whose files are in their place; fails with RefusedError.

        Returns:
            Its row, or the one that this upload has already.
        """
        row = {
            "picture": picture,
            "contributor": contributor,
            "upload": upload,
            "given": now,
            "state": "new",
            "link": link,
            **vars(taken),
        }
        own = sa.select(PICTURE).where(PICTURE.c.contributor == contributor)

        def action(connection: sa.Connection) -> dict[str, Any]:
            again = _one(connection, own.where(PICTURE.c.upload == upload))
            if again is not None:
                return again
            if _one(connection, own.where(PICTURE.c.name == taken.name)) is not None:
                raise RefusedError("given_before")
            if connection.execute(sa.select(WITHDRAWN).where(WITHDRAWN.c.name == taken.name)).first():
                raise RefusedError("withdrawn_before")
            _enough(connection, contributor)
            connection.execute(sa.insert(PICTURE).values(row))
            added = _one(connection, own.where(PICTURE.c.upload == upload))
            assert added is not None
            return added

        return self.submit(action)

    def own(self, contributor: str) -> "Future[list[dict[str, Any]]]":
        """Return somebody's pictures, the newest first."""
        wanted = sa.select(PICTURE).where(PICTURE.c.contributor == contributor)
        wanted = wanted.order_by(PICTURE.c.given.desc(), PICTURE.c.picture)
        return self.submit(lambda connection: _all(connection, wanted))

    def describe(
        self, contributor: str, picture: str, details: Mapping[str, str], now: str
    ) -> "Future[dict[str, Any]]":
        """Keep what somebody writes of a picture; it then waits for the curator. Fails with NobodyError."""
        mine = (PICTURE.c.contributor == contributor, PICTURE.c.picture == picture)

        def action(connection: sa.Connection) -> dict[str, Any]:
            changed = sa.update(PICTURE).where(*mine).values(**details, state="given", message="")
            if not connection.execute(changed).rowcount:
                raise NobodyError
            _note(connection, picture, contributor, "given", "", now)
            found = _one(connection, sa.select(PICTURE).where(*mine))
            assert found is not None
            return found

        return self.submit(action)

    def withdraw(self, contributor: str, picture: str, now: str) -> "Future[None]":
        """Forget a picture but for its decisions; what was once accepted is withdrawn. NobodyError."""

        def action(connection: sa.Connection) -> None:
            mine = sa.select(PICTURE).where(PICTURE.c.contributor == contributor)
            row = _one(connection, mine.where(PICTURE.c.picture == picture))
            if row is None:
                raise NobodyError
            self.forget(connection, row, now)
            _note(connection, picture, contributor, "withdrawn", "", now)

        return self.submit(action, erases=True)

    def forget(self, connection: sa.Connection, row: Mapping[str, Any], now: str) -> None:
        """Delete a picture's row, and list it as withdrawn if it was ever part of the data set."""
        accepted = sa.select(DECISION).where(
            DECISION.c.picture == row["picture"], DECISION.c.decision == "accepted"
        )
        if connection.execute(accepted).first():
            listed = self.insert(WITHDRAWN).values(name=row["name"], time=now)
            connection.execute(listed.on_conflict_do_nothing())
        connection.execute(sa.delete(PICTURE).where(PICTURE.c.picture == row["picture"]))

    def counts(self) -> "Future[dict[str, int]]":
        """Count the pictures of every category that are given and not declined."""
        wanted = sa.select(PICTURE.c.category, sa.func.count()).where(
            PICTURE.c.state.in_(("given", "asked", "accepted"))
        )
        grouped = wanted.group_by(PICTURE.c.category)
        return self.submit(lambda connection: {name: n for name, n in connection.execute(grouped)})  # noqa: C416

    # --- the text that is agreed to ---

    def consent_texts(self) -> "Future[dict[str, str]]":
        """Return the curator's consent texts by language."""
        wanted = sa.select(CONSENT_TEXT)
        return self.submit(lambda connection: {row.language: row.text for row in connection.execute(wanted)})

    def set_consent_text(self, language: str, text: str) -> "Future[None]":
        """Keep the curator's consent text of a language; an empty one brings the wording file's back."""

        def action(connection: sa.Connection) -> None:
            connection.execute(sa.delete(CONSENT_TEXT).where(CONSENT_TEXT.c.language == language))
            if text:
                connection.execute(sa.insert(CONSENT_TEXT).values(language=language, text=text))

        return self.submit(action)


def _one(connection: sa.Connection, wanted: sa.Select[Any]) -> dict[str, Any] | None:
    found = connection.execute(wanted).first()
    return None if found is None else dict(found._mapping)


def _all(connection: sa.Connection, wanted: sa.Select[Any]) -> list[dict[str, Any]]:
    return [dict(row._mapping) for row in connection.execute(wanted)]


def _enough(connection: sa.Connection, contributor: str) -> None:
    counted = sa.select(sa.func.count()).where(PICTURE.c.contributor == contributor)
    if connection.execute(counted).scalar_one() >= MOST:
        raise RefusedError("enough")


def _note(
    connection: sa.Connection, picture: str, contributor: str, decision: str, message: str, now: str
) -> None:
    row = {"picture": picture, "contributor": contributor, "time": now}
    connection.execute(sa.insert(DECISION).values(**row, decision=decision, message=message))
