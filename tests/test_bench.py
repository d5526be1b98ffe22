import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import mujoco
import pytest

from prefrl import agent, report
from prefrl import bench as module
from prefrl.bench import RATIOS, ROWS, BareSimulator, BenchOptions, NextTurn, bench, medians, read_shares, take_turns
from prefrl.config import default_config
from prefrl.errors import UserError
from prefrl.options import PPOOptions
from prefrl.tasks import get_task


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> BenchOptions:
    """A bench of iterations of 512 steps."""
    ppo = PPOOptions(num_envs=4, num_steps=128, batch_size=256, epochs=1)
    monkeypatch.setattr(module, "default_config", lambda task: replace(default_config(task), ppo=ppo))
    monkeypatch.setattr(agent, "default_ppo", partial(agent.default_ppo, num_steps=64))
    # Seconds of drawing, after what is measured.
    monkeypatch.setattr(report, "build_report", lambda path, trust: path)
    return BenchOptions(tasks=("pendulum",), rounds=2, steps=2048, sb3_steps=512, threads=1, run_dir=tmp_path / "runs")


def test_json_is_one_object_with_every_figure_of_every_round_and_no_run_is_left(
    tiny: BenchOptions, capfd: pytest.CaptureFixture[str]
) -> None:
    bench(replace(tiny, json=True))
    result = json.loads(capfd.readouterr().out)
    assert list(result["robots"]) == ["InvertedPendulum"]
    figures = result["robots"]["InvertedPendulum"]
    assert len(figures["each_round"]) == result["rounds"] == 2
    for measured in (figures, *figures["each_round"]):
        assert set(measured) - {"each_round", "what_was_run"} == set(ROWS)
        assert all(measured[name] > 0 for name in ROWS)
        assert measured["fit_share"] + measured["label_share"] < 1
    for measured in figures["each_round"]:
        for ratio, (above, below) in RATIOS.items():
            assert measured[ratio] * measured[below] == pytest.approx(measured[above])
    assert result["machine"]["threads"] == 1
    assert result["versions"]["mujoco"]
    assert "4 synthetic answers" in figures["what_was_run"]["preference_fps"]
    assert list(tiny.run_dir.iterdir()) == []


