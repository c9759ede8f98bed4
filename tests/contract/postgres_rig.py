"""A PostgreSQL server of the suite's own: on a UNIX socket in a temporary folder, gone with the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

USER = "postgres"


def programs() -> Path:
    """Where the server's programs are. A machine without them fails the tests that need one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    where = shutil.which("initdb")
    if not found and where is None:
        raise AssertionError("PostgreSQL's server programs are not installed (apt: postgresql)")
    return found[-1].parent if found else Path(str(where)).parent


class PostgresServer:
    """One server; databases are made by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._bin = programs()

    def _run(self, *words: str) -> str:
        # The server refuses to run as root.
        account = {"user": USER, "group": pwd.getpwnam(USER).pw_gid, "extra_groups": []} if os.getuid() == 0 else {}
        done = subprocess.run(
            [str(self._bin / words[0]), *words[1:]],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            cwd=self.folder,
            **account,  # type: ignore[call-overload]
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return str(done.stdout)

    def start(self) -> None:
        data = self.folder / "data"
        self._run("initdb", "-D", str(data), "-U", USER, "-A", "trust", "-N", "-E", "UTF8", "--locale=C.UTF-8")
        self.start_again()

    def start_again(self) -> None:
        """On what a former life of it has left."""
        data = self.folder / "data"
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}' -c fsync=off"
        self._run("pg_ctl", "-D", str(data), "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-m", "immediate", "stop")

    def database(self, name: str) -> str:
        """Make an empty database; its URL."""
        self._run("createdb", "-h", str(self.folder), "-U", USER, name)
        return f"postgresql+asyncpg://{USER}@/{name}?host={quote(str(self.folder), safe='')}"

    def drop(self, name: str) -> None:
        self._run("dropdb", "--force", "-h", str(self.folder), "-U", USER, name)


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    # Not under pytest's folder, which the server's account may not enter; and socket paths are short.
    folder = Path(tempfile.mkdtemp(prefix="wlpg-"))
    if os.getuid() == 0:
        account = pwd.getpwnam(USER)
        os.chown(folder, account.pw_uid, account.pw_gid)
    server = PostgresServer(folder)
    try:
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
