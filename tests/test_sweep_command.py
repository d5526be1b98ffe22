"""`prefrl sweep` as typed: the plan, the lines, the results."""

from __future__ import annotations

import json
import math
import sys
import threading
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from tiny_runs import metrics_of
from tiny_sweeps import CONDITIONS, OPTIONS, Scripted, pretend, tiny_sweep, uninterrupted, write_sweep

from prefrl.cli import main
from prefrl.errors import UserError
from prefrl.sweep import Outcome, Trial, read_results, write_results
from prefrl.sweep import command as command_module
from prefrl.sweep.collecting import CURVE, collect, curve_of, known_outcomes, random_return, without_nan
from prefrl.sweep.speeds import speeds_in

pytestmark = pytest.mark.usefixtures("empty_figures")

SWEEP = tiny_sweep()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both of SWEEP's trials, finished."""
    folder = tmp_path_factory.mktemp("trials")
    for trial in SWEEP.trials:
        uninterrupted(trial, folder)
    return folder


class Command:
    """Runs `prefrl sweep` in this process; returns exit code, output and error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: str | Path) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["prefrl", "sweep", *map(str, arguments)])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = self._capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    """Alone in its folder: results are looked for beside OUT too, where other tests have theirs."""
    (tmp_path / "alone").mkdir()
    return tmp_path / "alone"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """In a folder of its own, with an engine that finishes everything at once."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "tiny.py").write_text(
        f"from prefrl.sweep import Sweep\nSWEEP = Sweep('Tiny', ('reacher',), {CONDITIONS!r}, (0, 1), {OPTIONS!r})\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(command_module, "Pool", lambda workers: Scripted(slots=workers))
    return Command(monkeypatch, capsys)


# The plan.


