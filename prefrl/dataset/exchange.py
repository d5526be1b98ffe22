"""RUN -> folder -> preference store, each written beside its place and then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefrl.checkpoint import sync
from prefrl.dataset.cards import data_card, model_card
from prefrl.dataset.contents import Dataset, from_rows, to_rows
from prefrl.dataset.files import CHECKSUMS, PREDICTOR, checksums, dataset_files, read_dataset, read_file
from prefrl.errors import UserError
from prefrl.metrics import read_metrics
from prefrl.preferences import PreferenceStore
from prefrl.run_directory import read_json
from prefrl.trust import refuse_untrusted


def export_dataset(run: Path, out: Path, trust: bool = False) -> Dataset:
    """Write a run's preferences, and its predictor if it has one, to a new folder.

    Args:
        run: a folder with preferences.db in it, or a configuration that says where its answers are; that,
            metrics.csv and predictor.safetensors may be missing.
        out: the folder to write, in one that exists.
        trust: connect to the server that the run's configuration names.

    Raises:
        UserError: `out` exists, or `run` has no preferences or damaged ones.
    """
    _refuse_existing(out)
    config = read_json(run / "config.json") if (run / "config.json").exists() else {}
    with PreferenceStore(database_of_run(run, config, trust)) as store:
        dataset = from_rows(store.rows(), store.task, store.location)
    files = dataset_files(dataset)
    cards = {"README.md": data_card(dataset, config)}
    if (run / PREDICTOR).exists():
        from prefrl.reward_model import RewardEnsemble  # loads torch, which `prefrl import` does without

        files[PREDICTOR] = read_file(run / PREDICTOR)
        metrics = read_metrics(run / "metrics.csv") if (run / "metrics.csv").exists() else {}
        cards["MODEL_CARD.md"] = model_card(RewardEnsemble.load(run / PREDICTOR), store.task, metrics)
    files[CHECKSUMS] = checksums(files)
    with _written_beside(out) as unfinished:
        for name, data in {**files, **{name: card.encode() for name, card in cards.items()}}.items():
            (unfinished / name).write_bytes(data)
            sync(unfinished / name)
        sync(unfinished)
        _put_in_place(unfinished, out)
    return dataset


def database_of_run(run: Path, config: Mapping[str, Any], trust: bool) -> str:
    """Path or URL of a run's answers.

    Raises:
        UserError: there are none, or they are elsewhere and nobody said --trust.
    """
    options = config.get("options")
    named = options.get("store") if isinstance(options, dict) else None
    if isinstance(named, str):
        refuse_untrusted(run, trust, "", named)
        if "://" in named:
            return named
    database = Path(named) if isinstance(named, str) else run / "preferences.db"
    if not database.is_file():
        raise UserError(f"{run} holds no {database.name}; name the folder of a run that learnt from answers")
    return str(database)


def import_dataset(folder: Path, store: Path) -> Dataset:
    """Read an exported folder into a new preference store, under the same ids.

    Args:
        folder: what export_dataset wrote.
        store: the database file to create, in a folder that exists.

    Raises:
        UserError: `store` exists, or the folder is not whole.
    """
    _refuse_existing(store)
    dataset = read_dataset(folder)
    with _written_beside(store) as unfinished:
        with PreferenceStore(unfinished / store.name, task=dataset.task) as created:
            created.add_rows(to_rows(dataset))
        _put_in_place(unfinished / store.name, store)
    return dataset


def _refuse_existing(path: Path) -> None:
    if os.path.lexists(path):
        raise UserError(f"{path} exists already; give another path, or remove it first")


@contextmanager
def _written_beside(path: Path) -> Iterator[Path]:
    """A folder beside `path` to write in, gone at the end."""
    unfinished = path.with_name(f"{path.name}.unfinished-{os.getpid()}")
    try:
        unfinished.mkdir()
        try:
            yield unfinished
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}; give a path in a folder that exists and that you may write to"
        ) from error


def _put_in_place(unfinished: Path, path: Path) -> None:
    _refuse_existing(path)  # again: writing has taken a while
    unfinished.rename(path)
    sync(path.parent)