def test_nothing_is_said_of_gymnasiums_model_files_and_no_log_is_left(
    tiny: BenchOptions, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module.sb3_default(get_task("cheetah"), default_config("cheetah"), tiny, seed=0)
    assert capfd.readouterr().err == ""
    assert list(tmp_path.iterdir()) == []


def test_table_fits_80_columns(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    options = BenchOptions()
    values = {name: 1_234_567.8 if name.endswith("_fps") else 12.3456 for name in ROWS}
    figures = {**values, "what_was_run": module._what_was_run(options, default_config("ant"))}
    versions = {"mujoco": "4.0.0", "torch": "2.13.0+cpu", "gymnasium": "1.4.0", "stable-baselines3": "2.9.2"}
    robots = dict.fromkeys(("Hopper", "HalfCheetah", "InvertedDoublePendulum"), figures)
    module.print_table(
        {"robots": robots, "rounds": 3, "machine": {"cores": 2, "threads": 2}, "versions": versions},
    )
    out = capfd.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    for text in (*ROWS.values(), *robots, "2.13.0+cpu"):
        assert text in out
    assert out.count("Simulator:") == 1  # once, not for every robot


def test_ratio_is_the_median_of_ratios_not_the_ratio_of_medians() -> None:
    def one_round(above: float, below: float) -> dict[str, float]:
        figures = dict.fromkeys(ROWS, 1.0) | {"preference_fps": above, "ppo_true_fps": below}
        return figures | module.ratios(figures)

    result = medians([one_round(10, 10), one_round(2, 4), one_round(60, 20)])
    assert (result["preference_fps"], result["ppo_true_fps"]) == (10, 10)
    assert result["preference_over_ppo_true"] == 1.0
    result = medians([one_round(10, 10), one_round(1, 4), one_round(12, 20)])
    assert result["preference_fps"] / result["ppo_true_fps"] == 1.0
    assert result["preference_over_ppo_true"] == pytest.approx(0.6)


def test_shares_are_weighted_by_the_time_of_each_row(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.csv"
    metrics.write_text("env_steps,seconds,share/fit,share/label\n3000,90,0.5,0.1\n4000,140,0.1,0.3\n")
    shares = read_shares(metrics, [30.0, 40.0])
    assert shares["fit_share"] == pytest.approx((30 * 0.5 + 10 * 0.1) / 40)
    assert shares["label_share"] == pytest.approx((30 * 0.1 + 10 * 0.3) / 40)


# Turns


def test_one_works_at_a_time_in_turn_and_is_told_its_own_seconds() -> None:
    order: list[str] = []
    told: dict[str, list[float]] = {"a": [], "b": []}

    def job(name: str, turns: int, seconds: float) -> Callable[[NextTurn], None]:
        def work(next_turn: NextTurn) -> None:
            for _ in range(turns):
                order.append(name)
                time.sleep(seconds)
                order.append(name)
                told[name].append(next_turn())

        return work

    take_turns([job("a", 4, 0.001), job("b", 2, 0.05)])
    assert "".join(order) == "aabbaabbaaaa"
    assert told["b"][-1] >= 0.1
    assert told["a"][-1] < 0.05, "without the other one's seconds"
    assert told["a"] == sorted(told["a"])


def test_the_others_stop_when_one_fails() -> None:
    turns: list[int] = []

    def endless(next_turn: NextTurn) -> None:
        while True:
            turns.append(1)
            next_turn()

    def failing(next_turn: NextTurn) -> None:
        next_turn()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        take_turns([endless, failing, endless])
    assert len(turns) == 3


@pytest.mark.parametrize(
    ("steps", "labels", "rollouts", "gradient_steps"),
    [(500_000, 175, 1, 50), (1_000_000, 350, 2, 100), (2_000_000, 700, 4, 200), (4_000_000, 700, 4, 200)],
)
def test_a_short_run_is_the_long_one_in_miniature(steps: int, labels: int, rollouts: int, gradient_steps: int) -> None:
    task, options = get_task("cheetah"), BenchOptions(steps=steps)
    ours = default_config("cheetah")
    full = replace(
        ours,
        queries=replace(ours.queries, initial_rollouts=4),
        reward=replace(ours.reward, initial_gradient_steps=200),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "default_config", lambda name: full)
        config = module._config(task, "synthetic", options, 0, Path("nowhere"))
    assert config.labels == labels
    assert config.queries.initial_rollouts == rollouts
    assert config.reward.initial_gradient_steps == gradient_steps
    assert (config.steps, config.ppo) == (steps, full.ppo)


def test_the_bare_simulator_steps_every_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    step = mujoco.mj_step

    def counted(model: object, data: object, frame_skip: int) -> None:
        calls.append(frame_skip)
        step(model, data, frame_skip)

    monkeypatch.setattr(mujoco, "mj_step", counted)
    simulator = BareSimulator(get_task("hopper"), num_envs=3, threads=2)
    simulator.advance(5)
    simulator.advance(2)
    simulator.close()
    assert calls == [4] * 21  # Hopper's frame skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (BenchOptions(tasks=("nope",)), "nope"),
        (BenchOptions(tasks=()), "no task"),
        (BenchOptions(tasks=("hopper", "hopper-backflip")), "2 of the tasks are of the robot Hopper"),
        (BenchOptions(rounds=0), "at least 1"),
    ],
)
def test_what_cannot_be_measured_is_refused(options: BenchOptions, message: str) -> None:
    with pytest.raises(UserError, match=message):
        module.measure(options)


def test_too_short_a_run_is_refused_before_anything_is_measured(
    tiny: BenchOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ours", lambda *arguments: pytest.fail("measured"))
    with pytest.raises(UserError, match="100 steps are less than one iteration"):
        bench(replace(tiny, steps=100))
