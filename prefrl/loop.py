"""The paper's three processes, in turn (section 2.2).

    rollouts -> segments -> queries -> oracle -> answers -> fit -> PPO, and again.

`PreferenceLoop.iterations()` yields a report per iteration, so that a notebook can drive it.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefrl.agent import Agent
from prefrl.checkpoint import State, global_random_state, load_global_random_state
from prefrl.config import TrainConfig
from prefrl.errors import UserError
from prefrl.label_schedule import labels_wanted
from prefrl.normalisation import RunningMoments
from prefrl.oracles import Oracle
from prefrl.oracles.synthetic import SyntheticOracle, true_return
from prefrl.preferences import Answer, PreferenceStore
from prefrl.queries import Query, most_disputed, pair_up
from prefrl.reward_model import RewardEnsemble
from prefrl.reward_training import FitReport, RewardTrainer
from prefrl.reward_wrapper import VectorPredictedReward
from prefrl.rollouts import Rollout, RolloutRecorder, action_dim, join
from prefrl.segments import cut_segments
from prefrl.simulation import MujocoVectorEnv
from prefrl.threads import one_torch_thread

log = logging.getLogger("prefrl")

STAGES = ("simulate", "policy", "predict", "label", "fit", "ppo", "checkpoint")
NORMALISATION_ROLLOUTS = 8  # recent iterations over which predicted rewards get mean 0 and deviation 1
DIAGNOSED_ENVIRONMENTS = 16  # whose steps the predicted reward's metrics are taken over
NORMALISATION_STEPS = 4096  # steps drawn from them each time
ROLLOUT_FIELDS = ("observations", "actions", "rewards", "episode_starts", "qpos", "qvel", "env_steps")
REFERENCE_STEPS = 1024  # of the random policy, beside which the predicted return is told


@dataclass(frozen=True)
class IterationReport:
    """What happened in one iteration."""

    env_steps: int
    metrics: dict[str, float]  # by the column names of metrics.csv; NaN where there was nothing to measure


class StageClock:
    """Seconds spent in each stage since `shares` was last called."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of a block to a stage."""
        began = time.perf_counter()
        yield
        self.add(name, time.perf_counter() - began)

    def add(self, name: str, seconds: float) -> None:
        """Count seconds to a stage."""
        self._seconds[name] += seconds

    def shares(self) -> dict[str, float]:
        """Each stage's share of the time counted; starts again from zero."""
        total = sum(self._seconds.values()) or 1.0
        shares = {f"share/{name}": seconds / total for name, seconds in self._seconds.items()}
        self._seconds = dict.fromkeys(STAGES, 0.0)
        return shares


def make_oracle(config: TrainConfig, rng: np.random.Generator) -> Oracle:
    """The oracle a resolved configuration asks for."""
    task = config.environment().task
    score = task.judge if task and config.oracle.score == "judge" and task.judge else true_return
    return SyntheticOracle(
        score, config.oracle.error_rate, config.oracle.tie_margin, rng=rng, labeller=config.oracle.score
    )


