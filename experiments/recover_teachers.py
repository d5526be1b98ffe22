"""Known teachers answer 2,000 queries of real segments; does what `prefrl compare` fits hold what they were told?

    .venv/bin/python experiments/recover_teachers.py                     # two tasks, five seeds: about 15 minutes
    .venv/bin/python experiments/recover_teachers.py --tasks hopper --seeds 0 --results runs/one

A short training run per task and seed asks 2,000 queries, of a policy that learns; each teacher answers a copy of its
database as `prefrl answer` does. Runs are kept in runs/experiments/recover_teachers and not trained again. Writes
recover_teachers.json and recover_teachers.md to experiments/results/recover_teachers.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from common import RESULTS, RUNS, markdown_table

from prefrl.agreement import FittedTeacher, fit_teacher, read_survey
from prefrl.agreement.intervals import Interval
from prefrl.agreement.words import PARAMETERS, ends, value
from prefrl.answering import AnswerOptions, answer
from prefrl.config import Count, OracleOptions, default_config
from prefrl.oracles.synthetic import Teacher
from prefrl.preferences import PreferenceStore
from prefrl.run import train
from prefrl.run_directory import describe_here, read_json

TEACHERS = {
    "perfect": Teacher(),
    "stochastic": Teacher(rationality=2.0),
    "myopic": Teacher(discount=0.9),
    "mistaken": Teacher(error_rate=0.2),
    "skipping": Teacher(skip_below=-0.5),
    "equal": Teacher(equal_within=0.3),
    "myopic and mistaken": Teacher(discount=0.95, error_rate=0.2),
    "stochastic, mistaken and equal": Teacher(rationality=5.0, error_rate=0.1, equal_within=0.1),
    "all five": Teacher(rationality=3.0, discount=0.9, error_rate=0.1, skip_below=-0.5, equal_within=0.2),
}


@dataclass(frozen=True)
class Options:
    """Which runs ask."""

    tasks: tuple[str, ...] = ("hopper", "cheetah")
    """whose segments are shown"""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """of the runs, and of the teachers' mistakes"""
    queries: Count = 2000
    """of each run"""
    steps: Count = 300_000
    """of each run"""
    results: Path = RESULTS / "recover_teachers"
    """folder to write"""


@dataclass(frozen=True)
class Recovered:
    """One parameter of one teacher, as it was told and as it was fitted."""

    task: str
    seed: int
    teacher: str
    parameter: str
    true: float | None  # None: this teacher never skips
    fitted: Interval | None  # None: the answers say nothing about it

    @property
    def inside(self) -> bool:
        """Whether the interval holds what the teacher was told."""
        return self.fitted is not None and self.true is not None and self.true in self.fitted

    @property
    def at_an_end(self) -> bool:
        """Whether the teacher was told the very end of the parameter's range, beyond which no interval can lie."""
        return self.true == {"rationality": math.inf, "discount": 1.0, "error_rate": 0.0}.get(self.parameter)

    @property
    def told(self) -> str:
        """For people to read."""
        return f"{self.true:g}".replace("inf", "∞").replace("-", "−")


def run_folder(task: str, seed: int, options: Options) -> Path:
    """Where the run is kept that asks the queries."""
    return RUNS / "recover_teachers" / f"{task}-{options.queries}-{options.steps}-{seed}"


def is_trained(run: Path) -> bool:
    """Whether a run has come to its end."""
    return (run / "status.json").exists() and read_json(run / "status.json").get("state") == "done"


def asked_by_a_run(task: str, seed: int, options: Options) -> Path:
    """The database of a run that asked as many queries, trained now if it was not before."""
    run = run_folder(task, seed, options)
    if is_trained(run):
        return run / "preferences.db"
    shutil.rmtree(run, ignore_errors=True)
    config = replace(default_config(task), seed=seed, labels=options.queries, steps=options.steps, run_dir=run)
    train(replace(config, threads=1, video=False, evaluation_episodes=1))
    return run / "preferences.db"


