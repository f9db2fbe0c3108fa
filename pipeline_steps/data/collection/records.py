"""What the curator asks of the store: everything, decisions, and all that is kept of one person."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from pipeline_steps.data.collection.store import (
    CONSENT,
    CONTRIBUTOR,
    DECISION,
    PERSON,
    PICTURE,
    WITHDRAWN,
    Contributor,
    NobodyError,
    Store,
)

DECISIONS = ("accepted", "asked", "declined")
"""What a curator may decide of a picture."""


@dataclass(frozen=True)
class DataSet:
    """What comes out.

    Attributes:
        pictures: the accepted ones, in order of their names, with the day of their contributor's consent.
        withdrawn: names of those that were in it once.
        used: names of all pictures that are kept.
        ids: of the same.
    """

    pictures: Sequence[Mapping[str, Any]]
    withdrawn: Sequence[str]
    used: frozenset[str]
    ids: frozenset[str]


def data_set(store: Store) -> "Future[DataSet]":
    """Return what comes out at this moment; a name that anybody withdrew is not in it."""
    gone = sa.select(WITHDRAWN.c.name)
    accepted = sa.select(PICTURE, CONSENT.c.time.label("agreed")).join(
        CONSENT, CONSENT.c.contributor == PICTURE.c.contributor
    )
    accepted = accepted.where(PICTURE.c.state == "accepted", PICTURE.c.name.not_in(gone))
    accepted = accepted.order_by(PICTURE.c.name, PICTURE.c.given)

    def action(connection: sa.Connection) -> DataSet:
        rows: dict[str, Mapping[str, Any]] = {}
        for row in connection.execute(accepted):
            rows.setdefault(row.name, dict(row._mapping))
        names = sorted(connection.execute(gone.order_by(WITHDRAWN.c.time, WITHDRAWN.c.name)).scalars())
        used, ids = (
            frozenset(connection.execute(sa.select(column)).scalars())
            for column in (PICTURE.c.name, PICTURE.c.picture)
        )
        return DataSet(list(rows.values()), names, used, ids)

    return store.submit(action)


def everybody(store: Store) -> "Future[list[Contributor]]":
    """Return all who were invited, the first one first."""
    wanted = sa.select(*PERSON).order_by(CONTRIBUTOR.c.invited, CONTRIBUTOR.c.contributor)
    return store.submit(lambda connection: [Contributor(*row) for row in connection.execute(wanted)])


def pictures(store: Store) -> "Future[list[dict[str, Any]]]":
    """Return all pictures that are described, the newest first.

    Returns:
        The rows, each with its ``decisions`` in order and the ``version`` of what is written of it: another
        one whenever its contributor changes it.
    """
    wanted = sa.select(PICTURE).where(PICTURE.c.state != "new")
    wanted = wanted.order_by(PICTURE.c.given.desc(), PICTURE.c.picture)
    made = sa.select(DECISION).order_by(DECISION.c.number)

    def action(connection: sa.Connection) -> list[dict[str, Any]]:
        found = {row.picture: dict(row._mapping) | {"decisions": []} for row in connection.execute(wanted)}
        for row in connection.execute(made):
            if row.picture in found:
                found[row.picture]["decisions"].append(dict(row._mapping))
                if row.decision == "given":
                    found[row.picture]["version"] = row.number
        return list(found.values())

    return store.submit(action)


def chosen(store: Store, column: str) -> "Future[list[str]]":
    """Return what stored pictures have in a column that is chosen, "category" or "licence", in order."""
    wanted = sa.select(PICTURE.c[column]).distinct().where(PICTURE.c[column] != "")
    return store.submit(lambda connection: sorted(connection.execute(wanted).scalars()))


def name_of(store: Store, picture: str, contributor: str | None = None) -> "Future[str | None]":
    """Return the file name of a picture, of this person where one is named; nothing if there is none."""
    wanted = sa.select(PICTURE.c.name).where(PICTURE.c.picture == picture)
    if contributor is not None:
        wanted = wanted.where(PICTURE.c.contributor == contributor)
    return store.submit(lambda connection: connection.execute(wanted).scalar())


def decide(
    store: Store, chosen: Mapping[str, str], decision: str, message: str, now: str
) -> "Future[list[str]]":
    """Decide of pictures that are still described as they were seen, and keep when.

    Args:
        store: that has them.
        chosen: by their ids, the version of each that was seen; see :func:`pictures`.
        decision: one of :data:`DECISIONS`.
        message: to the contributor.
        now: the time, as text.

    Returns:
        Ids of the chosen ones that were changed since; nothing is decided of them.
    """
    there = sa.select(
        PICTURE.c.picture, PICTURE.c.contributor, sa.func.max(DECISION.c.number).label("version")
    )
    there = there.join(DECISION, DECISION.c.picture == PICTURE.c.picture)
    there = there.where(PICTURE.c.picture.in_(chosen), DECISION.c.decision == "given")
    there = there.group_by(PICTURE.c.picture)

    def action(connection: sa.Connection) -> list[str]:
        found = connection.execute(there).all()
        changed = [row.picture for row in found if str(row.version) != chosen[row.picture]]
        rows = [
            {"picture": row.picture, "contributor": row.contributor, "time": now}
            | {"decision": decision, "message": message}
            for row in found
            if row.picture not in changed
        ]
        names = [row["picture"] for row in rows]
        decided = sa.update(PICTURE).where(PICTURE.c.picture.in_(names))
        connection.execute(decided.values(state=decision, message=message))
        if rows:
            connection.execute(sa.insert(DECISION), rows)
        return changed

    return store.submit(action)


def everything_of(store: Store, contributor: str) -> "Future[dict[str, Any]]":
    """Return all that is kept of one person, but for the picture files. Fails with NobodyError."""

    def action(connection: sa.Connection) -> dict[str, Any]:
        def rows(table: sa.Table) -> list[dict[str, Any]]:
            wanted = sa.select(table).where(table.c.contributor == contributor)
            hidden = ("small", "link_sha256")
            return [
                {name: value for name, value in row._mapping.items() if name not in hidden}
                for row in connection.execute(wanted)
            ]

        if not (people := rows(CONTRIBUTOR)):
            raise NobodyError
        kept = {"consent": rows(CONSENT), "pictures": rows(PICTURE), "decisions": rows(DECISION)}
        return {"contributor": people[0], **kept}

    return store.submit(action)


def delete(store: Store, contributor: str, now: str) -> "Future[int]":
    """Delete all that is kept of one person; what was in the data set is listed as withdrawn.

    Returns:
        How many pictures there were. Fails with NobodyError.
    """

    def action(connection: sa.Connection) -> int:
        mine = sa.select(PICTURE).where(PICTURE.c.contributor == contributor)
        rows = [dict(row._mapping) for row in connection.execute(mine)]
        for row in rows:
            store.forget(connection, row, now)
        for table in (DECISION, CONSENT):
            connection.execute(sa.delete(table).where(table.c.contributor == contributor))
        person = sa.delete(CONTRIBUTOR).where(CONTRIBUTOR.c.contributor == contributor)
        if not connection.execute(person).rowcount:
            raise NobodyError
        return len(rows)

    return store.submit(action, erases=True)
