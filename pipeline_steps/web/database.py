"""What a server keeps, in SQLite or PostgreSQL: actions one after another, acknowledged once on disk."""

import asyncio
import contextlib
import hashlib
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from pipeline_steps.errors import UserError, first_line

LOG = logging.getLogger(__name__)
BATCH = 200
"""Most actions in one transaction."""
RETRY = 5.0
"""Seconds between two tries to empty a log that others read."""
PATIENCE = "busy_timeout=10000"
PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    PATIENCE,
    "secure_delete=ON",
)
"""Of each connection to SQLite."""

T = TypeVar("T")
Action = Callable[[sa.Connection], T]


class Refusal(Exception):
    """What an action does not do; the others of its transaction go on."""


class Database:
    """Runs actions one after another in a thread of its own and acknowledges them once they are on disk.

    Actions that arrive while the disk is busy share the next transaction, each under its own
    savepoint: with 200 people at once one flush serves many of them.
    """

    def __init__(
        self, url: str, tables: sa.MetaData, prepare: Action[None] = lambda connection: None
    ) -> None:
        """Open the database and create what is missing.

        Args:
            url: of the database, e.g. ``sqlite:///answers.sqlite`` or ``postgresql+psycopg://…``.
            tables: that it has.
            prepare: the first action.

        Raises:
            UserError: the database cannot be opened.
        """
        try:
            self.engine = sa.create_engine(url, pool_pre_ping=True)
            if self.engine.dialect.name == "sqlite":
                sa.event.listen(self.engine, "connect", _durable)
                sa.event.listen(self.engine, "begin", _begin)
                self.insert: Any = sqlite.insert
            else:
                self.insert = postgresql.insert
            tables.create_all(self.engine)
            with self.engine.begin() as connection:
                prepare(connection)
        except (SQLAlchemyError, ImportError) as error:
            raise UserError(
                f"--database {_without_password(url)}: cannot be opened ({first_line(error)})"
            ) from error
        self.waiting: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self.erased = False  # and stands in SQLite's log still
        self.thread = threading.Thread(target=self._work, name="store", daemon=True)
        self.thread.start()

    def submit(self, action: "Action[T]", erases: bool = False) -> "Future[T]":
        """Queue an action; its future is done once the transaction is committed, or fails with it.

        Args:
            action: what to do.
            erases: what it deletes is to be read nowhere any more, SQLite's log included.
        """
        future: Future[T] = Future()
        self.waiting.put(_Asked(action, future, erases))
        return future

    def close(self) -> None:
        """Finish what is queued and stop."""
        self.waiting.put(None)
        self.thread.join()
        self.engine.dispose()

    def _work(self) -> None:
        while (first := self._next()) is not None:
            batch = [first]
            while len(batch) < BATCH and not self.waiting.empty():
                if (following := self.waiting.get()) is None:
                    self.waiting.put(None)
                    break
                batch.append(following)
            # From here on nobody can cancel them any more; those given up before are left out.
            self._commit([asked for asked in batch if asked.future.set_running_or_notify_cancel()])

    def _next(self) -> "_Asked | None":
        """Wait for an action; meanwhile try again to empty a log that others were reading."""
        while self.erased:
            try:
                return self.waiting.get(timeout=RETRY)
            except queue.Empty:
                self.erased = not self._empty_log()
        return self.waiting.get()

    def _commit(self, batch: "list[_Asked]") -> None:
        outcomes: list[tuple[Future[Any], Any, Exception | None]] = []
        try:
            with self.engine.begin() as connection:
                for action, future, _ in batch:
                    try:
                        with connection.begin_nested():
                            outcomes.append((future, action(connection), None))
                    except Refusal as error:
                        outcomes.append((future, None, error))
        except Exception as error:
            LOG.error("the database did not take %d actions: %s", len(batch), first_line(error))
            outcomes = [(asked.future, None, error) for asked in batch]
        before = self.erased
        if self.engine.dialect.name == "sqlite" and (before or any(asked.erases for asked in batch)):
            self.erased = not self._empty_log()
            if self.erased and not before:
                LOG.warning(
                    "others read the database: what was deleted stands in its log until they are done"
                )
        for future, result, failure in outcomes:
            if failure is None:
                future.set_result(result)
            else:
                future.set_exception(failure)

    def _empty_log(self) -> bool:
        """Empty SQLite's write-ahead log, in which deleted rows stand until others take their place.

        Returns:
            Whether that is done; False: others read it, for whom nobody waits here.
        """
        try:
            with contextlib.closing(self.engine.raw_connection()) as connection:
                cursor = connection.cursor()
                cursor.execute("PRAGMA busy_timeout=0")
                try:
                    busy, *_ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                finally:
                    cursor.execute(f"PRAGMA {PATIENCE}")
        except Exception as error:
            LOG.warning("the database's log could not be emptied: %s", first_line(error))
            return True
        return not busy


class _Asked(NamedTuple):
    """An action in the queue."""

    action: Action[Any]
    future: "Future[Any]"
    erases: bool


async def ask(future: Any) -> Any:
    """Wait for the database without holding up other requests."""
    return await asyncio.wrap_future(future)


def digest(token: str) -> str:
    """What is kept of a secret: a database holds none by which one could pose as somebody."""
    return hashlib.sha256(token.encode()).hexdigest()


def _durable(connection: Any, _record: Any) -> None:
    """Make SQLite flush every commit to the disk, let readers in while it writes, blank what is deleted."""
    connection.isolation_level = None  # see _begin
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    """Begin a transaction at once: Python's sqlite3 would wait, and then each savepoint is one of its own."""
    connection.exec_driver_sql("BEGIN")


def _without_password(url: str) -> str:
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return "(no URL)"
