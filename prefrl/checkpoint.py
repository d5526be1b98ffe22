"""Everything a run needs to go on as if nothing had happened, in RUN/checkpoint/.

Takes the state of loop.PreferenceLoop: nested dictionaries and lists of arrays, numbers and texts. Nothing is pickled,
so opening somebody else's checkpoint executes nothing. Each one is a folder of its own, written beside the others,
synced to the disk and then renamed: whenever the machine stops, there is a whole one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from prefrl.errors import UserError

State = dict[str, Any]

KEPT = 2
ARRAYS, VALUES, CHECKSUMS = "arrays.npz", "values.json", "checksums.json"
ARRAY = "array in arrays.npz"  # the key of a dictionary that stands for an array


def save_checkpoint(folder: Path, env_steps: int, state: State) -> Path:
    """Write a state and keep the last two.

    Args:
        folder: RUN/checkpoint.
        env_steps: of the run; names the checkpoint.
        state: what `load_checkpoint` returns again, except that tuples come back as lists.
    """
    folder.mkdir(exist_ok=True)
    for unfinished in folder.glob("unfinished-*"):  # of a process that was killed
        shutil.rmtree(unfinished)
    path, unfinished = folder / f"{env_steps:012d}", folder / f"unfinished-{env_steps}"
    unfinished.mkdir()
    arrays: dict[str, np.ndarray] = {}
    values = json.dumps(_without_arrays(state, arrays, ""))
    np.savez(unfinished / ARRAYS, **arrays)  # type: ignore[arg-type]
    (unfinished / VALUES).write_text(values)
    (unfinished / CHECKSUMS).write_text(json.dumps({name: _checksum(unfinished / name) for name in (ARRAYS, VALUES)}))
    for name in (ARRAYS, VALUES, CHECKSUMS, "."):
        sync(unfinished / name)
    if path.exists():  # the run was at this very step before
        shutil.rmtree(path)
    unfinished.rename(path)
    sync(folder)
    others = [other for other in checkpoints(folder) if other != path]
    # Newer ones are torn, else the run would have gone on from them.
    for old in [other for other in others if other > path] + [other for other in others if other < path][: -KEPT + 1]:
        shutil.rmtree(old)
    return path


def checkpoints(folder: Path) -> list[Path]:
    """All there are, oldest first."""
    return sorted(path for path in folder.glob("*") if path.name.isdigit() and path.is_dir())


def load_checkpoint(folder: Path) -> tuple[State, list[str]]:
    """The newest whole state, and a line on each newer one that is torn.

    Raises:
        UserError: there is none.
    """
    torn: list[str] = []
    for path in reversed(checkpoints(folder)):
        try:
            return _load(path), torn
        except Exception as error:  # zipfile and NumPy raise a dozen kinds on what is damaged
            reason = (str(error) or type(error).__name__).splitlines()[0][:200]
            torn.append(f"{path} is torn ({reason}); going on from the one before")
    found = f"; {torn[-1]}" if torn else ""
    raise UserError(f"{folder} holds no whole checkpoint to resume from; start the run again{found}")


def _load(path: Path) -> State:
    checksums = json.loads((path / CHECKSUMS).read_text())
    for name in (ARRAYS, VALUES):
        if checksums[name] != _checksum(path / name):
            raise ValueError(f"{name} does not match its checksum")
    with (path / ARRAYS).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        state = _with_arrays(json.loads((path / VALUES).read_text()), dict(arrays))
    if not isinstance(state, dict):
        raise ValueError(f"{VALUES} holds no dictionary")
    return state


def _without_arrays(value: Any, arrays: dict[str, np.ndarray], name: str) -> Any:
    """The same with names in place of arrays, which are moved to `arrays`."""
    if isinstance(value, np.ndarray):
        arrays[name] = value
        return {ARRAY: name}
    if isinstance(value, dict):
        return {key: _without_arrays(each, arrays, f"{name}/{key}") for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_arrays(each, arrays, f"{name}/{i}") for i, each in enumerate(value)]
    return value.item() if isinstance(value, np.generic) else value


def _with_arrays(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if set(value) == {ARRAY}:
            return arrays[value[ARRAY]]
        return {key: _with_arrays(each, arrays) for key, each in value.items()}
    return [_with_arrays(each, arrays) for each in value] if isinstance(value, list) else value


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Wait until a file, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
