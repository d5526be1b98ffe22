"""The probe ladder, from the bottom up, and what the loop promises besides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import probes  # noqa: F401  registers its environments
import pytest
from probes import HORIZON

from prefrl.config import OracleOptions, TrainConfig
from prefrl.evaluation import evaluate
from prefrl.label_schedule import labels_wanted
from prefrl.loop import IterationReport, PreferenceLoop
from prefrl.options import PPOOptions, QueryOptions, RewardOptions
from prefrl.oracles import Nobody
from prefrl.oracles.synthetic import SyntheticOracle
from prefrl.preferences import Answer, PreferenceStore
from prefrl.queries import Query

TIMES = ("steps_per_second", "share/")
QUICK_PPO = PPOOptions(
    num_envs=8,
    num_steps=32,
    batch_size=64,
    epochs=5,
    learning_rate=3e-3,
    final_learning_rate=3e-3,
    gamma=0.5,
    initial_log_deviation=-0.5,  # with -1 one run in eight shrinks its noise before the predictor is right, and stays
    hidden=(32, 32),
)

WELL_FITTED: dict[str, Any] = {"reward__initial_gradient_steps": 200, "reward__gradient_steps": 20}

MakeLoop = Callable[..., PreferenceLoop]


def make_config(task: str, iterations: int, **options: Any) -> TrainConfig:
    """A tiny run, in which little is learnt unless it is WELL_FITTED; options of a stage as `reward__bootstrap`."""
    config = TrainConfig(
        task,
        labels=80,
        steps=256 * iterations,
        threads=2,
        queries=QueryOptions(segment_steps=4, initial_rollouts=2),
        reward=RewardOptions(hidden=(32, 32), initial_gradient_steps=20, gradient_steps=2),
        ppo=QUICK_PPO,
    )
    for name, value in options.items():
        stage, _, option = name.partition("__")
        changed = replace(getattr(config, stage), **{option: value}) if option else value
        config = replace(config, **{stage: changed})
    return config.resolved()


@pytest.fixture
def make_loop(tmp_path: Path) -> Iterator[MakeLoop]:
    opened: list[PreferenceStore] = []

    def make(task: str, iterations: int = 12, by: Any = None, **options: Any) -> PreferenceLoop:
        config = make_config(task, iterations, **options)
        if config.feedback != "none":
            opened.append(PreferenceStore(tmp_path / f"{len(opened)}.db"))
        return PreferenceLoop(config, opened[-1] if opened else None, by)

    yield make
    for store in opened:
        store.close()


def finish(loop: PreferenceLoop) -> list[IterationReport]:
    reports = list(loop.iterations())
    loop.close()
    return reports


def mean_reward(loop: PreferenceLoop) -> float:
    """True reward per step of the policy without noise."""
    returns = evaluate(loop.agent, loop.config.environment(), 8).true_returns
    return float(np.mean(returns)) / HORIZON


# The ladder. What an untrained policy earns: 0.75 on Action, 0.33 on DiscreteAction, 0 on Observation; the best: 1.

LADDER = pytest.mark.parametrize(("probe", "seed"), [("Action", 0), ("DiscreteAction", 1), ("Observation", 2)])


@LADDER
def test_rung_1_ppo_on_the_true_reward_finds_the_optimum(make_loop: MakeLoop, probe: str, seed: int) -> None:
    loop = make_loop(f"probes/{probe}-v0", feedback="none", seed=seed)
    finish(loop)
    assert mean_reward(loop) > 0.95


@LADDER
def test_rung_2_a_perfect_oracle_teaches_the_predictor_the_reward(make_loop: MakeLoop, probe: str, seed: int) -> None:
    """From the random policy's segments alone; one answer in 1/e is held out."""
    loop = make_loop(f"probes/{probe}-v0", 4, seed=seed, labels=120, queries__online=False, **WELL_FITTED)
    report = next(loop.iterations())
    assert report.metrics["reward/correlation"] > 0.8
    assert report.metrics["reward/segment_correlation"] > 0.8
    assert report.metrics["fit/accuracy"] > 0.75
    loop.close()


