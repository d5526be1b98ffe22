"""Every command, as typed: its output, its exit code, and one readable line for every mistake."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import probes
import pytest
from swept import small_sweep, swept

from prefrl import agent, cli, report
from prefrl import bench as bench_module
from prefrl import run as run_module
from prefrl.cli import main
from prefrl.clips import RenderingUnavailable
from prefrl.clips.gl import make_gl_context
from prefrl.config import TrainConfig, default_config
from prefrl.errors import UserError
from prefrl.options import PPOOptions
from prefrl.stopping import StopSignals
from prefrl.sweep import write_results
from prefrl.tasks import TASKS

TINY = shlex.split(
    "--steps 1.5e3 --labels 20 --threads 1 --evaluation-episodes 2 --no-video --queries.segment-steps 5 "
    "--queries.initial-rollouts 2 --reward.initial-gradient-steps 10 "
    "--ppo.num-envs 8 --ppo.num-steps 32 --ppo.batch-size 128 --ppo.epochs 2"
)


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


class Prefrl:
    """Runs the command in this process, as the entry point does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: str | Path) -> Outcome:
        self._monkeypatch.setattr(sys, "argv", ["prefrl", *map(str, arguments)])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = self._capsys.readouterr()
        return Outcome(int(ended.value.code or 0), captured.out, captured.err)


@pytest.fixture
def prefrl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Prefrl:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    return Prefrl(monkeypatch, capsys)


