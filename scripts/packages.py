"""Install what a package manager has, or say the one line to type."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

TURN = Path(sys.prefix) / "apt.lock"


def may_use_apt() -> bool:
    """Whether this process may install Debian packages."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install_with_apt(packages: list[str]) -> None:
    """Install packages; apt's own messages are shown if that fails."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with TURN.open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # make runs two jobs at once, and a second apt-get would give up
        for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
            result = subprocess.run(
                ["apt-get", "--quiet", *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            if result.returncode:
                print(result.stdout, file=sys.stderr)


def print_line_to_type(packages: Mapping[str, str], otherwise: str) -> None:
    """Say how to install packages by hand.

    Args:
        packages: by the command that installs them, as in {"apt-get install -y": "libegl1 libgl1"}.
        otherwise: what to install where there is none of these commands.
    """
    line = next((f"{command} {names}" for command, names in packages.items() if shutil.which(command.split()[0])), None)
    if line:
        print(f"to change that, type: {'' if os.geteuid() == 0 else 'sudo '}{line}", file=sys.stderr)
    else:
        print(f"to change that, install {otherwise}", file=sys.stderr)