def test_what_an_action_leads_to_is_seen_by_the_predictor_that_is_given_it(make_loop: MakeLoop) -> None:
    found = {}
    for when in ("before", "after", "both"):
        loop = make_loop("probes/LedTo-v0", 4, labels=120, reward__observation=when, **WELL_FITTED)
        found[when] = finish(loop)[-1].metrics["reward/correlation"]
    assert min(found["after"], found["both"]) > 0.95
    assert abs(found["before"]) < 0.2


@LADDER
def test_rung_3_the_whole_loop_finds_the_optimum_without_seeing_a_reward(
    make_loop: MakeLoop, probe: str, seed: int
) -> None:
    loop = make_loop(f"probes/{probe}-v0", 14, labels=160, seed=seed, **WELL_FITTED)
    finish(loop)
    assert mean_reward(loop) > 0.9


def test_an_oracle_that_prefers_the_opposite_teaches_the_opposite(make_loop: MakeLoop) -> None:
    """So nothing of the true reward reaches the policy by another way."""
    oracle = SyntheticOracle(lambda segment: -segment.true_return, seed=0)
    loop = make_loop("probes/Observation-v0", 14, oracle, labels=160, **WELL_FITTED)
    finish(loop)
    assert mean_reward(loop) < -0.9


def test_where_everything_pays_the_same_all_answers_are_equal_and_nothing_breaks(make_loop: MakeLoop) -> None:
    loop = make_loop("probes/AlwaysOne-v0", 4)
    reports = finish(loop)
    assert loop.store is not None
    assert {answer.choice for answer in loop.store.answers()} == {"equal"}
    assert reports[-1].metrics["true_return"] == HORIZON
    assert np.isnan([report.metrics["fit/accuracy"] for report in reports]).all(), "no decided answer to be right about"
    assert np.isfinite([report.metrics["fit/train_loss"] for report in reports]).all()
    assert mean_reward(loop) == 1


# One seed, one run.


def without_times(reports: Sequence[IterationReport]) -> list[tuple[int, dict[str, str]]]:
    """Every metric but those that tell the time, exactly, NaN included."""
    return [
        (r.env_steps, {name: float(value).hex() for name, value in r.metrics.items() if not name.startswith(TIMES)})
        for r in reports
    ]


@pytest.mark.parametrize("feedback", ["synthetic", "none"])
def test_the_same_seed_gives_the_same_metrics_to_the_bit(make_loop: MakeLoop, feedback: str) -> None:
    options = {"feedback": feedback, "horizon": 20, "queries__segment_steps": 10, "labels": 40}
    runs = [without_times(finish(make_loop("hopper", 5, seed=seed, **options))) for seed in (0, 0, 1)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


# What is asked, and when.


def test_labels_are_asked_as_the_schedule_wants_and_all_by_the_end(make_loop: MakeLoop) -> None:
    loop = make_loop("probes/Observation-v0", 8)
    reports = finish(loop)
    for report in reports:
        wanted = labels_wanted(report.env_steps, 8 * 256, 80)
        assert report.metrics["labels/wanted"] == report.metrics["labels/asked"] == wanted
        assert report.metrics["labels/answered"] == wanted
    assert loop.labels_asked == 80
    assert loop.store is not None
    assert loop.store.counts()["queries"] == loop.store.counts()["answers"] == 80


def test_the_first_quarter_is_about_the_random_policy_and_the_rest_about_recent_ones(make_loop: MakeLoop) -> None:
    loop = make_loop("probes/Observation-v0", 8)
    finish(loop)
    assert loop.store is not None
    asked = [query.segments[0].env_steps for query in loop.store.queries()]
    assert asked[:20] == [256] * 10 + [2 * 256] * 10, "in two rounds"
    assert asked == sorted(asked)
    assert all(steps > 2 * 256 for steps in asked[20:])
    assert asked[-1] == 8 * 256


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"queries__initial_rounds": False}, [512] * 10),
        (
            {"queries__segment_steps": 16, "ppo__num_steps": 12, "ppo__num_envs": 21},
            [504] * 10,
        ),  # none fits in 12 steps
        ({"queries__selection": "uniform"}, [256] * 5 + [512] * 5),
    ],
)
def test_the_first_questions_are_asked_as_soon_as_there_is_a_segment_in_rounds_or_at_once(
    make_loop: MakeLoop, options: dict[str, Any], steps: list[int]
) -> None:
    loop = make_loop("probes/Observation-v0", 6, labels=40, **options)
    next(loop.iterations())
    loop.close()
    assert loop.store is not None
    assert [query.segments[0].env_steps for query in loop.store.queries()][:10] == steps