def test_a_dry_run_says_what_there_is_to_do_and_does_nothing(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times as fast on the true reward as from answers, as the directories say."""
    monkeypatch.setattr(command_module, "Pool", lambda workers: pytest.fail("was run"))
    monkeypatch.setattr("prefrl.run.train", lambda *_: pytest.fail("was measured"))
    root = Path("runs/trials")
    for condition, state, seconds in (("true reward", "done", 1), ("40 answers", "failed", 5)):
        directory = pretend(Trial("reacher", condition, 0, {**OPTIONS, **CONDITIONS[condition]}), root, state)
        (directory / "metrics.csv").write_text(f"env_steps,seconds,steps_per_second,true_return\n1024,{seconds},1,-9\n")
    (directory / "checkpoint" / "000000001024").mkdir(parents=True)
    before = {path: path.stat().st_mtime_ns for path in sorted(root.rglob("*"))}
    code, out, _ = command("tiny", "--dry-run", "--workers", "1")
    assert code == 0
    assert {path: path.stat().st_mtime_ns for path in sorted(root.rglob("*"))} == before
    rows = [line.split() for line in out.splitlines()]
    assert [
        "reacher",
        "40",
        "answers",
        "-",
        "1",
        "(1,024)",
        "1",
        "0:15",
    ] in rows  # 1024 + 2048 steps at 204.8 per second
    assert ["reacher", "true", "reward", "1", "-", "1", "0:02"] in rows
    assert "4 trials in runs/trials: 1 done, 1 unfinished, 2 to run" in out
    assert "about 0:17 with 1 at a time" in out
    assert "steps/s, seen in runs/trials: reacher" in out
    assert max(map(len, out.splitlines())) <= 80


def test_what_has_never_run_is_measured_and_leaves_nothing(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefrl.sweep.speeds.MEASURED_SECONDS", 0.0)
    code, out, _ = command("tiny", "--dry-run", "--conditions", "true reward")
    assert code == 0
    assert "2 trials in runs/trials: 0 done, 0 unfinished, 2 to run" in out
    (line,) = (line for line in out.splitlines() if line.startswith("steps/s, measured for some seconds, alone:"))
    assert float(line.rpartition(" ")[2].replace(",", "")) > 100
    assert not Path("runs").exists()


def test_a_trial_that_is_measured_asks_nothing_of_its_own_store(command: Command, tmp_path: Path) -> None:
    path = write_sweep(tmp_path / "kept", store=str(tmp_path / "kept.db")) / "experiments" / "tiny.py"
    code, out, _ = command(path, "--dry-run")
    assert code == 0
    assert "1 trial in runs/trials: 0 done" in out
    assert not (tmp_path / "kept.db").exists()


def test_a_strangers_folder_among_the_runs_is_passed_over(tmp_path: Path) -> None:
    metrics = "env_steps,seconds,steps_per_second,true_return\n1024,2,1,-9\n"
    for name, config in (("mine", "{}"), ("a run", '{"task": "reacher", "feedback": "none"}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(config)
        (tmp_path / name / "metrics.csv").write_text(metrics)
    assert speeds_in(tmp_path) == {("reacher", "none"): 512.0}


# Running.


def test_every_trial_has_its_lines_and_the_second_time_there_is_nothing_to_do(command: Command, root: Path) -> None:
    Path("runs").mkdir()
    Path("runs/trials").symlink_to(root)
    code, out, err = command("tiny", "--seeds", "0")
    assert (code, err) == (0, "")
    assert "2 trials in runs/trials: 2 done, 0 running, 0 waiting" in out
    assert "all done: 2 trials" in out
    assert "started" not in out
    assert "\x1b" not in out
    assert "2 trials collected: experiments/results/tiny" in out
    assert len(read_results(Path("experiments/results/tiny")).outcomes) == 2


def test_a_part_writes_no_results_and_says_which_command_does(command: Command) -> None:
    code, out, _ = command("tiny", "--part", "2/3")
    assert code == 0
    assert "started    reacher, 40 answers, seed 1" in out
    assert "done       reacher, 40 answers, seed 1" in out
    assert "when all parts are done, prefrl sweep tiny --collect writes the results" in out
    assert not Path("experiments/results").exists()
    _, out, _ = command("tiny", "--part", "2/3", "--root", "my runs", "--out", "here", "--quick")
    assert "prefrl sweep tiny --collect --quick --root 'my runs' --out here writes" in out


def test_failures_are_summarised_last_with_their_logs_and_the_exit_code_says_so(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Trial("reacher", "40 answers", 1, OPTIONS)
    Path("runs/trials").mkdir(parents=True)
    Path(f"runs/trials/{bad.id}.log").write_text("noise\n2026-11-23 07:00:00  failed: no such file\n")
    monkeypatch.setattr(command_module, "Pool", lambda workers: Scripted({bad.id: [1]}))
    code, out, _ = command("tiny", "--part", "1/1")
    assert code == 1
    assert out.splitlines()[-3:-1] == [
        "1 of 4 trials not finished:",
        f"  reacher, 40 answers, seed 1: no such file; log: runs/trials/{bad.id}.log",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tinny",), "no sweep experiments/tinny.py; experiments/ has tiny"),
        (("tiny", "--tasks", "hoper"), "no trial has the task 'hoper'"),
        (("tiny", "--threads", "0"), "give --threads and --workers 1 or more"),
        (("tiny", "--address", "auto"), "--address and --resources are of --engine ray"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(command: Command, arguments: tuple[str, ...], message: str) -> None:
    code, _, err = command(*arguments)
    assert code == 1
    assert message in err
    assert err.count("\n") == 1
    assert not Path("runs").exists()


@pytest.mark.parametrize("mode", [(), ("--dry-run",), ("--quick",)])
def test_a_trial_that_would_ask_people_is_refused(command: Command, tmp_path: Path, mode: tuple[str, ...]) -> None:
    path = write_sweep(tmp_path / "people", feedback="people") / "experiments" / "tiny.py"
    code, _, err = command(path, *mode)
    assert code == 1
    assert "reacher, 40 answers, seed 0 asks people, whom a sweep cannot wait for" in err


def test_without_ray_its_engine_says_what_to_install(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "prefrl.sweep.ray_engine", raising=False)
    code, _, err = command("tiny", "--engine", "ray")
    assert (code, err.count("\n")) == (1, 1)
    assert "--engine ray needs Ray, which is not installed: pip install 'ray>=2.49'" in err


def test_quick_runs_are_kept_apart(command: Command) -> None:
    code, out, _ = command("tiny", "--quick", "--part", "1/4")
    assert code == 0
    assert "1 trial in runs/trials-quick" in out
    assert not Path("runs/trials").exists()
    assert len(list(Path("runs/trials-quick").glob("*/status.json"))) == 1


# Collecting.


def test_an_outcome_says_what_the_run_directory_does(root: Path, tmp_path: Path) -> None:
    results = collect("tiny", SWEEP, root, tmp_path)
    for trial, outcome in zip(SWEEP.trials, results.outcomes, strict=True):
        config = json.loads((root / trial.id / "config.json").read_text())
        rows = metrics_of(root / trial.id)
        assert (outcome.id, outcome.condition, outcome.seed) == (trial.id, trial.condition, 0)
        assert outcome.labels == config["labels"] == (40 if trial.condition == "40 answers" else 0)
        assert outcome.evaluation == json.loads((root / trial.id / "evaluation.json").read_text())
        assert outcome.versions == config["versions"]
        assert outcome.seconds == pytest.approx(float(rows[-1]["seconds"]), abs=0.05)
        assert outcome.curve["env_steps"] == [int(row["env_steps"]) for row in rows if row["true_return"]]
        assert outcome.curve["true_return"] == pytest.approx(
            [float(row["true_return"]) for row in rows if row["true_return"]], rel=1e-4
        )
        assert set(outcome.curve) == {"env_steps", *(name for name in CURVE if name in rows[0])}
    assert results.missing == []


def test_what_is_written_is_strict_json_and_reads_back(root: Path, tmp_path: Path) -> None:
    results = collect("tiny", SWEEP, root, tmp_path)
    write_results(results, tmp_path)

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    for path in (tmp_path / "sweep.json", tmp_path / "trials.jsonl"):
        for text in path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
            json.loads(text, parse_constant=refuse)
    assert read_results(tmp_path) == results


def test_a_curve_is_the_mean_of_hundredths_and_gaps_stay_gaps() -> None:
    steps = np.arange(1.0, 251.0)
    returns = np.where(steps > 50, steps**2, np.nan)
    correlation = np.where((steps > 150) & (steps % 2 == 0), 0.5, np.nan)
    found = curve_of({"env_steps": steps, "true_return": returns, "reward/correlation": correlation})
    assert set(found) == {"env_steps", "true_return", "reward/correlation"}
    assert {len(values) for values in found.values()} == {100}
    pairs = steps[50:].reshape(100, 2)
    assert found["true_return"] == pytest.approx((pairs**2).mean(axis=1).tolist(), rel=1e-4)
    assert found["env_steps"] == [round(pair.mean()) for pair in pairs]
    assert found["reward/correlation"] == [None] * 50 + [0.5] * 50
    outcome = Outcome("", "", "", 0, "", "", "", {}, {}, 0, 0, 0.0, {}, found, [])
    np.testing.assert_array_equal(outcome.metrics()["reward/correlation"], [np.nan] * 50 + [0.5] * 50)


def test_a_short_runs_curve_has_all_its_rows() -> None:
    found = curve_of({"env_steps": np.arange(3.0), "true_return": np.array([np.nan, 4.0, 5.0])})
    assert found == {"env_steps": [1, 2], "true_return": [4.0, 5.0]}
    assert curve_of({"env_steps": np.arange(3.0), "true_return": np.full(3, np.nan)}) == {
        "env_steps": [],
        "true_return": [],
    }


def test_numbers_that_are_none_become_none() -> None:
    assert without_nan({"a": [1.0, math.nan, {"b": math.inf}], "c": "nan"}) == {
        "a": [1.0, None, {"b": None}],
        "c": "nan",
    }


def test_results_of_trials_that_are_not_here_stay(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = collect("tiny", SWEEP, root, tmp_path / "out")
    write_results(first, tmp_path / "out")
    monkeypatch.setattr("prefrl.sweep.collecting.random_return", lambda spec: pytest.fail("is known already"))
    (tmp_path / "nothing").mkdir()
    more = replace(SWEEP, seeds=(0, 1), conditions={"forty": {}, "true reward": {"feedback": "none"}})
    kept = collect("tiny", more, tmp_path / "nothing", tmp_path / "out")
    assert [each.condition for each in kept.outcomes] == ["forty", "true reward"], "a condition may be renamed"
    assert [each.id for each in kept.outcomes] == [each.id for each in first.outcomes]
    assert kept.missing == ["reacher, forty, seed 1", "reacher, true reward, seed 1"]


def test_another_machine_goes_on_with_what_has_no_outcome_yet(command: Command, root: Path) -> None:
    """Run directories stay where they were made; results travel with the repository."""
    out = Path("experiments/results/tiny")
    write_results(collect("tiny", SWEEP, root, out), out)
    code, text, _ = command("tiny", "--missing", "--part", "1/1")
    assert code == 0
    assert "2 of 4 trials have an outcome in experiments/results" in text
    assert "2 trials in runs/trials" in text
    assert "seed 0" not in text
    assert "started    reacher, true reward, seed 1" in text
    code, text, _ = command("tiny", "--missing", "--seeds", "0")
    assert code == 0
    assert "all done: 0 trials" in text
    assert len(read_results(out).outcomes) == 2, "untouched"
    code, text, _ = command("tiny", "--dry-run", "--root", "elsewhere")
    assert code == 0
    assert "2 of 4 trials, not done here, have an outcome in experiments/results; --missing leaves them out" in text
    assert "--missing" not in command("tiny", "--dry-run", "--seeds", "1")[1]


def test_runs_of_a_source_that_nobody_can_check_out_are_told_of(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for revision, told in (("abc-dirty", True), ("abc", False), ("", False)):
        monkeypatch.setattr(command_module, "git_revision", lambda revision=revision: revision)
        said = "these runs will name abc-dirty, which nobody can check out"
        assert (said in command("tiny", "--seeds", "1")[1]) == told
        assert said not in command("tiny", "--seeds", "1", "--dry-run")[1]


@pytest.mark.parametrize("there", [0, 1])
def test_what_other_sweeps_have_is_collected_where_nothing_is_left_to_run(
    command: Command, root: Path, there: int
) -> None:
    """Into an empty folder and beside what it has."""
    own, other = Path("experiments/results/tiny"), Path("experiments/results/other")
    results = collect("tiny", SWEEP, root, other)
    write_results(results, other)
    if there:
        write_results(replace(results, outcomes=results.outcomes[:there]), own)
    code, text, _ = command("tiny", "--missing", "--seeds", "0")
    assert (code, "all done: 0 trials" in text) == (0, True)
    assert len(read_results(own).outcomes) == 2


def test_of_one_run_the_line_with_most_columns_is_kept(root: Path, tmp_path: Path) -> None:
    """Another sweep may have collected it by a version that keeps more."""
    out, other = tmp_path / "tiny", tmp_path / "other"
    results = collect("tiny", SWEEP, root, out)
    (poor, rich) = (
        replace(results, outcomes=tuple(replace(each, date=date, curve=keep(each.curve)) for each in results.outcomes))
        for date, keep in (("2026-01-01", lambda curve: {"env_steps": curve["env_steps"]}), ("2026-01-02", dict))
    )
    for own, neighbour, date in ((poor, rich, "2026-01-02"), (rich, poor, "2026-01-02"), (poor, poor, "2026-01-01")):
        write_results(own, out)
        write_results(neighbour, other)
        assert {each.date for each in known_outcomes(SWEEP, out).values()} == {date}


def test_commands_that_write_to_one_folder_wait_for_each_other(
    command: Command, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that began to collect first would write its older view last."""
    out = Path("experiments/results/tiny")
    collecting, free = threading.Event(), threading.Event()

    def slow(*arguments: Any) -> Any:
        found = collect(*arguments)
        collecting.set()
        assert free.wait(60)
        return replace(found, outcomes=found.outcomes[:1])  # what there was when it began

    monkeypatch.setattr(command_module, "collect", slow)
    first = threading.Thread(target=command_module._publish, args=("tiny", SWEEP, root, out))
    first.start()
    assert collecting.wait(60)
    monkeypatch.setattr(command_module, "collect", collect)
    second = threading.Thread(target=command_module._publish, args=("tiny", SWEEP, root, out))
    second.start()
    second.join(0.3)
    assert second.is_alive()
    assert not out.exists()
    free.set()
    first.join()
    second.join()
    assert len(read_results(out).outcomes) == 2


def test_trials_that_would_share_a_store_are_refused(command: Command) -> None:
    path = Path("shared.py")
    path.write_text(
        "from prefrl.sweep import Sweep\n"
        f"SWEEP = Sweep('Shared', ('reacher',), {{'forty': {{'store': 'all.db'}}}}, (0, 1), {OPTIONS!r})\n"
    )
    code, _, err = command(str(path), "--dry-run")
    assert code == 1
    assert "would train on each other's answers in" in err


def test_a_run_that_another_sweep_has_collected_is_taken_from_there(root: Path, tmp_path: Path) -> None:
    write_results(collect("tiny", SWEEP, root, tmp_path / "tiny"), tmp_path / "tiny")
    (tmp_path / "nothing").mkdir()
    other = replace(SWEEP, title="Other", conditions={"forty": {}, "fifty": {"labels": 50}}, baseline=None)
    (found,) = collect("other", other, tmp_path / "nothing", tmp_path / "other").outcomes
    (there,) = (each for each in read_results(tmp_path / "tiny").outcomes if each.condition == "40 answers")
    assert found == replace(there, condition="forty")


@pytest.mark.parametrize(
    "changed",
    [
        {"conditions": {"true reward": {"feedback": "none"}}},  # narrower
        {"conditions": {**CONDITIONS, "40 answers": {"ppo.gamma": 0.9}}},
        {"tasks": ("swimmer",)},  # another sweep of the same name
    ],
)
def test_results_that_would_be_lost_are_refused(root: Path, tmp_path: Path, changed: dict[str, Any]) -> None:
    write_results(collect("tiny", SWEEP, root, tmp_path), tmp_path)
    with pytest.raises(UserError, match=rf"[12] of 2 outcomes in {tmp_path} are of no trial of this sweep.*--out"):
        collect("tiny", replace(SWEEP, **changed), root, tmp_path)
    assert len(read_results(tmp_path).outcomes) == 2


def test_a_table_of_something_else_is_not_overwritten(command: Command) -> None:
    out = Path("notes")
    out.mkdir()
    (out / "notes.md").write_text("is in nobody's way")
    assert command("tiny", "--dry-run", "--tasks", "reacher", "--out", out, "--part", "1/4")[0] == 0
    for name in ("tiny.md", "report.html"):
        (out / name).write_text("measured by hand")
        for mode in ((), ("--dry-run",)):
            code, _, err = command("tiny", "--out", out, *mode)
            assert (code, f"notes/{name} would be overwritten, and notes has no sweep.json" in err) == (1, True)
        assert (out / name).read_text() == "measured by hand"
        (out / name).unlink()
    assert not Path("runs").exists()


def test_results_under_another_default_are_not_taken_for_todays(root: Path, tmp_path: Path) -> None:
    results = collect("tiny", SWEEP, root, tmp_path)
    older = deepcopy(results.outcomes[0].learnt_from)
    older["ppo"]["gae_lambda"] = 0.5  # the default then: so the id is today's
    write_results(
        replace(results, outcomes=(replace(results.outcomes[0], learnt_from=older), *results.outcomes[1:])), tmp_path
    )
    with pytest.raises(UserError, match="1 of 2 outcomes"):
        collect("tiny", SWEEP, root, tmp_path)
    del older["ppo"]["gae_lambda"]  # an option that was not known then
    write_results(replace(results, outcomes=(replace(results.outcomes[0], learnt_from=older),)), tmp_path)
    assert len(collect("tiny", SWEEP, root, tmp_path).outcomes) == 2


def test_results_that_were_cut_short_are_named_before_anything_runs(command: Command, root: Path) -> None:
    out = Path("experiments/results/tiny")
    write_results(collect("tiny", SWEEP, root, out), out)
    whole = (out / "trials.jsonl").read_text()
    (out / "trials.jsonl").write_text(whole[:-300])
    code, _, err = command("tiny", "--root", root)
    assert code == 1
    assert "trials.jsonl, line 2" in err
    assert "move the folder away" in err
    assert (out / "trials.jsonl").read_text() == whole[:-300]


def test_a_kill_while_results_are_written_leaves_the_old_ones(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = collect("tiny", SWEEP, root, tmp_path)
    write_results(results, tmp_path)
    monkeypatch.setattr(Path, "replace", lambda *_: pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception):
        write_results(replace(results, outcomes=()), tmp_path)
    assert len(read_results(tmp_path).outcomes) == 2


def test_a_folder_that_cannot_be_written_is_named(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write results to .*file/out: Not a directory; give another --out"):
        write_results(collect("tiny", SWEEP, root, tmp_path), tmp_path / "file" / "out")


def test_nothing_done_names_the_folder_that_was_looked_at(command: Command, tmp_path: Path) -> None:
    code, _, err = command("tiny", "--collect")
    assert code == 1
    assert f"no trial of tiny is done in {tmp_path}/runs/trials" in " ".join(err.split())
    assert "--root" in err


def test_the_random_return_is_of_the_baselines_environment(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setattr("prefrl.sweep.collecting.random_return", lambda spec: float(spec.horizon))
    sweep = replace(SWEEP, conditions={"short": {"horizon": 20}, **SWEEP.conditions})
    found = collect("tiny", sweep, root, root / "results").random_returns
    assert found == {"reacher": float(SWEEP.trials[0].config.environment().horizon)}


def test_one_run_serves_both_trials_that_are_it(root: Path, tmp_path: Path) -> None:
    twice = replace(SWEEP, conditions={"one": {}, "two": {}}, baseline=None)
    first, second = collect("tiny", twice, root, tmp_path).outcomes
    assert (first.condition, second.condition) == ("one", "two")
    assert replace(first, condition="two") == second


@pytest.mark.parametrize("task", ["reacher", "CartPole-v1"])
def test_the_random_return_is_that_of_an_environment_played_by_hand(task: str) -> None:
    """One environment after the other, with gymnasium's own random actions."""
    spec = Trial(task, "", 0, {"horizon": 50, "feedback": "none"}).config.environment()
    found = random_return(spec)
    env = gymnasium.make("prefrl/Reacher-v0" if task == "reacher" else task)
    env.action_space.seed(0)
    returns = []
    for episode in range(60):
        env.reset(seed=episode)
        total, over, steps = 0.0, False, 0
        while not over and steps < 50:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            total, over, steps = total + float(reward), terminated or truncated, steps + 1
        returns.append(total)
    error = float(np.std(returns)) * math.sqrt(1 / 20 + 1 / 60)
    assert found == pytest.approx(np.mean(returns), abs=4 * error)
    assert found == random_return(spec)