def recover(task: str, seed: int, options: Options) -> list[Recovered]:
    """Let every teacher answer the queries of one run, and fit all of them."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        database = shutil.copy(asked_by_a_run(task, seed, options), folder)
        for name, teacher in TEACHERS.items():
            answer(AnswerOptions(database, name, seed, OracleOptions(**asdict(teacher))))
        with PreferenceStore(database) as store:
            survey = read_survey(store)
    for labeller in survey.labellers:
        if labeller.name in TEACHERS:
            assert len(labeller) == options.queries
            fit = fit_teacher(labeller, survey, survey.true_return)
            found += _recovered(task, seed, labeller.name, fit)
    return found


def _recovered(task: str, seed: int, name: str, fit: FittedTeacher) -> list[Recovered]:
    told = asdict(TEACHERS[name])
    told["rationality"] = math.inf if told["rationality"] is None else told["rationality"]
    return [Recovered(task, seed, name, each, told[each], getattr(fit, each)) for each in PARAMETERS]


def as_markdown(found: Sequence[Recovered], options: Options, about: dict[str, Any], took: str) -> str:
    """The tables, and where their numbers come from."""
    stated = [each for each in found if each.fitted is not None]
    header = ["task", "teacher", "parameter", "told", f"fitted, seed {options.seeds[0]}", "95 % interval", "inside"]
    rows = []
    for task in options.tasks:
        for teacher in TEACHERS:
            for parameter, title in PARAMETERS.items():
                same = [e for e in stated if (e.task, e.teacher, e.parameter) == (task, teacher, parameter)]
                if same:
                    shown = (value(same[0].fitted), ends(same[0].fitted))
                    rows.append([task, teacher, title, same[0].told, *shown, _share(same)])
    misses = [each for each in stated if not each.inside]
    listed = "\n".join(
        f"- {e.task}, seed {e.seed}, {e.teacher}: {PARAMETERS[e.parameter]} {e.told}, "
        f"fitted {value(e.fitted)} ({ends(e.fitted)})"
        for e in misses
    )
    by_parameter = []
    for parameter, title in PARAMETERS.items():
        same = [each for each in stated if each.parameter == parameter]
        by_parameter.append([title, _share(same), _share([each for each in same if not each.at_an_end])])
    versions = ", ".join(f"{name} {about['versions'][name]}" for name in ("python", "prefrl", "numpy"))
    machine = about["machine"]
    return f"""# Known teachers, found again from their answers

Each of {len(TEACHERS)} teachers answered {options.queries:,} queries of a run of {options.steps:,} steps, on
{" and ".join(options.tasks)} with seeds {", ".join(map(str, options.seeds))}; `prefrl compare` fitted them. Of
{len(stated)} 95 % intervals {len(misses)} miss what the teacher was told ({len(misses) / max(len(stated), 1):.1%}).
Parameters of which the answers say nothing, such as skip below without a skip, are left out.

{markdown_table(["parameter", "inside", "of them not told β = ∞, γ = 1 or ε = 0"], *by_parameter)}

At such an end of a parameter's range an interval can miss on one side alone, and so seldom does. A scripted teacher's
thresholds are hard: they lie between two scores that were shown, and so within an interval that spans those.

The misses:

{listed or "none"}

{markdown_table(header, *rows)}

{took}. Machine: {machine["system"]} {machine["machine"]}, {machine["cores"]} cores. Versions: {versions}. \
Revision: {about["git_revision"]}. Begun {about["started_at"][:10]}.
Command: experiments/recover_teachers.py --tasks {" ".join(options.tasks)} --seeds {" ".join(map(str, options.seeds))}
"""


def _share(some: Sequence[Recovered]) -> str:
    return f"{sum(each.inside for each in some)} of {len(some)}"


def as_json(each: Recovered) -> dict[str, Any]:
    """Infinity as text, which JSON has no number for."""
    interval = each.fitted
    numbers = {"true": each.true} | (
        {"fitted": interval.value, "low": interval.low, "high": interval.high, "inside": each.inside}
        if interval is not None
        else {"fitted": None}
    )
    written = {name: str(x) if isinstance(x, float) and math.isinf(x) else x for name, x in numbers.items()}
    return {"task": each.task, "seed": each.seed, "teacher": each.teacher, "parameter": each.parameter, **written}


def main() -> None:
    """Run, and write what came of it."""
    options = tyro.cli(Options, description=__doc__)
    began, about = time.monotonic(), describe_here()
    trained = all(is_trained(run_folder(task, seed, options)) for task in options.tasks for seed in options.seeds)
    found = []
    for task in options.tasks:
        for seed in options.seeds:
            found += recover(task, seed, options)
            print(f"{task}, seed {seed}: {_share([each for each in found if each.fitted])} inside so far", flush=True)
    options.results.mkdir(parents=True, exist_ok=True)
    results = {"about": about, "recovered": [as_json(each) for each in found]}
    (options.results / "recover_teachers.json").write_text(json.dumps(results, indent=1) + "\n")
    took = f"{time.monotonic() - began:.0f} s, " + (
        "the runs having been trained before" if trained else "with training"
    )
    (options.results / "recover_teachers.md").write_text(as_markdown(found, options, about, took))


if __name__ == "__main__":
    main()