def test_nothing_is_learnt_before_the_first_answers(make_loop: MakeLoop) -> None:
    class Watching(SyntheticOracle):
        def submit(self, queries: Sequence[Query]) -> None:
            weights.append([p.detach().clone() for p in loop.agent._ppo.policy.parameters()])
            super().submit(queries)

    weights: list[Any] = []
    loop = make_loop("probes/Observation-v0", 6, Watching(seed=0))
    untrained = [p.detach().clone() for p in loop.agent._ppo.policy.parameters()]
    finish(loop)
    for of_a_round in weights[:2]:
        assert all((a == b).all() for a, b in zip(untrained, of_a_round, strict=True))
    assert not all((a == b).all() for a, b in zip(untrained, weights[-1], strict=True))


def test_what_is_stored_is_raw_and_true(make_loop: MakeLoop) -> None:
    """Not normalised observations, nor predicted rewards (imitation PR 336); states and actions of the same steps."""
    loop = make_loop("probes/Age-v0", 5)
    finish(loop)
    assert loop.store is not None
    for query in loop.store.queries():
        for segment in query.segments:
            age = segment.observations[:, 0]
            assert (np.diff(age) == 1).all()
            np.testing.assert_array_equal(segment.true_rewards, age)
            assert np.abs(segment.actions).max() <= 1, "as sent to the simulator"


def test_stored_segments_of_a_task_hold_the_exact_states(make_loop: MakeLoop) -> None:
    loop = make_loop("hopper", 4, queries__segment_steps=10, labels=8)
    finish(loop)
    assert loop.store is not None
    segment = loop.store.queries()[0].segments[0]
    assert segment.qpos is not None
    np.testing.assert_array_equal(segment.qpos[:, 1:].astype(np.float32), segment.observations[:, :5])


def test_the_policy_waits_for_nobody(make_loop: MakeLoop) -> None:
    loop = make_loop("probes/Observation-v0", 5, Nobody())
    reports = finish(loop)
    assert (loop.labels_asked, loop.labels_answered) == (80, 0)
    assert np.isnan(reports[-1].metrics["fit/train_loss"])
    assert loop.store is not None
    assert len(loop.store.unanswered()) == 80


def test_answers_may_come_iterations_later(make_loop: MakeLoop) -> None:
    class Slow(SyntheticOracle):
        def __init__(self) -> None:
            super().__init__(seed=0)
            self.shelf: list[list[Answer]] = [[]] * 3

        def collect(self) -> list[Answer]:
            self.shelf.append(super().collect())
            return self.shelf.pop(0)

    loop = make_loop("probes/Observation-v0", 10, Slow())
    reports = finish(loop)
    answered = [report.metrics["labels/answered"] for report in reports]
    assert answered[0] == 0
    assert 20 <= answered[4] < reports[4].metrics["labels/asked"]
    assert loop.trainer is not None
    assert len(loop.trainer.comparisons) == answered[-1] > 50


# Switches.


