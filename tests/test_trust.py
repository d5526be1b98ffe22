"""Opening a run of somebody else's executes nothing of theirs, unless one says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3 import PPO
from tiny_runs import tiny

from prefrl.cli import main
from prefrl.dataset import export_dataset
from prefrl.errors import UserError
from prefrl.report import build_report
from prefrl.run import resume, train
from prefrl.watching import watch

pytestmark = pytest.mark.usefixtures("empty_figures")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tiny(tmp_path_factory.mktemp("runs") / "run", steps=4 * 256))


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def change(run: Path, **options: Any) -> None:
    config = json.loads((run / "config.json").read_text())
    config["options"] |= options
    (run / "config.json").write_text(json.dumps(config))


MODULE = """
import pathlib
pathlib.Path(__file__).with_name("imported").touch()
import gymnasium
gymnasium.register("TheirReacher-v0", "gymnasium.envs.mujoco.reacher_v5:ReacherEnv", max_episode_steps=50)
"""


@pytest.fixture
def their_run(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that names a module, which lies in the current folder."""
    (tmp_path / "their_module.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    change(run, task="their_module:TheirReacher-v0")
    return run


def test_a_module_is_imported_only_where_it_is_trusted(their_run: Path, tmp_path: Path) -> None:
    for refused in (lambda: watch(their_run, 1), lambda: resume(their_run, 8 * 256)):
        with pytest.raises(UserError, match=r"config.json wants to import their_module, which runs .* give --trust"):
            refused()
    assert not (tmp_path / "imported").exists()
    watch(their_run, 1, trust=True)
    assert (tmp_path / "imported").exists()


def test_a_replay_takes_the_options_of_a_run_and_imports_nothing_that_was_not_typed(
    their_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["prefrl", "train", "reacher", "--replay", str(their_run / "preferences.db")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    written = json.loads((tmp_path / "runs" / "reacher-replay-0" / "config.json").read_text())
    assert (written["task"], written["steps"]) == ("reacher", 4 * 256)
    assert not (tmp_path / "imported").exists()


def test_a_policy_of_another_tool_is_opened_only_where_it_is_trusted(run: Path) -> None:
    other = PPO("MlpPolicy", "Reacher-v5", policy_kwargs={"net_arch": [8]}, n_steps=64, device="cpu")
    other.save(run / "policy.zip")
    with pytest.raises(
        UserError, match=r"does not hold this run's policy.*--trust opens it .* executes code"
    ) as refusal:
        watch(run, 1)
    assert "\n" not in str(refusal.value)
    evaluation, _ = watch(run, 2, trust=True)
    assert len(evaluation.true_returns) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no zip", "no policy that Stable-Baselines3's PPO can open"),
        (None, r"is of a policy for Box\(.*, the run's environment has Box"),
    ],
)
def test_trust_does_not_make_a_policy_fit(run: Path, content: bytes | None, message: str) -> None:
    if content is None:
        PPO("MlpPolicy", "Pendulum-v1", n_steps=64, device="cpu").save(run / "policy.zip")
    else:
        (run / "policy.zip").write_bytes(content)
    with pytest.raises(UserError, match=message):
        watch(run, 1, trust=True)


def test_a_file_outside_the_run_is_used_only_where_that_is_trusted(run: Path, tmp_path: Path) -> None:
    """Else resuming somebody's run would write into my answers, and exporting it publish them."""
    mine = tmp_path / "mine.db"
    shutil.copy(run / "preferences.db", mine)
    change(run, store=str(mine))
    before = mine.read_bytes()
    for refused in (lambda: resume(run, 8 * 256), lambda: export_dataset(run, tmp_path / "out")):
        with pytest.raises(UserError, match=r"wants to use .*mine.db, a file outside its folder; if you trust that"):
            refused()
    change(run, store=str(run / ".." / "mine.db"))
    with pytest.raises(UserError, match="a file outside its folder"):
        resume(run, 8 * 256)
    assert mine.read_bytes() == before
    change(run, store=str(tmp_path / "none.db"))
    with pytest.raises(UserError, match=r"none.db does not exist"):
        resume(run, 8 * 256, trust=True)
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize("name", ["lock", "status.json.unfinished", "metrics.csv", "videos"])
def test_a_link_in_a_run_is_not_followed(run: Path, tmp_path: Path, name: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    if (run / name).is_dir():
        shutil.rmtree(run / name)
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(precious)
    for refused in (lambda: resume(run, 8 * 256), lambda: watch(run, 1)):
        with pytest.raises(UserError, match=f"{name} is a link"):
            refused()
    assert precious.read_text() == "precious"


def test_a_server_is_connected_to_only_where_it_is_trusted(run: Path) -> None:
    change(run, store="postgresql://somebody@nowhere.invalid/name")
    with pytest.raises(UserError, match=r"wants to connect to postgresql://somebody@nowhere.invalid/name,"):
        resume(run, 8 * 256)
    with pytest.raises(UserError, match=r"nowhere.invalid(?!.*--trust)"):
        resume(run, 8 * 256, trust=True)
    assert "prefrl report --trust lets it" in build_report(run).read_text()
    assert "The store could not be read" in build_report(run, trust=True).read_text()
