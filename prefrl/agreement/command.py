"""`prefrl compare`: how people and oracles answered the queries of one store, on one page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from prefrl.agreement.labellers import read_survey
from prefrl.agreement.results import Results, work_out
from prefrl.config import Count
from prefrl.dataset.exchange import database_of_run
from prefrl.preferences import open_existing
from prefrl.run_directory import read_json, refuse_links


@dataclass(frozen=True)
class CompareOptions:
    """Compare how people and oracles answered the same queries: agreement, habits, and the teacher that fits best."""

    store: tyro.conf.Positional[str]
    """folder of a run, its preferences.db, or another store of preferences by its path or URL"""
    runs: tuple[Path, ...] = ()
    """folders of runs whose learning curves are laid over each other, such as one trained on each labeller"""
    out: Path = Path("labellers.html")
    """page to write"""
    seed: Count = 0
    """of the resampling behind the intervals of Krippendorff's α"""
    trust: bool = False
    """connect to the server that a run names, which somebody else's run could misuse"""


@dataclass(frozen=True)
class Comparison:
    """What was worked out, and the page that shows it."""

    results: Results
    page: Path


def compare(options: CompareOptions) -> Comparison:
    """Read a store, work out what its labellers have in common, and write the page.

    Raises:
        UserError: there is no such store, nobody has answered a pair in it, or the page can't be written.
    """
    from prefrl.agreement.page import write_comparison  # these draw: not for the other commands
    from prefrl.report import load_run

    runs = [load_run(run) for run in options.runs]
    with open_existing(_location(options.store, options.trust)) as store:
        survey, location = read_survey(store), store.location
    results = work_out(survey, options.seed)
    return Comparison(results, write_comparison(results, location, runs, options.out))


def _location(store: str, trust: bool) -> str:
    """Path or URL of the database; a URL that was typed needs no trust, one that a run names does."""
    if "://" in store or not Path(store).is_dir():
        return store
    run = Path(store)
    refuse_links(run)
    return database_of_run(run, read_json(run / "config.json") if (run / "config.json").exists() else {}, trust)
