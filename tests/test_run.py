from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import probes  # noqa: F401  registers its environments
import pytest
import torch
from stable_baselines3 import PPO
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from tiny_runs import LABELS, STEPS, assert_same, metrics_of, tiny, untimed_metrics_of

from prefrl import run_directory, run_in_progress, watching
from prefrl.errors import UserError
from prefrl.options import RewardOptions
from prefrl.preferences import PreferenceStore
from prefrl.progress import Progress
from prefrl.reward_wrapper import PredictedReward
from prefrl.run import train
from prefrl.run_directory import git_revision
from prefrl.stopping import Stopped
from prefrl.watching import watch

pytestmark = pytest.mark.usefixtures("empty_figures")


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run, shared by the tests that only look at it."""
    return train(tiny(tmp_path_factory.mktemp("runs") / "nested" / "run"))


def test_what_is_learnt_does_not_depend_on_how_many_cores_there_are(tmp_path: Path) -> None:
    for cores in (1, 2):
        torch.set_num_threads(cores)
        train(tiny(tmp_path / str(cores), threads=cores))
    assert_same(tmp_path / "1", tmp_path / "2")


# What a run leaves.


def test_a_run_leaves_its_whole_truth(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names >= {
        *("config.json", "metrics.csv", "preferences.db", "policy.zip", "predictor.safetensors"),
        *("calibration.json", "evaluation.json", "report.html", "status.json", "videos"),
    }
    assert not any("unfinished" in name for name in names)
    status = read(finished / "status.json")
    assert (status["state"], status["env_steps"], status["steps"], status["message"]) == ("done", STEPS, STEPS, "")


def test_config_json_says_everything_resolved(finished: Path) -> None:
    config = read(finished / "config.json")
    assert (config["task"], config["seed"], config["steps"], config["labels"]) == ("reacher", 0, STEPS, LABELS)
    assert config["feedback"] == "synthetic"
    assert config["options"]["horizon"] == 50
    assert config["options"]["queries"]["segment_steps"] == 5
    assert config["options"]["reward"]["members"] == RewardOptions.members
    assert config["versions"]["gymnasium"] == gymnasium.__version__
    assert set(config["versions"]) >= {"prefrl", "python", "gymnasium", "mujoco", "numpy", "stable-baselines3"}


def test_metrics_have_a_row_per_iteration_and_the_columns_that_are_promised(finished: Path) -> None:
    rows = metrics_of(finished)
    assert [int(row["env_steps"]) for row in rows] == list(range(3 * 256, STEPS + 1, 256)), "after the random policy"
    promised = """seconds steps_per_second share/simulate share/policy share/predict share/fit share/label share/ppo
        true_return predicted_return reward/mean reward/std reward/correlation reward/segment_correlation labels/wanted
        labels/asked labels/answered fit/train_loss fit/validation_loss fit/l2 fit/accuracy ppo/approx_kl
        reward/spread reward/spread_ratio held_out/accuracy held_out/confidence held_out/calibration_error
        held_out/predictions ppo/clip_fraction ppo/entropy ppo/explained_variance ppo/std ppo/value_loss"""
    assert set(rows[0]) >= set(promised.split())
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds)
    assert rows[-1]["labels/answered"] == str(LABELS)
    assert all("nan" not in row.values() for row in rows), "what was not measured is an empty cell"


def test_tensorboard_has_the_same_numbers(finished: Path) -> None:
    events = EventAccumulator(str(finished))
    events.Reload()
    rows = metrics_of(finished)
    for name in ("reward/std", "fit/train_loss", "ppo/entropy"):
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert found == [(int(row["env_steps"]), pytest.approx(float(row[name]), rel=1e-4)) for row in rows]


def test_the_evaluation_is_of_whole_episodes(finished: Path) -> None:
    evaluation = read(finished / "evaluation.json")
    assert (evaluation["episodes"], evaluation["env_steps"]) == (2, STEPS)
    for summary in (evaluation["true_return"], evaluation["measures"]["final_distance"]):
        assert len(summary["values"]) == 2
        assert summary["mean"] == pytest.approx(np.mean(summary["values"]))
        assert summary["std"] == pytest.approx(np.std(summary["values"]))


def test_the_evaluated_returns_are_those_of_the_saved_policy(finished: Path) -> None:
    """Played again with Stable-Baselines3 and gymnasium alone."""
    policy = PPO.load(finished / "policy.zip", device="cpu")
    env = gymnasium.make("prefrl/Reacher-v0")
    for i, expected in enumerate(read(finished / "evaluation.json")["true_return"]["values"]):
        observation, _ = env.reset(seed=1_000_000 + i)
        total, over = 0.0, False
        while not over:
            observation, reward, _, over, _ = env.step(policy.predict(observation, deterministic=True)[0])
            total += float(reward)
        assert total == pytest.approx(expected, abs=0.02)


def test_the_answers_are_in_the_database(finished: Path) -> None:
    with PreferenceStore(finished / "preferences.db") as store:
        counts, segment = store.counts(), store.queries()[0].segments[0]
    assert (counts["queries"], counts["answers"]) == (LABELS, LABELS)
    assert segment.length == 5
    assert segment.qpos is not None


def test_the_predictor_can_be_put_to_use(finished: Path) -> None:
    env = PredictedReward(gymnasium.make("prefrl/Reacher-v0"), finished / "predictor.safetensors")
    env.reset(seed=0)
    assert np.isfinite(float(env.step(np.zeros(2, np.float32))[1]))


def test_a_run_on_the_true_reward_leaves_no_predictor_and_no_answers(tmp_path: Path) -> None:
    path = train(tiny(tmp_path / "run", feedback="none"))
    names = {entry.name for entry in path.iterdir()}
    assert not names & {"preferences.db", "predictor.safetensors"}
    assert names >= {"policy.zip", "evaluation.json", "report.html"}
    assert read(path / "config.json")["labels"] == 0
    assert [int(row["env_steps"]) for row in metrics_of(path)] == list(range(256, STEPS + 1, 256))


def test_the_same_seed_leaves_the_same_metrics_on_two_threads_too(tmp_path: Path) -> None:
    paths = [train(tiny(tmp_path / name, threads=2, steps=4 * 256)) for name in ("one", "again")]
    assert untimed_metrics_of(paths[0]) == untimed_metrics_of(paths[1])
    assert read(paths[0] / "evaluation.json") == read(paths[1] / "evaluation.json")


def test_progress_is_reported_after_each_iteration(tmp_path: Path) -> None:
    seen: list[Progress] = []
    train(tiny(tmp_path / "run"), seen.append)
    assert [progress.env_steps for progress in seen] == list(range(3 * 256, STEPS + 1, 256))
    assert seen[-1].labels == LABELS
    assert not np.isnan(seen[-1].true_return)
    assert seen[-1].steps_per_second > 0


def test_a_discrete_environment_of_the_users_trains_from_end_to_end(tmp_path: Path) -> None:
    path = train(tiny(tmp_path / "run", "CartPole-v1", horizon=30))
    assert read(path / "status.json")["state"] == "done"
    values = read(path / "evaluation.json")["true_return"]["values"]
    assert all(0 < value <= 30 for value in values)


# Videos.


def test_an_environment_with_its_own_rendering_is_filmed(tmp_path: Path) -> None:
    path = train(tiny(tmp_path / "run", "probes/Drawn-v0", video=True, steps=6 * 256))
    names = sorted(video.name for video in (path / "videos").iterdir())
    assert names == ["050.mp4", "075.mp4", "final.mp4"], "the random policy's third of the run has no video of its own"
    assert all(video.stat().st_size > 500 for video in (path / "videos").iterdir())
    watch(path, episodes=1)
    assert (path / "videos" / "watch.mp4").exists()


def test_an_environment_that_cannot_be_rendered_trains_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "prefrl"):
        path = train(tiny(tmp_path / "run", "probes/Observation-v0", video=True))
    assert read(path / "status.json")["state"] == "done"
    assert "no video" in caplog.text
    assert list((path / "videos").iterdir()) == []


# Refusals: nothing is made, nothing is overwritten.


def test_an_existing_folder_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"run exists already; give another --run-dir"):
        train(tiny(tmp_path / "run"))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.txt"]
    assert (tmp_path / "run" / "thesis.txt").read_text() == "years of work"


def test_a_finished_run_is_not_trained_over(finished: Path) -> None:
    before = {path.name: path.read_bytes() for path in finished.iterdir() if path.is_file()}
    with pytest.raises(UserError, match="exists already"):
        train(tiny(finished))
    assert {path.name: path.read_bytes() for path in finished.iterdir() if path.is_file()} == before


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot create .*run: Not a directory; give another --run-dir"):
        train(tiny(tmp_path / "file" / "run"))
    with pytest.raises(UserError, match="cannot create /proc/run"):
        train(tiny(Path("/proc/run")))


@pytest.mark.parametrize("probe", ["Image", "Dictionary", "Unbounded", "CountsFromOne"])
def test_an_environment_that_cannot_be_used_is_refused_before_it_has_a_folder(tmp_path: Path, probe: str) -> None:
    with pytest.raises(UserError, match=f"{probe}-v0"):
        train(tiny(tmp_path / "run", f"probes/{probe}-v0"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        ("NanObservation", r"observation of environment \d is nan"),
        ("InfiniteReward", r"reward of environment \d is inf"),
        ("EndsEarly", "ended an episode after 5 of 16 steps"),
    ],
)
def test_an_environment_that_misbehaves_is_refused_before_it_has_a_folder(
    tmp_path: Path, probe: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        train(tiny(tmp_path / "run", f"probes/{probe}-v0"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("feedback", ["synthetic", "none"])
def test_one_that_misbehaves_later_ends_the_run_as_failed(tmp_path: Path, feedback: str) -> None:
    with pytest.raises(UserError, match=r"observation of environment \d is nan") as failure:
        train(tiny(tmp_path / "run", "probes/NanLater-v0", feedback=feedback))
    assert "\n" not in str(failure.value)
    status = read(tmp_path / "run" / "status.json")
    assert (status["state"], status["message"]) == ("failed", str(failure.value))


def test_a_run_that_fails_in_the_middle_keeps_what_it_learnt(tmp_path: Path) -> None:
    def fail(progress: Progress) -> None:
        if progress.env_steps == 1024:
            raise OSError("the disk is full")

    with pytest.raises(UserError, match=r"the disk is full; make room or mend it"):
        train(tiny(tmp_path / "run"), fail)
    status = read(tmp_path / "run" / "status.json")
    assert (status["state"], status["env_steps"], status["message"]) == ("failed", 1024, "the disk is full")
    PPO.load(tmp_path / "run" / "policy.zip", device="cpu")
    assert len(metrics_of(tmp_path / "run")) == 2


def test_a_run_that_fails_in_its_evaluation_is_not_left_as_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise UserError("the evaluation went wrong")

    monkeypatch.setattr(run_in_progress, "evaluate", fail)
    with pytest.raises(UserError, match="the evaluation went wrong"):
        train(tiny(tmp_path / "run"))
    assert read(tmp_path / "run" / "status.json")["state"] == "failed"
    assert (tmp_path / "run" / "policy.zip").exists()


# Ctrl-C.


@pytest.mark.parametrize("after", [0, 768])
def test_ctrl_c_ends_cleanly_with_the_run_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.env_steps >= after:
            raise KeyboardInterrupt

    if not after:  # before the first iteration, among the first answers

        def submit(*_: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("prefrl.oracles.synthetic.SyntheticOracle.submit", submit)
    with pytest.raises(Stopped, match=f"of {STEPS} steps; saved in"):
        train(tiny(tmp_path / "run"), interrupt)
    path = tmp_path / "run"
    status = read(path / "status.json")
    assert status["state"] == "stopped"
    assert status["env_steps"] == max(after, 256), "the first answers are about the first iteration"
    assert {"policy.zip", "predictor.safetensors", "evaluation.json", "report.html"} <= {p.name for p in path.iterdir()}
    PPO.load(path / "policy.zip", device="cpu")


# Watching.


def test_watching_evaluates_again(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "film", lambda *_, **__: None)
    evaluation, _ = watch(finished, episodes=2)
    np.testing.assert_allclose(
        evaluation.true_returns, read(finished / "evaluation.json")["true_return"]["values"], atol=0.02
    )
    assert watch(finished, episodes=1, seed=7)[0].true_returns != evaluation.true_returns[:1]
    assert watch(finished, episodes=1, deterministic=False)[0].true_returns != evaluation.true_returns[:1]


def test_what_is_no_run_cannot_be_watched(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json"):
        watch(tmp_path)
    with pytest.raises(UserError, match=r"config\.json"):
        watch(tmp_path / "nothing")
    (tmp_path / "config.json").write_text('{"options": {"task": "hopper"}}')
    with pytest.raises(UserError, match=r"holds no policy\.zip"):
        watch(tmp_path)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_package_inside_somebody_elses_repository_has_no_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
        subprocess.run(["git", "-C", tmp_path, *identity, *arguments], check=True, capture_output=True)

    module = tmp_path / ".venv" / "prefrl" / "run_directory.py"
    module.parent.mkdir(parents=True)
    module.touch()
    monkeypatch.setattr(run_directory, "__file__", str(module))
    git("init")
    git("commit", "--allow-empty", "--message", "theirs")
    assert git_revision() == ""
    git("add", ".")
    git("commit", "--message", "the package's own")
    assert re.fullmatch("[0-9a-f]{12}", git_revision())
    module.write_text("# changed")
    assert git_revision().endswith("-dirty")