def command(*arguments: str | Path, cwd: Path) -> subprocess.Popen[str]:
    """The installed command, in a process of its own, where a user's modules lie in the current folder."""
    return subprocess.Popen(
        [Path(sys.executable).with_name("prefrl"), *map(str, arguments)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def assert_one_readable_line(outcome: Outcome, *parts: str) -> None:
    assert outcome.code == 1
    assert outcome.err.startswith("prefrl: ")
    assert outcome.err.count("\n") == 1
    assert "Traceback" not in outcome.err + outcome.out
    for part in parts:
        assert part in outcome.err


# Smoke runs.


def test_train_watch_and_report(prefrl: Prefrl, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained = prefrl("train", "reacher", *TINY, "--run-dir", run)
    assert trained.code == 0
    heading, first, *_ = trained.out.splitlines()
    assert heading == f"reacher in {run}"
    assert "/20 labels" in first, "plain lines where the output is no terminal"
    assert "20/20 labels" in trained.out
    assert "true return" in trained.out
    assert f"report: {run / 'report.html'}" in trained.out
    assert "\x1b" not in trained.out
    assert json.loads((run / "status.json").read_text())["state"] == "done"

    (run / "report.html").unlink()
    reported = prefrl("report", run)
    assert reported.code == 0
    assert str(run / "report.html") in reported.out
    assert (run / "report.html").stat().st_size > 10_000

    other = tmp_path / "other"
    shutil.copytree(run, other)
    compared = prefrl("report", run, other, "--out", tmp_path / "both.html")
    assert compared.code == 0
    assert (tmp_path / "both.html").stat().st_size > 10_000

    try:
        make_gl_context(64, 64).free()
    except RenderingUnavailable as missing:
        pytest.skip(f"no off-screen rendering here: {missing}")
    watched = prefrl("watch", run, "--episodes", "1")
    assert watched.code == 0
    assert "final_distance" in watched.out
    assert (run / "videos" / "watch.mp4").stat().st_size > 1000


def test_train_without_feedback_into_the_default_folder(prefrl: Prefrl, tmp_path: Path) -> None:
    trained = prefrl("train", "prefrl/Reacher-v0", "--feedback", "none", "--seed", "3", *TINY)
    assert trained.code == 0
    assert "labels" not in trained.out
    assert (tmp_path / "runs" / "reacher-none-3" / "report.html").exists()


def test_tasks_lists_them_all(prefrl: Prefrl) -> None:
    listed = prefrl("tasks")
    assert listed.code == 0
    for task in TASKS.values():
        assert task.name in listed.out
        assert task.gymnasium_id in listed.out
        assert task.instruction[:40] in listed.out.replace("\n", " ")


def test_bench_prints_one_json_object(prefrl: Prefrl, monkeypatch: pytest.MonkeyPatch) -> None:
    ppo = PPOOptions(num_envs=4, num_steps=128, batch_size=256, epochs=1)
    monkeypatch.setattr(bench_module, "default_config", lambda task: replace(default_config(task), ppo=ppo))
    monkeypatch.setattr(agent, "default_ppo", partial(agent.default_ppo, num_steps=64))
    monkeypatch.setattr(report, "build_report", lambda path, trust: path)
    options = "--tasks pendulum --rounds 1 --steps 2048 --sb3-steps 512 --threads 1"
    measured = prefrl("bench", "--json", *options.split())
    assert measured.code == 0
    assert json.loads(measured.out)["robots"]["InvertedPendulum"]["preference_fps"] > 0


@pytest.mark.parametrize("name", ["", "train", "resume", "watch", "report", "export", "import", "tasks", "bench"])
def test_every_command_has_help(prefrl: Prefrl, name: str) -> None:
    helped = prefrl(*([name] if name else []), "--help")
    assert helped.code == 0
    assert "usage: prefrl" in helped.out
    expected = {"": "bench", "train": "--queries.segment-steps", "watch": "--episodes", "bench": "--json"}
    assert expected.get(name, "") in helped.out


def test_help_of_a_task_shows_its_own_defaults(prefrl: Prefrl) -> None:
    assert "900" in prefrl("train", "hopper-backflip", "--help").out


@pytest.mark.parametrize("typed", [["hopper-backflip", "--seed", "1"], ["--seed", "1", "hopper-backflip"]])
def test_a_task_has_its_own_defaults_wherever_it_stands(typed: list[str]) -> None:
    parsed = cli._parse(["train", *typed])
    assert isinstance(parsed, TrainConfig)
    assert (parsed.labels, parsed.seed) == (900, 1)


def test_the_installed_command_finds_a_module_in_its_folder_and_when_asked_to_stop_saves_and_can_go_on(
    prefrl: Prefrl, tmp_path: Path
) -> None:
    shutil.copy(probes.__file__, tmp_path)
    task = "probes:probes/Observation-v0"
    process = command("train", task, *TINY, "--steps", "1e8", "--run-dir", "run", cwd=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == f"{task} in run\n"
    assert "labels" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    asked, stopped = err.splitlines()
    assert asked == "stopping as soon as all is saved; once more stops at once"
    assert stopped.startswith("prefrl: stopped at")
    assert stopped.endswith("saved in run; prefrl resume run --trust goes on")
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["state"] == "stopped"
    assert (tmp_path / "run" / "policy.zip").exists()
    assert (tmp_path / "run" / "report.html").exists()
    further = str(status["env_steps"] + 256)
    resumed = prefrl("resume", "run", "--trust", "--steps", further)
    assert resumed.err == ""
    assert resumed.out.startswith(f"{task} in run\n")
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["state"], str(status["env_steps"])) == ("done", further)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_either_signal_asks_once_and_stops_at_once_the_second_time(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopSignals() as signals:
        signal.raise_signal(number)
        assert signals.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_who_reads_no_further_is_told_of_no_error(tmp_path: Path) -> None:
    process = command("train", "reacher", "--help", cwd=tmp_path)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert (process.stderr.read(), process.wait(timeout=60)) == ("", 128 + signal.SIGPIPE)


def test_a_command_loads_what_trains_serves_pages_draws_and_fits_teachers_only_when_it_is_used() -> None:
    late = ("torch", "stable_baselines3", "fastapi", "uvicorn", "matplotlib", "scipy.special", "scipy.stats", "ray")
    script = f"import sys, prefrl.cli; print(*(name for name in {late} if name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout == "\n"


# Mistakes.


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("hoper", ["unknown task 'hoper'", "`prefrl tasks` lists"]),
        ("Pendulum-v99", ["unknown task 'Pendulum-v99'"]),
        ("no_such_module:X-v0", ["No module named 'no_such_module'"]),
        (
            "reacher --queries.segment-steps 51",
            ["segment of 51 steps", "episodes of 50", "lower --queries.segment-steps"],
        ),
        ("reacher --queries.segment-steps 0", ["segment of 0 steps"]),
        ("reacher --labels 200", ["200 labels", "lower --labels to 150"]),
        ("reacher --labels 2", ["2 labels"]),
        ("reacher --steps 100", ["100 steps are less than one iteration of 256"]),
        ("reacher --horizon 1", ["horizon of 1 steps"]),
        ("reacher --evaluation-episodes 0", ["0 evaluation episodes"]),
        ("reacher --ppo.batch-size 4096", ["PPO batch of 4096"]),
        ("reacher --reward.error-rate 1.5", ["error rate 1.5"]),
        ("reacher --oracle.error-rate 1.5", ["error rate 1.5"]),
        ("reacher --oracle.score judge", ["reacher has no judge"]),
        ("probes/Endless-v0", ["no time limit", "--horizon N"]),
        ("probes/Image-v0", ["image observations are not supported"]),
        ("probes/Dictionary-v0", ["observations are not supported"]),
    ],
)
def test_impossible_runs_are_refused_in_one_line_and_leave_nothing(
    prefrl: Prefrl, tmp_path: Path, arguments: str, parts: list[str]
) -> None:
    task, *options = arguments.split()
    assert_one_readable_line(prefrl("train", task, *TINY, *options, "--run-dir", "run"), *parts)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("probe", "parts"),
    [
        ("EndsEarly", ["ended an episode after 5 of 16 steps"]),
        ("NanObservation", ["observation of environment ", " is nan (entry 0)"]),
        ("InfiniteReward", ["reward of environment ", " is inf"]),
    ],
)
def test_an_environment_that_misbehaves_is_named_in_one_line_and_leaves_nothing(
    prefrl: Prefrl, tmp_path: Path, probe: str, parts: list[str]
) -> None:
    outcome = prefrl("train", f"probes/{probe}-v0", *TINY, "--run-dir", "run")
    assert_one_readable_line(outcome, *parts)
    assert list(tmp_path.iterdir()) == []


def test_one_that_misbehaves_later_fails_the_run(prefrl: Prefrl, tmp_path: Path) -> None:
    outcome = prefrl("train", "probes/NanLater-v0", *TINY, "--run-dir", "run")
    assert_one_readable_line(outcome, "observation of environment ", " is nan (entry 0)")
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "failed"


def test_an_existing_run_directory_is_refused_and_untouched(prefrl: Prefrl, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("mine")
    outcome = prefrl("train", "reacher", *TINY, "--run-dir", "run")
    assert_one_readable_line(outcome, "run exists already", "give another --run-dir")
    assert [(path.name, path.read_text()) for path in (tmp_path / "run").iterdir()] == [("config.json", "mine")]


def test_an_unwritable_run_directory_is_refused(prefrl: Prefrl) -> None:
    outcome = prefrl("train", "reacher", *TINY, "--run-dir", "/proc/prefrl/run")
    assert_one_readable_line(outcome, "cannot create /proc/prefrl/run", "give another --run-dir")


@pytest.mark.parametrize("name", ["watch", "report"])
def test_what_is_no_run_is_refused(prefrl: Prefrl, name: str) -> None:
    assert_one_readable_line(prefrl(name, "nothing"), "nothing")


def test_report_of_nothing_is_refused(prefrl: Prefrl) -> None:
    assert_one_readable_line(prefrl("report"), "no run given")


def test_report_of_a_sweep_writes_its_page(prefrl: Prefrl, tmp_path: Path) -> None:
    write_results(swept(small_sweep(tasks=("hopper",), drawings=("learning",))), tmp_path / "results")
    reported = prefrl("report", tmp_path / "results")
    assert reported.code == 0
    assert reported.out.strip() == str(tmp_path / "results" / "report.html")
    assert (tmp_path / "results" / "small.md").read_text().startswith("# A sweep that never ran")


def test_damaged_results_of_a_sweep_are_refused(prefrl: Prefrl, tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text("{}")
    assert_one_readable_line(prefrl("report", tmp_path), f"{tmp_path} holds no whole results of a sweep")


def test_bench_of_an_unknown_task_is_refused(prefrl: Prefrl) -> None:
    assert_one_readable_line(prefrl("bench", "--tasks", "hoper"), "unknown task 'hoper'")


@pytest.mark.parametrize(
    "arguments",
    [
        ["train"],
        ["fly"],
        [],
        ["train", "reacher", "--no-such-option"],
        ["train", "reacher", "--steps", "many"],
        ["train", "reacher", "--steps", "-5"],
        ["train", "reacher", "--seed", "1.5"],
        ["train", "reacher", "--feedback", "bribes"],
    ],
)
def test_what_the_command_line_does_not_know_is_explained_without_a_traceback(
    prefrl: Prefrl, tmp_path: Path, arguments: list[str]
) -> None:
    outcome = prefrl(*arguments)
    assert outcome.code == 2
    assert outcome.err
    assert "Traceback" not in outcome.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (UserError("Box([-1.\n 1.]) is\nodd"), "prefrl: Box([-1. 1.]) is odd\n", 1),
        (
            OSError(28, "No space left on device"),
            "prefrl: OSError: [Errno 28] No space left on device (--debug shows",
            1,
        ),
        (KeyboardInterrupt(), "prefrl: interrupted\n", 130),
    ],
)
def test_whatever_goes_wrong_is_one_line(
    prefrl: Prefrl, monkeypatch: pytest.MonkeyPatch, error: BaseException, line: str, code: int
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(run_module, "train", fail)
    outcome = prefrl("train", "reacher", *TINY)
    assert outcome.code == code
    assert outcome.err.startswith(line)
    assert outcome.err.count("\n") == 1


def test_debug_shows_the_traceback(prefrl: Prefrl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["prefrl", "--debug", "train", "hoper"])
    with pytest.raises(UserError, match="unknown task 'hoper'"):
        main()
