"""What a database on the disk holds."""

import time

import pytest
import sqlalchemy as sa

from pipeline_steps.web.database import Database

TABLES = sa.MetaData()
PERSON = sa.Table(
    "person",
    TABLES,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("words", sa.String),
)
WORDS = "granddaughter of the chapel's last minister"


@pytest.mark.parametrize("other", [False, True], ids=["one process", "a second connection"])
def test_what_is_erased_stands_in_no_file(tmp_path, other):
    """The server goes on with its connection while another one deletes."""
    url = f"sqlite:///{tmp_path / 'p.sqlite'}"
    first = Database(url, TABLES)

    def held():
        return {path.name for path in tmp_path.iterdir() if WORDS.encode() in path.read_bytes()}

    rows = [{"name": "ada", "words": WORDS}, {"name": "bo", "words": "other words"}]
    first.submit(lambda connection: connection.execute(sa.insert(PERSON), rows)).result()
    assert held()
    second = Database(url, TABLES) if other else first
    gone = sa.delete(PERSON).where(PERSON.c.name == "ada")
    second.submit(lambda connection: connection.execute(gone), erases=True).result()
    assert held() == set()
    left = first.submit(lambda connection: connection.execute(sa.select(PERSON.c.name)).scalars().all())
    assert left.result() == ["bo"]
    for database in {first, second}:
        database.close()
    assert held() == set()


@pytest.mark.parametrize("busy", [False, True], ids=["nothing else to do", "other actions"])
def test_what_is_erased_while_somebody_reads_leaves_the_log_when_they_are_done(
    tmp_path, caplog, monkeypatch, busy
):
    monkeypatch.setattr("pipeline_steps.web.database.RETRY", 60 if busy else 0.05)
    url = f"sqlite:///{tmp_path / 'p.sqlite'}"
    database = Database(url, TABLES)
    rows = [{"name": "ada", "words": WORDS}]
    database.submit(lambda connection: connection.execute(sa.insert(PERSON), rows)).result()
    reader = sa.create_engine(url)
    with reader.connect() as connection:
        connection.exec_driver_sql("BEGIN")
        assert connection.execute(sa.select(PERSON.c.name)).scalars().all() == ["ada"]
        count = database.submit(lambda c: c.execute(sa.delete(PERSON)).rowcount, erases=True).result()
        assert count == 1
        log = tmp_path / "p.sqlite-wal"
        assert WORDS.encode() in log.read_bytes()
    assert "stands in its log until they are done" in caplog.text
    reader.dispose()
    if busy:
        database.submit(lambda connection: connection.execute(sa.select(PERSON)).all()).result()
    for _ in range(2400):
        if not log.read_bytes():
            break
        time.sleep(0.05)
    assert log.read_bytes() == b""
    assert database.submit(lambda c: c.exec_driver_sql("PRAGMA busy_timeout").scalar()).result() == 10000
    database.close()
