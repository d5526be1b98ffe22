"""What a run's configuration may ask for that somebody else's run could do harm with."""

from __future__ import annotations

from pathlib import Path

from prefrl.errors import UserError
from prefrl.preferences import without_password


def wants_trust(run_dir: Path, task: str, store: str | None) -> list[str]:
    """What opening a run of this task and store does beyond its own folder; nothing for most."""
    wants = []
    if ":" in task:
        wants.append(f"to import {task.partition(':')[0]}, which runs the code in it")
    if store and "://" in store:
        wants.append(f"to connect to {without_password(store)}, which is told your user name and password")
    elif store and not Path(store).resolve().is_relative_to(run_dir.resolve()):
        wants.append(f"to use {store}, a file outside its folder")
    return wants


def refuse_untrusted(run_dir: Path, trust: bool, task: str, store: str | None = None) -> None:
    """Refuse to import, connect to or write what a run's own files name.

    Raises:
        UserError: it names a module, a server or a file elsewhere, and nobody said --trust.
    """
    wants = wants_trust(run_dir, task, store)
    if wants and not trust:
        raise UserError(f"{run_dir / 'config.json'} wants {' and '.join(wants)}; if you trust that, give --trust")