@pytest.mark.parametrize(
    "options",
    [
        {"queries__segment_steps": 1},
        {"reward__target": "returns"},
        {"reward__members": 1},
        {"reward__members": 3},
        {"queries__selection": "uniform"},
        {"queries__online": False},
        {"reward__bootstrap": False},
        {"reward__hold_out": False},
        {"reward__adaptive_l2": True},
        {"reward__l2": 0.0},
        {"reward__dropout": 0.2},
        {"reward__error_rate": 0.0},
        {"reward__normalise_observations": False, "reward__normalise_rewards": False},
        {"reward__label_buffer": 30},
        {"reward__latest_share": 0.0},
        {"oracle": OracleOptions(error_rate=0.3, equal_within=0.5)},
        {"ppo__normalise_returns": False},
        {"ppo__centre_rewards": False},
    ],
    ids=lambda options: ",".join(f"{name}={value}" for name, value in options.items()),
)
def test_every_switch_runs_and_does_what_it_says(make_loop: MakeLoop, options: dict[str, Any]) -> None:
    loop = make_loop("probes/Observation-v0", 4, **options)
    reports = finish(loop)
    for report in reports:
        assert np.isfinite([v for k, v in report.metrics.items() if k.startswith(("ppo/", "reward/std"))]).all()
    assert loop.store is not None
    assert loop.trainer is not None
    assert loop.ensemble is not None
    queries, answers, comparisons = loop.store.queries(), loop.store.answers(), loop.trainer.comparisons
    assert {s.length for query in queries for s in query.segments} == {options.get("queries__segment_steps", 4)}
    assert loop.ensemble.members == options.get("reward__members", RewardOptions.members)
    assert len(comparisons) == options.get("reward__label_buffer", 80)
    if options.get("queries__online", True):
        assert len({query.segments[0].env_steps for query in queries}) > 2
    else:
        assert {query.segments[0].env_steps for query in queries} == {256, 512}
        assert reports[0].metrics["labels/wanted"] == 80
    assert loop.ensemble.dropout == options.get("reward__dropout", 0.0)
    if not options.get("reward__bootstrap", True):
        assert comparisons.copies.max() == 1
    assert ("returns" in loop.agent.state()) == options.get("ppo__normalise_returns", True)
    assert ("centre" in loop.agent.state()) == options.get("ppo__centre_rewards", True)
    if not options.get("reward__hold_out", True):
        assert (comparisons.copies[:, :80] > 0).all()
    kept = loop.trainer.l2 == options.get("reward__l2", RewardOptions.l2)
    assert kept.all() != options.get("reward__adaptive_l2", False)
    if not options.get("reward__normalise_rewards", True):
        assert (loop.ensemble.reward_scale == 1).all()
        assert (loop.ensemble.observation_deviation == 1).all()
    wrong = sum(
        a.choice != {1: "left", -1: "right", 0: "equal"}[np.sign(q.segments[0].true_return - q.segments[1].true_return)]
        for q, a in zip(queries, answers, strict=True)
    )
    assert (wrong > 8) == ("oracle" in options)


def test_disagreement_asks_about_more_disputed_pairs_than_chance(make_loop: MakeLoop) -> None:
    """Measured by the predictor that chose, as it stood: mean disagreement of what was asked against all candidates."""
    from prefrl import choosing
    from prefrl.queries import disagreement, most_disputed

    gains = []

    def spying(candidates: Sequence[Query], count: int, predict: Any) -> list[Query]:
        chosen = most_disputed(candidates, count, predict)
        assert len(candidates) == 10 * count
        gains.append(disagreement(predict(chosen)).mean() / disagreement(predict(candidates)).mean())
        return chosen

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choosing, "most_disputed", spying)
        finish(make_loop("probes/Observation-v0", 5, queries__elite_share=0.0))
    assert min(gains) > 1.5


def test_half_of_the_later_queries_are_among_the_best_segments(make_loop: MakeLoop) -> None:
    """By the predictor that chose, as it stood: of random pairs 1 in 25 has both segments in the best fifth."""
    from prefrl import choosing
    from prefrl.queries import most_disputed
    from prefrl.rollouts import join
    from prefrl.segments import cut_segments

    among_best: list[float] = []
    loop = make_loop("probes/Observation-v0", 8, labels=160)

    def spying(candidates: Sequence[Query], count: int, predict: Any) -> list[Query]:
        chosen = most_disputed(candidates, count, predict)
        assert loop.ensemble is not None
        recent = cut_segments(join(list(loop._recent)[-4:]), 4, 400, np.random.default_rng(0))
        bound = np.quantile(loop.ensemble.predict_returns(recent), 0.8)
        among_best.extend(float(loop.ensemble.predict_returns(query.segments).min() > bound) for query in chosen)
        return chosen

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choosing, "most_disputed", spying)
        finish(loop)
    assert len(among_best) == 140, "all but the first round's"
    assert 0.35 < np.mean(among_best) < 0.75


# What is reported.


