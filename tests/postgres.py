"""A PostgreSQL for the tests of stores."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import psycopg
import pytest


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL of our own: found on PATH or where Debian puts it."""
    found = [shutil.which("initdb"), *map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
    programs = next((Path(path).resolve().parent for path in found if path), None)
    if programs is None:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    # Not in pytest's folder: a socket's path is short, and the user postgres must reach it.
    folder = Path(tempfile.mkdtemp(prefix="scoft"))
    # It refuses to run as root; Debian's package brings the user postgres.
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if user:
        shutil.chown(folder, "postgres")
    data = folder / "data"

    def call(*command):
        subprocess.run([*user, *map(str, command)], check=True, stdout=subprocess.DEVNULL, cwd="/")

    call(programs / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C")
    flags = f"-c listen_addresses='' -k {folder}"
    control = [programs / "pg_ctl", "-D", data, "-w", "-t", 600]
    start = [*control, "-o", flags, "-l", folder / "log", "start"]
    call(*start)

    class Postgres:
        names = 0

        def database(self):
            self.names += 1
            with psycopg.connect(f"host={folder} user=postgres", autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE test{self.names}")
            return f"postgresql+psycopg://postgres@/test{self.names}?host={folder}"

        def crash(self):
            """Stop as in a power cut, and start again."""
            call(*control, "-m", "immediate", "stop")
            call(*start)

    yield Postgres()
    call(*control, "-m", "immediate", "stop")
    shutil.rmtree(folder)
