"""A PostgreSQL server for tests and experiments; as root, install one where there is none.

Run by `make test`: .venv/bin/python scripts/postgresql.py
Exit code 0 if there is one in the end. If not, prints the one line to type and exits with 1.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from packages import install_with_apt, may_use_apt, print_line_to_type

APT_PACKAGES = ["postgresql"]
PACKAGES = {
    "apt-get install -y": " ".join(APT_PACKAGES),
    "dnf install -y": "postgresql-server",
    "pacman -S --noconfirm": "postgresql",
    "zypper install -y": "postgresql-server",
    "apk add": "postgresql",
}
# Debian's package makes and starts a cluster of its own, unless told not to before it is installed.
NO_CLUSTER = Path("/etc/postgresql-common/createcluster.d/prefrl.conf")


class ServerUnavailable(Exception):
    """No PostgreSQL server is installed, or it does not start; the message is one line."""


def server_programs() -> Path | None:
    """The folder of initdb and pg_ctl, of the newest version there is."""

    def version(folder: Path) -> float:
        try:
            return float(folder.parent.name)
        except ValueError:
            return 0.0

    debian = sorted((initdb.parent for initdb in Path("/usr/lib/postgresql").glob("*/bin/initdb")), key=version)
    found = shutil.which("initdb")
    return debian[-1] if debian else Path(found).resolve().parent if found else None


class TemporaryServer:
    """A server with a cluster in a temporary folder, which is removed at the end.

    It is reached by a Unix socket in that folder, so it takes no port, and nobody else's connections. User postgres
    needs no password; a user in the role `with_password` does.

    Args:
        durable: wait for the disk at every commit; off is faster, and safe as long as only clients are killed.

    Raises:
        ServerUnavailable: on entering.
    """

    def __init__(self, durable: bool = True) -> None:
        self._durable = durable
        self._programs = Path()
        self._account: pwd.struct_passwd | None = None  # PostgreSQL refuses to run as root
        self._folder = Path()

    def __enter__(self) -> TemporaryServer:
        programs = server_programs()
        if programs is None:
            raise ServerUnavailable("no PostgreSQL server is installed: initdb is missing")
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="prefrl-postgresql-"))
        try:
            if os.geteuid() == 0:
                self._account = _unprivileged()
                os.chown(self._folder, self._account.pw_uid, self._account.pw_gid)
            self._run("initdb", "--no-sync", "--no-locale", "--encoding=UTF8", "--username=postgres", "--auth=trust")
            (self._folder / "data" / "pg_hba.conf").write_text(
                "local all +with_password scram-sha-256\nlocal all all trust\n"
            )
            self.start()
        except BaseException:
            shutil.rmtree(self._folder)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ServerUnavailable):  # stopped already
            self.stop("immediate")
        shutil.rmtree(self._folder)

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        settings = {"unix_socket_directories": self._folder, "listen_addresses": "", "shared_buffers": "16MB"}
        settings |= {} if self._durable else {"fsync": "off"}
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        self._run("pg_ctl", "start", "--wait", "--log", str(self._folder / "log"), "--options", options)

    def stop(self, mode: str = "fast") -> None:
        """Stop it without waiting for its clients, whose connections break; "immediate" is as if it were killed."""
        self._run("pg_ctl", "stop", "--wait", "--mode", mode)

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        """Of one of its databases; a password may follow the user after a colon."""
        return f"postgresql://{user}@/{database}?host={self._folder}"

    def _run(self, program: str, *arguments: str) -> None:
        account = self._account
        ids = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
        done = subprocess.run(
            [str(self._programs / program), "--pgdata", str(self._folder / "data"), *arguments],
            cwd=self._folder,
            env=os.environ | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **cast(dict[str, Any], ids),
        )
        if done.returncode:
            last = (done.stdout.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise ServerUnavailable(f"PostgreSQL's {program} does not work here: {last}")


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise ServerUnavailable("PostgreSQL refuses to run as root, and there is no user postgres or nobody")


def install() -> None:
    """Install Debian's server without starting one."""
    NO_CLUSTER.parent.mkdir(parents=True, exist_ok=True)
    NO_CLUSTER.write_text("create_main_cluster = false\n")
    try:
        install_with_apt(APT_PACKAGES)
    finally:
        NO_CLUSTER.unlink()
        with suppress(OSError):  # not empty
            NO_CLUSTER.parent.rmdir()
            NO_CLUSTER.parent.parent.rmdir()


def main() -> int:
    """Check, install where allowed, check again."""
    if server_programs() is None and may_use_apt():
        print(f"no PostgreSQL server to test with yet; installing {' '.join(APT_PACKAGES)}")
        install()
    if server_programs() is not None:
        return 0
    print("no PostgreSQL server here, so the tests that need one are skipped", file=sys.stderr)
    print_line_to_type(PACKAGES, otherwise="PostgreSQL's server")
    return 1


if __name__ == "__main__":
    sys.exit(main())
