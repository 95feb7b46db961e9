"""A PostgreSQL server of the tests' own, from Debian's package, in a temporary folder."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import pytest

from tests.support.patience import PATIENCE

_USER = "nobody"  # PostgreSQL refuses to run as root


class PostgresServer:
    """A server that listens on a socket in its folder."""

    def __init__(self) -> None:
        self._programs = _programs()
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))  # a short path: that of the socket is bounded
        self._data = self.folder / "data"
        self._own = ["setpriv", f"--reuid={_USER}", f"--regid={_group()}", "--clear-groups"] if os.getuid() == 0 else []
        if self._own:
            shutil.chown(self.folder, _USER)
            self.folder.chmod(0o755)  # the socket in it is for all users
        self._run("initdb", "-D", self._data, "-A", "trust", "-U", "tests", "-E", "UTF8", "--locale=C", "--no-sync")
        (self._data / "postgresql.auto.conf").write_text("max_connections = 200\nshared_buffers = 16MB\n")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        deadline = time.monotonic() + PATIENCE
        while True:
            (self._data / "postmaster.pid").unlink(missing_ok=True)  # of a killed server
            with (self.folder / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    [*self._own, self._programs / "postgres", "-D", self._data, "-k", self.folder, "-h", ""],
                    stdout=log,
                    stderr=log,
                )
            while self._process.poll() is None:
                ready = [self._programs / "pg_isready", "-q", "-h", self.folder]
                if subprocess.run(ready, check=False).returncode == 0:
                    return
                assert time.monotonic() < deadline, (self.folder / "log").read_text()
                time.sleep(0.05)
            assert time.monotonic() < deadline, (self.folder / "log").read_text()  # a child of a killed one still lives
            time.sleep(0.1)

    def kill(self) -> None:
        """Kill the server. Its children end when they notice."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """Stop the server and delete its folder."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(PATIENCE)
        shutil.rmtree(self.folder, ignore_errors=True)

    def database(self) -> str:
        """Make an empty database, and return its address."""
        name = f"t{uuid.uuid4().hex}"
        subprocess.run([self._programs / "createdb", "-h", self.folder, "-U", "tests", name], check=True)
        return f"postgresql://tests@/{name}?host={self.folder}"

    def _run(self, program: str, *arguments: object) -> None:
        command = [*self._own, self._programs / program, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == 0, done.stdout + done.stderr


def skip_without_postgres() -> None:
    """Skip a test, with the reason, where PostgreSQL or the extra `cluster` is missing."""
    for name in ("sqlalchemy", "psycopg", "alembic"):
        pytest.importorskip(name, reason="needs the extra `cluster`")
    if _programs() == Path():
        pytest.skip("needs Debian's package postgresql", allow_module_level=True)


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return found[-1].parent if found else Path()


def _group() -> str:
    return grp.getgrgid(pwd.getpwnam(_USER).pw_gid).gr_name
