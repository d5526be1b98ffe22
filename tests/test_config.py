from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import probes  # noqa: F401  registers its environments
import pytest
import tyro
from hypothesis import given
from hypothesis import strategies as st

from prefrl.config import OracleOptions, TrainConfig, default_config, parse_count
from prefrl.errors import UserError
from prefrl.options import PPOOptions, QueryOptions, RewardOptions
from prefrl.tasks import TASKS

LONG = 10**6


def config(task: str = "hopper", **options: Any) -> TrainConfig:
    """Options by name, those of a stage as `queries__segment_steps`."""
    made = TrainConfig(task, **{name: value for name, value in options.items() if "__" not in name})
    for name, value in options.items():
        if "__" in name:
            stage, option = name.split("__")
            made = replace(made, **{stage: replace(getattr(made, stage), **{option: value})})
    return made


# Numbers.


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("700", 700), ("2e6", 2_000_000), ("2_000_000", 2_000_000), ("1.5e3", 1500), ("2E6", 2_000_000)],
)
def test_whole_numbers_may_be_written_shorter(text: str, number: int) -> None:
    assert parse_count(text) == number


@pytest.mark.parametrize("text", ["-1", "1.5", "1e-3", "", "abc", "nan", "inf", "1e999", "_", "0x10", " 5"])
def test_anything_else_is_no_count(text: str) -> None:
    with pytest.raises(ValueError, match=r"whole number|could not convert"):
        parse_count(text)


@given(st.integers(0, 2**50))
def test_every_count_is_read_back(number: int) -> None:
    assert parse_count(str(number)) == parse_count(f"{number:_}") == number


def test_the_command_line_reads_counts_and_options_of_every_stage() -> None:
    arguments = "hopper --steps 2e6 --labels 1_000 --queries.segment-steps 30 --reward.no-bootstrap --ppo.num-envs 16"
    parsed = tyro.cli(TrainConfig, args=arguments.split())
    assert (parsed.steps, parsed.labels) == (2_000_000, 1000)
    assert (parsed.queries.segment_steps, parsed.reward.bootstrap, parsed.ppo.num_envs) == (30, False, 16)


# Defaults.


@pytest.mark.parametrize("task", TASKS)
def test_every_task_runs_by_default_and_without_feedback(task: str) -> None:
    for feedback in ("synthetic", "none"):
        resolved = replace(default_config(task), feedback=feedback).resolved()
        assert resolved.horizon == TASKS[task].horizon
        assert resolved.queries.segment_steps == TASKS[task].segment_steps
        assert resolved.run_dir == Path(f"runs/{task}-{feedback}-0")


def test_resolving_twice_changes_nothing() -> None:
    for task in ("hopper", "Pendulum-v1", "probes/EndsEarly-v0"):
        resolved = config(task, steps=LONG).resolved()
        assert resolved.resolved() == resolved


@pytest.mark.parametrize(("task", "steps"), [("reacher", 16), ("ant", 8), ("walker", 5), ("hopper", 4)])
def test_gradient_steps_without_a_number_take_the_same_time_on_every_task(task: str, steps: int) -> None:
    without, seven = (
        tyro.cli(TrainConfig, args=[task, "--reward.gradient-steps", number]).resolved() for number in ("None", "7")
    )
    assert without.reward.gradient_steps == steps
    assert seven.reward.gradient_steps == 7
    assert without.resolved() == without


def test_a_segment_of_any_length_is_fitted_in_a_gradient_step_at_least() -> None:
    assert RewardOptions(gradient_steps=None).resolved(1000).gradient_steps == 1
    assert RewardOptions(gradient_steps=0).resolved(1000).gradient_steps == 0


def test_a_resolved_run_still_refuses_early_ends_unless_a_horizon_was_given() -> None:
    assert not config("probes/EndsEarly-v0", steps=LONG).resolved().environment().absorb
    assert config("probes/EndsEarly-v0", steps=LONG, horizon=16).resolved().environment().absorb
    assert config("probes/EndsEarly-v0", steps=LONG, fill_early_ends=True).resolved().environment().absorb


def test_the_run_of_any_id_gets_a_folder_name() -> None:
    run_dir = config("probes:probes/Action-v0", feedback="none", seed=3).resolved().run_dir
    assert run_dir == Path("runs/probes-probes-Action-v0-none-3")
    assert config("hopper", run_dir=Path("mine")).resolved().run_dir == Path("mine")