def test_every_iteration_reports_the_same_columns_and_shares_that_add_up(make_loop: MakeLoop) -> None:
    for feedback in ("synthetic", "none"):
        reports = finish(make_loop("probes/Observation-v0", 5, feedback=feedback))
        assert len({tuple(report.metrics) for report in reports}) == 1
        for report in reports:
            shares = [value for name, value in report.metrics.items() if name.startswith("share/")]
            assert sum(shares) == pytest.approx(1)
            assert min(shares) >= 0
        assert [report.env_steps for report in reports][-1] == 5 * 256


def test_true_returns_are_those_of_whole_episodes(make_loop: MakeLoop) -> None:
    reports = finish(make_loop("probes/Age-v0", 5))
    assert {report.metrics["true_return"] for report in reports} == {sum(range(HORIZON))}


def test_predicted_rewards_have_mean_0_and_a_steady_deviation(make_loop: MakeLoop) -> None:
    reports = finish(make_loop("hopper", 8, queries__segment_steps=10, labels=40))
    for report in reports:
        assert abs(report.metrics["reward/mean"]) < 1
        assert 0.3 < report.metrics["reward/std"] < 2


def test_the_agent_is_paid_by_its_aversion_to_risk(make_loop: MakeLoop) -> None:
    loop = make_loop("hopper", 6, queries__segment_steps=10, labels=40, reward__risk_aversion=0.5)
    finish(loop)
    assert loop.ensemble is not None
    seen, actions = loop._draw_steps(200)
    rewards = loop.ensemble.combine(loop.ensemble.member_rewards(seen, actions)).numpy()
    paid = loop._trained_on.predictor.predict(seen, actions)
    np.testing.assert_allclose(paid, (1 - np.exp(-0.5 * rewards)) / 0.5, atol=1e-5)
    assert (rewards - paid).max() > 0.1


def test_the_reward_of_a_policy_at_rest_is_not_blown_up(make_loop: MakeLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = make_loop("hopper", 8, queries__segment_steps=10, labels=40)
    finish(loop)
    draw = loop._draw_steps

    def at_rest(count: int) -> tuple[np.ndarray, np.ndarray]:
        observations, actions = draw(count)
        return observations[:1] + 1e-4 * observations, actions[:1] + 1e-4 * actions

    monkeypatch.setattr(loop, "_draw_steps", at_rest)
    loop._normalise_rewards()
    assert loop.ensemble is not None
    assert loop.ensemble.predict(*at_rest(500)).std() < 0.1


def test_feedback_needs_a_store() -> None:
    with pytest.raises(ValueError, match="PreferenceStore"):
        PreferenceLoop(make_config("probes/Action-v0", 4))


@pytest.mark.parametrize("threads", [1, 2])
def test_what_is_measured_of_the_predictor_changes_nothing_that_is_learnt(
    make_loop: MakeLoop, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """Neither a draw nor a weight: without the measurements the policy and the predictor are the same, bit for bit."""
    learnt = []
    for blind in (False, True):
        with monkeypatch.context() as patch:
            if blind:
                patch.setattr("prefrl.loop.reward_metrics", lambda *_: {})
                patch.setattr(PreferenceLoop, "_calibrate", lambda loop: None)
            loop = make_loop("probes/Observation-v0", 6, threads=threads)
            reports = finish(loop)
        assert np.isnan(reports[-1].metrics["held_out/accuracy"]) == blind
        assert loop.ensemble is not None
        parts = (loop.agent._ppo.policy, loop.ensemble)
        learnt.append([weight.numpy().copy() for part in parts for weight in part.state_dict().values()])
    for seeing, blind_one in zip(*learnt, strict=True):
        np.testing.assert_array_equal(seeing, blind_one)


def test_calibration_is_measured_at_so_many_points_of_a_run_and_at_its_end(
    make_loop: MakeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefrl.loop.CALIBRATIONS", 4)
    loop = make_loop("probes/Observation-v0", 14)
    reports = finish(loop)
    points = [report.env_steps / 256 for report in reports if report.calibration is not None]
    assert points == [4, 7, 11, 14]
    for report in reports:
        measured = [v for name, v in report.metrics.items() if name.startswith("held_out/")]
        assert np.isnan(measured).any() == np.isnan(measured).all() == (report.calibration is None)
    assert loop.trainer is not None
    assert reports[-1].metrics["held_out/predictions"] == (loop.trainer.comparisons.copies[:, :80] == 0).sum()