class PreferenceLoop:
    """A policy trained on a reward learnt from comparisons; with `feedback none`, on the true reward.

    Args:
        config: a resolved configuration.
        store: keeps what is asked and answered; not needed without feedback.
        oracle: answers; the configuration's synthetic one by default.
        state: of an earlier loop with the same configuration and store, to go on from bit for bit. What that loop
            asked and was answered later, before it was interrupted, is in the store; it is asked again here, found
            there, and not stored twice.

    Attributes:
        agent, ensemble, trainer, recorder: the parts, for a notebook to look at; ensemble and trainer are None
            without feedback.
        labels_asked, labels_answered: so far.
        clock: where the time goes; whoever saves `state` counts that to the stage "checkpoint".
    """

    def __init__(
        self,
        config: TrainConfig,
        store: PreferenceStore | None = None,
        oracle: Oracle | None = None,
        state: State | None = None,
    ) -> None:
        self.config, self.store = config, store
        query_seed, fit_seed, oracle_seed, sample_seed = np.random.SeedSequence(config.seed).spawn(4)
        self._query_rng = np.random.default_rng(query_seed)
        self._sample_rng = np.random.default_rng(sample_seed)
        self.env = config.environment().make(config.ppo.num_envs, config.threads, stagger=True)
        self.recorder = RolloutRecorder(self.env, config.horizon or 1)
        observation_dim = int(np.prod(self.env.single_observation_space.shape or ()))
        self._moments = RunningMoments(observation_dim)
        self._recent: deque[Rollout] = deque(
            maxlen=max(NORMALISATION_ROLLOUTS, config.queries.initial_rollouts, config.queries.recent_rollouts)
        )
        self.clock = StageClock()
        self.labels_asked = self.labels_answered = 0
        self._answers_taken = 0  # with those that another one supersedes
        self._asked: dict[int | None, Query] = {}  # by id
        self._queries_ahead: deque[Query] = deque()
        self._answers_ahead: dict[int, Answer] = {}  # by query
        self.ensemble: RewardEnsemble | None = None
        self.trainer: RewardTrainer | None = None
        trained_on: Any = self.recorder
        if config.feedback != "none":
            if store is None:
                raise ValueError("a run with feedback needs a PreferenceStore")
            reward = config.reward
            self.ensemble = RewardEnsemble(
                observation_dim,
                action_dim(self.env.single_action_space),
                reward.members,
                reward.hidden,
                reward.dropout,
                seed=config.seed,
            )
            self.trainer = RewardTrainer(self.ensemble, reward, np.random.default_rng(fit_seed))
            self._take_stored(store, state)
            self.oracle = oracle or make_oracle(config, np.random.default_rng(oracle_seed))
            trained_on = VectorPredictedReward(self.recorder, self.ensemble)
        self._trained_on = trained_on
        self._reference: tuple[np.ndarray, ...] = (np.empty(0), np.empty(0))
        self.agent = Agent(trained_on, config.ppo, config.steps, config.seed)
        self._started = False
        if state is not None:
            self._load_state(state)

    def _take_stored(self, store: PreferenceStore, state: State | None) -> None:
        """Queries and answers of the store, up to a state's; the later ones wait until they are asked again."""
        assert self.trainer is not None
        queries, answers = store.queries(), store.answers(include_superseded=state is not None)
        asked, answered = (state["labels_asked"], state["answers_taken"]) if state else (len(queries), len(answers))
        if len(queries) < asked or len(answers) < answered:
            raise UserError(
                f"{store.location} holds {len(queries)} queries and {len(answers)} answers, the checkpoint knows of "
                f"{asked} and {answered}; restore the file from a copy"
            )
        self._asked = {query.id: query for query in queries[:asked]}
        self.trainer.comparisons.extend((self._asked[answer.query_id], answer) for answer in answers[:answered])
        self.labels_asked, self.labels_answered = asked, state["labels_answered"] if state else answered
        self._answers_taken = answered
        self._queries_ahead = deque(queries[asked:])
        self._answers_ahead = {answer.query_id: answer for answer in answers[answered:]}

    def state(self) -> State:
        """Everything that the next iterations depend on, between two of them; the store keeps the rest."""
        state: State = {
            "random": global_random_state(),
            "env": self.env.unwrapped.state() if isinstance(self.env.unwrapped, MujocoVectorEnv) else None,
            "recorder": self.recorder.state(),
            "agent": self.agent.state(),
            "moments": self._moments.state(),
            "recent": [{name: getattr(rollout, name) for name in ROLLOUT_FIELDS} for rollout in self._recent],
            "query_rng": self._query_rng.bit_generator.state,
            "sample_rng": self._sample_rng.bit_generator.state,
            "labels_asked": self.labels_asked,
            "labels_answered": self.labels_answered,
            "answers_taken": self._answers_taken,
        }
        if self.trainer is not None:
            state |= {"trainer": self.trainer.state(), "oracle": self.oracle.state(), "reference": self._reference}
        return state

    def _load_state(self, state: State) -> None:
        self._started = True
        self.agent.load_state(state["agent"])
        self._moments.load_state(state["moments"])
        self._recent.extend(Rollout(**{**each, "episode_returns": ()}) for each in state["recent"])
        self._query_rng.bit_generator.state = state["query_rng"]
        self._sample_rng.bit_generator.state = state["sample_rng"]
        if self.trainer is not None:
            self.trainer.load_state(state["trainer"])
            self.oracle.load_state(state["oracle"])
            self._reference = tuple(state["reference"])
        if isinstance(self.env.unwrapped, MujocoVectorEnv):
            self.env.unwrapped.load_state(state["env"])
            self.recorder.load_state(state["recorder"])
            if self.ensemble is not None:
                self._trained_on.observations = state["recorder"]["observations"]
        else:
            self._restart_episodes(state)
        load_global_random_state(state["random"])

    def _restart_episodes(self, state: State) -> None:
        """Where the environments cannot restore their state: new episodes, and what was asked since counts as asked."""
        log.warning(
            "%s has no state to restore: its episodes start anew, so the run goes on, but not bit for bit",
            self.config.task,
        )
        self.recorder.env_steps = state["recorder"]["env_steps"]
        self.agent.restart_episodes(self.recorder.env_steps)
        self._take_ahead()

    def _take_ahead(self) -> None:
        """Take what was asked and answered after the checkpoint as it is, where it won't be asked again."""
        asked, answers = list(self._queries_ahead), list(self._answers_ahead.values())
        self._asked |= {query.id: query for query in asked}
        if self.trainer is not None:
            self.trainer.comparisons.extend((self._asked[answer.query_id], answer) for answer in answers)
        self.labels_asked += len(asked)
        self.labels_answered += len(answers)
        self._answers_taken += len(answers)
        self._queries_ahead.clear()
        self._answers_ahead.clear()

    def iterations(self) -> Iterator[IterationReport]:
        """Run to the configured number of steps, one report per iteration."""
        if self.config.feedback != "none" and not self._started:
            self._start_from_random_policy()
        self._started = True
        while self.agent.env_steps < self.config.steps:
            began = time.perf_counter()
            rollout = self._collect()
            fit = self._ask_and_fit() if self.trainer else None
            rewards = self._reward_metrics(rollout)
            with self.clock.stage("ppo"):
                ppo = self.agent.learn()
                self._update_observation_statistics(rollout)
            seconds = time.perf_counter() - began
            yield self._report(rollout, fit, rewards, ppo, seconds)

    def _start_from_random_policy(self) -> None:
        """The first quarter of the labels is about a randomly initialised policy (section A.1)."""
        config = self.config
        for _ in range(config.queries.initial_rollouts):
            self._update_observation_statistics(self._collect())
        due = self._labels_wanted(0) - self.labels_asked
        if due > 0:
            # Nothing is known yet to disagree about.
            self._ask(self._draw_pairs(due, rollouts=config.queries.initial_rollouts))
        self._take_answers()
        with self.clock.stage("fit"):
            assert self.trainer is not None
            self.trainer.fit(config.reward.initial_gradient_steps)
        self._normalise_rewards()
        self._reference = self._draw_steps(REFERENCE_STEPS)
        self.agent.restart_return_statistics()

    def _labels_wanted(self, env_steps: int) -> int:
        config = self.config
        return labels_wanted(env_steps, config.steps, config.labels) if config.queries.online else config.labels

    def _collect(self) -> Rollout:
        """The policy acts on the reward as predicted so far."""
        began = time.perf_counter()
        simulated = self.recorder.seconds
        predicted = getattr(self._trained_on, "seconds", 0.0) if self.ensemble else 0.0
        self.agent.collect()
        rollout = self.recorder.take()
        self._recent.append(rollout)
        simulated = self.recorder.seconds - simulated
        predicted = (self._trained_on.seconds if self.ensemble else 0.0) - predicted
        self.clock.add("simulate", simulated)
        self.clock.add("predict", predicted)
        self.clock.add("policy", time.perf_counter() - began - simulated - predicted)
        return rollout

    def _ask_and_fit(self) -> FitReport:
        """Ask what the schedule wants by now, take the answers that are there, fit to all of them."""
        config = self.config
        due = self._labels_wanted(self.agent.env_steps) - self.labels_asked
        if due > 0:
            with self.clock.stage("label"):
                if config.queries.selection == "disagreement":
                    candidates = self._draw_pairs(due * config.queries.candidates, config.queries.recent_rollouts)
                    assert self.ensemble is not None
                    queries = most_disputed(candidates, due, self.ensemble.predict_preferences)
                else:
                    queries = self._draw_pairs(due, config.queries.recent_rollouts)
            self._ask(queries)
        self._take_answers()
        with self.clock.stage("fit"):
            assert self.trainer is not None
            return self.trainer.fit(config.reward.gradient_steps)

    def _draw_pairs(self, count: int, rollouts: int) -> list[Query]:
        length = self.config.queries.segment_steps
        assert length is not None
        recent = join(list(self._recent)[-rollouts:])
        return pair_up(cut_segments(recent, length, 2 * count, self._query_rng))

    def _ask(self, queries: list[Query]) -> None:
        with self.clock.stage("label"):
            assert self.store is not None
            stored = self._store(queries)
            self.labels_asked += len(stored)
            self._asked |= {query.id: query for query in stored}
            self.oracle.submit(stored)

    def _store(self, queries: list[Query]) -> list[Query]:
        """With their ids; what the store holds from before an interruption is not stored again."""
        assert self.store is not None
        again = list(self._queries_ahead)[: len(queries)]
        if not all(map(_same_segments, queries, again)):
            log.warning(
                "query %d in %s is not what is asked again after the checkpoint, as on another machine or with other "
                "versions: the run goes on with what was asked and answered then, but not bit for bit",
                again[0].id,
                self.store.location,
            )
            self._take_ahead()
            return []
        for _ in again:
            self._queries_ahead.popleft()
        return again + self.store.add_queries(queries[len(again) :])

    def _take_answers(self) -> None:
        """Those that have come in by now, to whatever was asked; the policy waits for none."""
        with self.clock.stage("label"):
            assert self.store is not None
            assert self.trainer is not None
            answers = self.oracle.collect()
            if answers:
                again = [self._answers_ahead.pop(answer.query_id, None) for answer in answers]
                new = iter(self.store.add_answers([a for a, known in zip(answers, again, strict=True) if not known]))
                answers = [known or next(new) for known in again]
                self._answers_taken += len(answers)
                self.trainer.comparisons.extend((self._asked[answer.query_id], answer) for answer in answers)
                self.labels_answered += len(answers)

    def _update_observation_statistics(self, rollout: Rollout) -> None:
        self._moments.update(rollout.observations)
        self.agent.set_observation_statistics(self._moments.mean, self._moments.deviation)
        if self.ensemble is not None and self.config.reward.normalise_observations:
            self.ensemble.set_observation_statistics(self._moments.mean, self._moments.deviation)

    def _normalise_rewards(self) -> None:
        """Each member's reward to mean 0 and deviation 1 over recent data (section 2.2.1)."""
        if self.ensemble is None or not self.config.reward.normalise_rewards:
            return
        self.ensemble.normalise_rewards_over(self.ensemble.member_rewards(*self._draw_steps(NORMALISATION_STEPS)))

    def _draw_steps(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Observations and actions of about `count` recent steps, the same number from each rollout."""
        rollouts = list(self._recent)[-NORMALISATION_ROLLOUTS:]
        size = rollouts[0].rewards.size
        chosen = self._sample_rng.integers(size, size=max(1, count // len(rollouts)))
        observations = np.concatenate([r.observations.reshape(size, -1)[chosen] for r in rollouts])
        actions = np.concatenate([r.actions.reshape(size, -1)[chosen] for r in rollouts])
        return observations, actions

    @one_torch_thread()
    def _reward_metrics(self, rollout: Rollout) -> dict[str, float]:
        """What the predictor says of this iteration's steps, beside the truth; learnt the hard way by others."""
        if self.ensemble is None:
            return {}
        with self.clock.stage("predict"):
            self._normalise_rewards()
            shown = np.s_[:, :: max(1, self.config.ppo.num_envs // DIAGNOSED_ENVIRONMENTS)]
            raw = self.ensemble.member_rewards(rollout.observations[shown], rollout.actions[shown])
            predicted = self.ensemble.combine(raw).numpy()
            spread = float(self.ensemble.normalise(raw).std(dim=0, correction=0).mean())
            true_rewards = rollout.rewards[shown]
            reference = self.ensemble.member_rewards(*self._reference)
            # The reward itself is kept at mean 0, so its return could neither climb nor fall.
            above_random = (raw.flatten(1).mean(dim=1) - reference.mean(dim=1)) / reference.std(dim=1).clamp_min(1e-6)
        length = self.config.queries.segment_steps or 1
        windows = len(predicted) // length * length
        shape = (-1, length, predicted.shape[1])
        return {
            "reward/mean": float(predicted.mean()),
            "reward/std": float(predicted.std()),
            "reward/spread": spread if self.ensemble.members > 1 else float("nan"),
            "reward/correlation": correlation(predicted, true_rewards),
            "reward/segment_correlation": correlation(
                predicted[:windows].reshape(shape).sum(axis=1), true_rewards[:windows].reshape(shape).sum(axis=1)
            ),
            "predicted_return": float(above_random.mean()) * (self.config.horizon or 1),
        }

    def _report(
        self, rollout: Rollout, fit: FitReport | None, rewards: dict[str, float], ppo: dict[str, float], seconds: float
    ) -> IterationReport:
        metrics = {
            "steps_per_second": rollout.rewards.size / seconds,
            "true_return": float(np.mean(rollout.episode_returns)) if rollout.episode_returns else float("nan"),
            "true_reward": float(rollout.rewards.mean()),
            **rewards,
            **{f"ppo/{name}": value for name, value in ppo.items()},
            **self.clock.shares(),
        }
        if fit is not None:
            metrics |= {
                "labels/wanted": float(self._labels_wanted(self.agent.env_steps)),
                "labels/asked": float(self.labels_asked),
                "labels/answered": float(self.labels_answered),
                "fit/train_loss": fit.train_loss,
                "fit/validation_loss": fit.validation_loss,
                "fit/accuracy": fit.accuracy,
                "fit/l2": fit.l2,
            }
        return IterationReport(self.agent.env_steps, metrics)

    def close(self) -> None:
        """Stop the simulation's threads."""
        self.env.close()


def _same_segments(query: Query, other: Query) -> bool:
    return all(
        np.array_equal(a.observations, b.observations) and np.array_equal(a.actions, b.actions)
        for a, b in zip(query.segments, other.segments, strict=True)
    )


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's r of two arrays of one shape; NaN if either is constant."""
    x, y = a.ravel() - a.mean(), b.ravel() - b.mean()
    spread = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum()) / spread if spread > 0 else float("nan")