def test_segments_of_other_environments_are_25_steps_or_an_episode() -> None:
    assert config("Pendulum-v1").resolved().queries.segment_steps == 25
    assert config("probes/Action-v0").resolved().queries.segment_steps == 16


# Refusals.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "hoper"}, "unknown task 'hoper'"),
        ({"task": "probes/Endless-v0"}, "no time limit"),
        ({"horizon": 1}, "horizon of 1 steps"),
        ({"horizon": 50}, "segment of 60 steps exceeds the episodes of 50"),
        ({"queries__segment_steps": 1001}, "segment of 1001 steps exceeds the episodes of 1000"),
        (
            {"queries__segment_steps": 257},
            "segment of 257 steps exceeds the 256 recent.*raise --queries.recent-rollouts and --queries.initial-",
        ),
        (
            {"ppo__batch_size": 64, "ppo__num_envs": 1, "queries__segment_steps": 150},
            "need 299 recent steps.*there are 256",
        ),
        (
            {"queries__recent_rollouts": 1, "queries__segment_steps": 65},
            "exceeds the 64 recent.*--queries.recent-rollouts",
        ),
        ({"labels": 3}, "3 labels"),
        ({"labels": 20_000}, r"20000 labels on pairs of 60 steps.*lower --labels to 16666"),
        ({"steps": 4095}, "4095 steps are less than one iteration of 4096"),
        ({"steps": 4095, "feedback": "none"}, "4095 steps are less than one iteration of 4096"),
        ({"steps": 20_000, "labels": 10}, "the random policy's 16384 steps leave no iteration"),
        ({"evaluation_episodes": 0}, "0 evaluation episodes"),
        ({"oracle__score": "judge"}, "hopper has no judge"),
        ({"task": "Pendulum-v1", "oracle__score": "judge"}, "this environment has no judge"),
    ],
)
def test_impossible_combinations_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as refusal:
        config(**options).resolved()
    assert "\n" not in str(refusal.value), "one line"


def test_what_concerns_feedback_is_not_asked_of_a_run_without() -> None:
    resolved = config("hopper", feedback="none", labels=0, steps=4096, queries__segment_steps=5000).resolved()
    assert (resolved.labels, resolved.queries.segment_steps) == (0, 5000)


def test_the_most_labels_that_the_refusal_names_are_accepted() -> None:
    config(labels=16_666).resolved()
    with pytest.raises(UserError):
        config(labels=16_667).resolved()


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (QueryOptions, {"segment_steps": 0}, "segment of 0 steps"),
        (QueryOptions, {"candidates": 0}, "at least 1"),
        (QueryOptions, {"recent_rollouts": 0}, "at least 1"),
        (QueryOptions, {"elite_share": 1.5}, r"elite share 1\.5 is outside"),
        (RewardOptions, {"risk_aversion": 1.5}, r"risk aversion 1\.5 is outside \[0, 1\]"),
        (RewardOptions, {"risk_aversion": -0.5}, r"risk aversion -0\.5 is outside"),
        (RewardOptions, {"risk_aversion": float("nan")}, "risk aversion nan is outside"),
        (RewardOptions, {"risk_aversion": 0.5, "normalise_rewards": False}, "rewards of deviation 1; drop"),
        (QueryOptions, {"elite_pool": 1}, "elite pool of 1 segments"),
        (QueryOptions, {"initial_rollouts": 0}, "at least 1"),
        (OracleOptions, {"error_rate": 1.5}, r"error rate 1\.5"),
        (OracleOptions, {"error_rate": -0.5}, r"error rate -0\.5"),
        (OracleOptions, {"equal_within": -1.0}, r"equal-within of -1\.0"),
        (OracleOptions, {"equal_within": float("nan")}, "equal-within of nan"),
        (PPOOptions, {"num_envs": 8, "num_steps": 8, "batch_size": 65}, "PPO batch of 65 exceeds the 64 steps"),
    ],
)
def test_impossible_options_are_refused_on_construction(make: type, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(**options)


@pytest.mark.parametrize("typed", ["hopper-backflip", "prefrl/HopperBackflip-v0"])
def test_a_task_has_its_defaults_by_name_and_by_id(typed: str) -> None:
    assert default_config(typed).resolved() == default_config("hopper-backflip").resolved()
