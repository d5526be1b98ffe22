"""Interrupted and resumed, a run ends as if nothing had happened."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import probes  # noqa: F401  registers its environments
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from tiny_runs import LABELS, STEPS, Killed, answers_of, assert_same, killed_at, metrics_of, tiny

from prefrl.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from prefrl.config import TrainConfig
from prefrl.errors import NumericalError, UserError
from prefrl.loop import PreferenceLoop
from prefrl.preferences import PreferenceStore
from prefrl.progress import Progress
from prefrl.rollouts import Rollout
from prefrl.run import resume, train
from prefrl.run_directory import read_json

pytestmark = pytest.mark.usefixtures("empty_figures")


def interrupt(config: TrainConfig, at: int) -> None:
    with pytest.raises(Killed):
        train(config, killed_at(at))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tiny(tmp_path_factory.mktemp("runs") / "run"))


@pytest.mark.parametrize("at", [1024, STEPS])
def test_a_killed_run_ends_as_if_nothing_had_happened(tmp_path: Path, uninterrupted: Path, at: int) -> None:
    config = tiny(tmp_path / "run")
    interrupt(config, at)
    resume(tmp_path / "run")
    assert_same(tmp_path / "run", uninterrupted)
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "done"


def test_a_run_killed_again_and_again_does_too(tmp_path: Path, uninterrupted: Path) -> None:
    interrupt(tiny(tmp_path / "run"), 1024)
    for at in (1280, 1280, 1792):
        with pytest.raises(Killed):
            resume(tmp_path / "run", on_progress=killed_at(at))
    resume(tmp_path / "run")
    assert_same(tmp_path / "run", uninterrupted)


def test_a_run_that_other_code_goes_on_with_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("prefrl.run_directory.git_revision", lambda: "first")
    interrupt(tiny(tmp_path / "run"), 1024)
    with pytest.raises(Killed):
        resume(tmp_path / "run", on_progress=killed_at(1280))
    assert "resumed" not in read_json(tmp_path / "run" / "config.json")
    assert not caplog.messages
    for revision in ("second", "second"):
        monkeypatch.setattr("prefrl.run_directory.git_revision", lambda: revision)  # noqa: B023
        with pytest.raises(Killed):
            resume(tmp_path / "run", on_progress=killed_at(1536))
    about = read_json(tmp_path / "run" / "config.json")
    assert about["git_revision"] == "first"
    assert about["resumed"] == [{"env_steps": 1024, "git_revision": "second"}]
    assert [message.split(" was ")[1] for message in caplog.messages] == [
        "begun by other code (revision first, now second), so it may not end as it would have"
    ]


def test_rare_checkpoints_lose_only_the_work_since(tmp_path: Path, uninterrupted: Path) -> None:
    """What was asked after the checkpoint is found in the store, and not stored twice."""
    interrupt(tiny(tmp_path / "run"), 1024)
    kept = tmp_path / "checkpoint"
    shutil.copytree(tmp_path / "run" / "checkpoint", kept)
    with pytest.raises(Killed):
        resume(tmp_path / "run", on_progress=killed_at(STEPS))
    shutil.rmtree(tmp_path / "run" / "checkpoint")
    kept.rename(tmp_path / "run" / "checkpoint")
    resume(tmp_path / "run")
    assert_same(tmp_path / "run", uninterrupted)


def test_the_baseline_resumes_too(tmp_path: Path) -> None:
    train(tiny(tmp_path / "whole", "hopper", feedback="none"))
    interrupt(tiny(tmp_path / "run", "hopper", feedback="none"), 1280)
    resume(tmp_path / "run")
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_tensorboard_looks_as_if_nothing_had_happened(tmp_path: Path, uninterrupted: Path) -> None:
    interrupt(tiny(tmp_path / "run"), 1280)
    resume(tmp_path / "run")
    found = []
    for path in (tmp_path / "run", uninterrupted):
        events = EventAccumulator(str(path))
        events.Reload()
        found.append([(event.step, event.value) for event in events.Scalars("ppo/entropy")])
    assert found[0] == found[1]
    assert len(found[0]) == len(metrics_of(uninterrupted))


def test_fewer_steps_than_were_made_are_refused_and_the_run_is_left_as_it_is(tmp_path: Path) -> None:
    interrupt(tiny(tmp_path / "run"), 1536)
    before = (tmp_path / "run" / "config.json").read_text()
    with pytest.raises(UserError, match=r"has come to 1280 steps already; go further with --steps"):
        resume(tmp_path / "run", 768)
    assert (tmp_path / "run" / "config.json").read_text() == before


def test_a_finished_run_goes_on_with_more_steps(tmp_path: Path) -> None:
    train(tiny(tmp_path / "run", steps=4 * 256))
    with pytest.raises(UserError, match="--steps"):
        resume(tmp_path / "run")
    resume(tmp_path / "run", STEPS)
    assert [int(row["env_steps"]) for row in metrics_of(tmp_path / "run")] == list(range(3 * 256, STEPS + 1, 256))
    assert json.loads((tmp_path / "run" / "config.json").read_text())["steps"] == STEPS


def test_a_run_killed_in_its_final_evaluation_is_finished_all_the_same(
    tmp_path: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("prefrl.run_in_progress.evaluate", killed)
        with pytest.raises(Killed):
            train(tiny(tmp_path / "run"))
    assert not (tmp_path / "run" / "evaluation.json").exists()
    resume(tmp_path / "run")
    assert (tmp_path / "run" / "report.html").exists()
    assert_same(tmp_path / "run", uninterrupted)
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "done"


def test_a_torn_checkpoint_falls_back_on_the_one_before(
    tmp_path: Path, uninterrupted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    interrupt(tiny(tmp_path / "run"), 1536)
    newest = sorted((tmp_path / "run" / "checkpoint").iterdir())[-1]
    arrays = newest / "arrays.npz"
    arrays.write_bytes(arrays.read_bytes()[:-100])
    resume(tmp_path / "run")
    assert "torn" in caplog.text
    assert newest.name in caplog.text
    assert_same(tmp_path / "run", uninterrupted)


def test_without_a_whole_checkpoint_resume_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is .* a run"):
        resume(tmp_path)
    interrupt(tiny(tmp_path / "run"), 768)
    with pytest.raises(UserError, match="holds no whole checkpoint"):
        resume(tmp_path / "run")


def test_a_run_in_another_process_is_left_alone(tmp_path: Path) -> None:
    tried: list[str] = []

    def also(progress: Progress) -> None:
        if not tried:
            with pytest.raises(UserError, match=r"is being run by process \d+ on ") as refused:
                resume(tmp_path / "run")
            tried.append(str(refused.value))

    train(tiny(tmp_path / "run"), also)
    assert len(tried) == 1


def test_a_torn_checkpoint_is_not_one_of_the_two_that_are_kept(tmp_path: Path) -> None:
    for env_steps in (100, 200, 300):
        save_checkpoint(tmp_path, env_steps, {"at": env_steps})
    (tmp_path / f"{300:012d}" / "values.json").write_text("torn")
    for env_steps in (250, 280):
        save_checkpoint(tmp_path, env_steps, {"at": env_steps})
        assert load_checkpoint(tmp_path) == ({"at": env_steps}, [])
    assert [int(path.name) for path in checkpoints(tmp_path)] == [250, 280]


def test_a_checkpoint_of_another_version_is_refused_and_left(tmp_path: Path) -> None:
    interrupt(tiny(tmp_path / "run"), 1280)
    path = tmp_path / "run" / "checkpoint"
    state, _ = load_checkpoint(path)
    del state["format"]
    save_checkpoint(path, 1024, state)
    before = (tmp_path / "run" / "metrics.csv").read_text()
    with pytest.raises(UserError, match=r"of another version of prefrl; .* or move the folder away and begin anew"):
        resume(tmp_path / "run")
    assert (tmp_path / "run" / "metrics.csv").read_text() == before


def test_lost_rows_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    interrupt(tiny(tmp_path / "run"), 1536)
    metrics = tmp_path / "run" / "metrics.csv"
    metrics.write_text("\n".join(metrics.read_text().splitlines()[:2]) + "\n")
    resume(tmp_path / "run")
    assert "metrics.csv lacks rows before step 1280" in caplog.text
    assert [int(row["env_steps"]) for row in metrics_of(tmp_path / "run")] == [768, 1536, 1792, 2048]


def test_starting_where_a_run_is_going_on_says_whose_it_is(tmp_path: Path) -> None:
    tried: list[str] = []

    def also(progress: Progress) -> None:
        if not tried:
            with pytest.raises(UserError, match=r"is being run by process \d+ on ") as refused:
                train(tiny(tmp_path / "run"))
            tried.append(str(refused.value))

    train(tiny(tmp_path / "run", steps=4 * 256), also)
    assert len(tried) == 1
    with pytest.raises(UserError, match=r"exists already; go on with prefrl resume .*, or give another --run-dir$"):
        train(tiny(tmp_path / "run"))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("predictor", r"predicted reward of environment \d is nan"),
        ("loss", "the predictor's loss is "),
        ("policy", "the policy's .* holds NaN or infinity after 1280 steps"),
    ],
)
def test_numerical_trouble_stops_the_run_and_the_last_checkpoint_is_good(
    tmp_path: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch, broken: str, message: str
) -> None:
    """NaN in a weight, as a gradient that overflows would leave it, in the fifth iteration."""
    collect = PreferenceLoop._collect

    def spoilt(loop: PreferenceLoop) -> Rollout:
        assert loop.ensemble is not None
        if broken == "predictor" and loop.agent.env_steps == 1024:
            loop.ensemble.biases[-1].data.fill_(torch.nan)
        rollout = collect(loop)
        if broken == "loss" and loop.agent.env_steps == 1280:
            loop.ensemble.weights[0].data[1] = torch.inf
        if broken == "policy" and loop.agent.env_steps == 1280:
            loop.agent._ppo.policy.action_net.bias.data.fill_(torch.nan)  # type: ignore[operator]
        return rollout

    with monkeypatch.context() as patch:
        patch.setattr(PreferenceLoop, "_collect", spoilt)
        with pytest.raises(NumericalError, match=f"{message}.*; the last good checkpoint is of 1024 steps"):
            train(tiny(tmp_path / "run"))
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "failed"
    resume(tmp_path / "run")
    if broken == "loss":  # the spoilt predictor chose other queries before it was found out; their answers are kept
        assert len(answers_of(tmp_path / "run")) == len(answers_of(uninterrupted))
    else:
        assert_same(tmp_path / "run", uninterrupted)


def test_an_environment_without_a_state_to_restore_goes_on_with_new_episodes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny(tmp_path / "run", "probes/Observation-v0")
    interrupt(config, 1280)
    with PreferenceStore(tmp_path / "run" / "preferences.db") as store:
        before = store.answers()
    resume(tmp_path / "run")
    with PreferenceStore(tmp_path / "run" / "preferences.db") as store:
        assert store.answers()[: len(before)] == before, "none is lost or asked again"
        assert len(store.answers()) == LABELS
    assert "not bit for bit" in caplog.text
    assert [int(row["env_steps"]) for row in metrics_of(tmp_path / "run")] == list(range(3 * 256, STEPS + 1, 256))


def test_a_run_of_before_a_column_was_added_goes_on_with_empty_cells(tmp_path: Path, uninterrupted: Path) -> None:
    interrupt(tiny(tmp_path / "run"), 1536)
    metrics = tmp_path / "run" / "metrics.csv"
    rows = [line.split(",") for line in metrics.read_text().splitlines()]
    dropped = [rows[0].index(name) for name in ("reward/spread_ratio", "held_out/accuracy")]
    metrics.write_text("".join(",".join(c for i, c in enumerate(row) if i not in dropped) + "\n" for row in rows))
    resume(tmp_path / "run")
    found, expected = metrics_of(tmp_path / "run"), metrics_of(uninterrupted)
    assert list(found[0]) == list(expected[0])
    for row, other in zip(found, expected, strict=True):
        before = int(row["env_steps"]) <= 1280
        assert row["fit/l2"] == other["fit/l2"]
        for name in ("reward/spread_ratio", "held_out/accuracy"):
            assert row[name] == ("" if before else other[name])
