"""The paper's three processes, in turn (section 2.2).

    rollouts -> segments -> queries -> oracle -> answers -> fit -> PPO, and again.

`PreferenceLoop.iterations()` yields a report per iteration, so that a notebook can drive it.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.vector import SyncVectorEnv

from prefrl.agent import Agent
from prefrl.calibration import Calibration, calibration_metrics
from prefrl.candidate_films import CandidateFilms
from prefrl.checkpoint import State
from prefrl.choosing import disputed_pairs, random_pairs
from prefrl.config import TrainConfig
from prefrl.elicitation import Elicitation, replay_state
from prefrl.label_schedule import labels_wanted
from prefrl.normalisation import RunningMoments
from prefrl.oracles import Nobody, Oracle
from prefrl.preferences import PreferenceStore
from prefrl.queries import Query
from prefrl.reward_diagnostics import COMPARED_STEPS, reward_metrics
from prefrl.reward_model import RewardEnsemble
from prefrl.reward_training import FitReport, RewardTrainer
from prefrl.reward_wrapper import VectorPredictedReward
from prefrl.rollouts import Rollout, RolloutRecorder, action_dim, join, state_reader
from prefrl.segments import observed
from prefrl.simulation import MujocoVectorEnv
from prefrl.stage_clock import StageClock
from prefrl.threads import available_cores, one_torch_thread
from prefrl.torch_state import global_random_state, load_global_random_state

log = logging.getLogger("prefrl")

NORMALISATION_ROLLOUTS = 8  # recent iterations over which predicted rewards get mean 0 and deviation 1, or less at rest
NORMALISATION_STEPS = 4096  # steps drawn from them each time
ROLLOUT_FIELDS = (
    "observations",
    "next_observations",
    "actions",
    "rewards",
    "episode_starts",
    "qpos",
    "qvel",
    "env_steps",
)
REFERENCE_STEPS = 1024  # of the random policy, beside which the predicted return is told
CALIBRATIONS = 25  # in a run: one over 900 pairs of 120 steps takes a tenth of an iteration
FILMED = 40  # stretches per iteration that may be asked about, where only pictures show what happened
OPEN_AT_START = 8  # at 3 s an answer, half a minute
WAIT_SECONDS = 0.2  # between two looks for answers


@dataclass(frozen=True)
class Waiting:
    """Training waits for people's answers."""

    env_steps: int
    unanswered: int
    can_save: bool  # whether `state` may be asked for, which within an iteration it may not


@dataclass(frozen=True)
class IterationReport:
    """What happened in one iteration."""

    env_steps: int
    metrics: dict[str, float]  # by the column names of metrics.csv; NaN where there was nothing to measure
    calibration: Calibration | None = None  # measured now and then


@dataclass(frozen=True)
class Fitted:
    """What the predictor's part of an iteration found."""

    report: FitReport
    rewards: dict[str, float]  # metrics
    calibration: Calibration | None


def make_oracle(config: TrainConfig, seed: int) -> Oracle:
    """The oracle a resolved configuration asks for; people answer through the labelling page, into the store."""
    if config.replay is not None or config.feedback == "people":
        return Nobody()
    return config.oracle.make(config.environment().task, seed)


class PreferenceLoop:
    """A policy trained on a reward learnt from comparisons; with `feedback none`, on the true reward.

    Args:
        config: a resolved configuration.
        store: keeps what is asked and answered; not needed without feedback.
        oracle: answers; the configuration's synthetic one by default.
        state: of an earlier loop with the same configuration and store, to go on from bit for bit.

    Attributes:
        agent, ensemble, trainer, recorder: the parts, for a notebook to look at; ensemble and trainer are None
            without feedback.
        elicitation: what is asked and answered; None without feedback.
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
        query_seed, fit_seed, oracle_seed, sample_seed, film_seed = np.random.SeedSequence(config.seed).spawn(5)
        self._query_rng = np.random.default_rng(query_seed)
        self._sample_rng = np.random.default_rng(sample_seed)
        self.env = config.environment().make(config.ppo.num_envs, config.threads, stagger=True)
        films: CandidateFilms | None = None
        if config.feedback == "people" and state_reader(self.env) is None:
            if config.replay is None:
                self.env.close()
                self.env = config.environment().make(config.ppo.num_envs, config.threads, stagger=True, render=True)
            assert isinstance(self.env, SyncVectorEnv)
            length, rng = config.queries.segment_steps or 1, np.random.default_rng(film_seed)
            films = CandidateFilms(self.env, length, rng, renders=config.replay is None)
        self.recorder = RolloutRecorder(self.env, config.horizon or 1, films)
        observation_dim = int(np.prod(self.env.single_observation_space.shape or ()))
        self._moments = RunningMoments(observation_dim)
        self._recent: deque[Rollout] = deque(
            maxlen=max(NORMALISATION_ROLLOUTS, config.queries.initial_rollouts, config.queries.recent_rollouts)
        )
        self.clock = StageClock()
        self.ensemble: RewardEnsemble | None = None
        self.trainer: RewardTrainer | None = None
        self.elicitation: Elicitation | None = None
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
                observation=reward.observation,
                risk_aversion=reward.risk_aversion,
            )
            self.trainer = RewardTrainer(self.ensemble, reward, np.random.default_rng(fit_seed))
            oracle = oracle or make_oracle(config, int(oracle_seed.generate_state(1)[0]))
            if state is not None:
                asked_before: State | None = state["elicitation"]
            else:
                asked_before = replay_state(store) if config.replay else None
            self.elicitation = Elicitation(store, oracle, asked_before)
            self.trainer.comparisons.extend(self.elicitation.take())
            trained_on = VectorPredictedReward(self.recorder, self.ensemble)
        self._trained_on = trained_on
        cores = config.threads or available_cores()
        self._second_core = ThreadPoolExecutor(1) if self.trainer is not None and cores > 1 else None
        self._reference = np.empty(0), np.empty(0)  # observations and actions of the random policy
        with one_torch_thread():  # the orthogonal first weights depend on how many there are
            self.agent = Agent(trained_on, config.ppo, config.steps, config.seed)
        self._started = False
        if state is not None:
            self._load_state(state)

    def state(self) -> State:
        """Everything that the next iterations depend on, between two of them; the store keeps the rest."""
        state: State = {
            "started": self._started,
            "random": global_random_state(),
            "env": self.env.unwrapped.state() if isinstance(self.env.unwrapped, MujocoVectorEnv) else None,
            "recorder": self.recorder.state(),
            "agent": self.agent.state(),
            "moments": self._moments.state(),
            "recent": [{name: getattr(rollout, name) for name in ROLLOUT_FIELDS} for rollout in self._recent],
            "query_rng": self._query_rng.bit_generator.state,
            "sample_rng": self._sample_rng.bit_generator.state,
            "reference": self._reference,
        }
        if self.trainer is not None and self.elicitation is not None:
            state |= {"trainer": self.trainer.state(), "elicitation": self.elicitation.state()}
        return state

    def _load_state(self, state: State) -> None:
        self._started = state["started"]
        self.agent.load_state(state["agent"])
        self._moments.load_state(state["moments"])
        self._reference = state["reference"][0], state["reference"][1]
        self._recent.extend(Rollout(**{**each, "episode_returns": ()}) for each in state["recent"])
        self._query_rng.bit_generator.state = state["query_rng"]
        self._sample_rng.bit_generator.state = state["sample_rng"]
        if self.trainer is not None:
            self.trainer.load_state(state["trainer"])
        if isinstance(self.env.unwrapped, MujocoVectorEnv):
            self.env.unwrapped.load_state(state["env"])
            self.recorder.load_state(state["recorder"])
            if self.ensemble is not None:
                self._trained_on.observations = state["recorder"]["observations"]
                self._trained_on.env_steps = state["recorder"]["env_steps"]
        else:
            self._restart_episodes(state)
        load_global_random_state(state["random"])

    def _restart_episodes(self, state: State) -> None:
        """Where the environments cannot restore their state: new episodes."""
        log.warning(
            "%s has no state to restore: its episodes start anew, so the run goes on, but not bit for bit",
            self.config.task,
        )
        self.recorder.env_steps = state["recorder"]["env_steps"]
        self.agent.restart_episodes(self.recorder.env_steps)

    def iterations(self, on_wait: Callable[[Waiting], None] = lambda waiting: None) -> Iterator[IterationReport]:
        """Run to the configured number of steps, one report per iteration.

        Args:
            on_wait: called five times a second while people are waited for; what it raises ends the loop.
        """
        if self.config.feedback != "none" and not self._started:
            self._learn_about_random_policy(on_wait)
        self._started = True
        wait_above = self.config.people.wait_above if self.config.feedback == "people" else None
        while self.agent.env_steps < self.config.steps:
            began = time.perf_counter()
            rollout = self._collect()
            if wait_above is not None:
                self._ask_what_is_due()
                waited = time.perf_counter()
                self._wait(wait_above, on_wait, can_save=False)
                began += time.perf_counter() - waited
            ppo, fitted = self._learn(rollout)
            seconds = time.perf_counter() - began
            yield self._report(rollout, fitted, ppo, seconds)

    def _open_at_start(self) -> int:
        """Queries about the random policy that may still be open: people have those to look at while it goes on."""
        few = min(OPEN_AT_START, self.labels_asked // 10)
        wait_above = self.config.people.wait_above
        return few if wait_above is None else min(few, wait_above)

    def _wait(self, above: int, on_wait: Callable[[Waiting], None], can_save: bool) -> None:
        """For people, until no more than so many queries are unanswered."""
        assert self.elicitation is not None
        if self.config.feedback != "people":
            return
        while (unanswered := self.elicitation.unanswered()) > above:
            on_wait(Waiting(self.agent.env_steps, unanswered, can_save))
            time.sleep(WAIT_SECONDS)

    @one_torch_thread()
    def _learn_about_random_policy(self, on_wait: Callable[[Waiting], None]) -> None:
        """The first quarter of the labels is about a randomly initialised policy (section A.1).

        In rounds: after each of its iterations, what was learnt by then chooses what is asked about all of them so far.
        Of a pole that lies in nearly all steps, random pairs teach next to nothing.
        """
        options = self.config.queries
        enough = -(-self.config.steps_that_hold(options.segment_steps or 1) // self.config.ppo.num_steps)
        first_round = enough if options.initial_rounds else options.initial_rollouts
        collected = len(self._recent)  # not 0 where a run goes on that was waiting for people
        for rollouts in range(max(collected, 1), options.initial_rollouts + 1):
            if rollouts > collected:
                self._update_observation_statistics(self._collect())
            if rollouts < first_round:
                continue
            due = self._labels_wanted(0) * rollouts // options.initial_rollouts - self.labels_asked
            if rollouts > collected and due > 0:
                self._ask(self._choose(due, rollouts, known=rollouts > first_round and self.labels_answered > 0))
            self._wait(self._open_at_start(), on_wait, can_save=True)
            self._take_answers()
            with self.clock.stage("fit"):
                assert self.trainer is not None
                self.trainer.fit(self.config.reward.initial_gradient_steps)
            self._normalise_rewards()
        self._reference = self._draw_steps(REFERENCE_STEPS)
        self.agent.restart_return_statistics()

    @property
    def labels_asked(self) -> int:
        """Queries put to the oracle so far."""
        return self.elicitation.asked if self.elicitation else 0

    @property
    def labels_answered(self) -> int:
        """Answers taken so far."""
        return self.elicitation.answered if self.elicitation else 0

    def _labels_wanted(self, env_steps: int) -> int:
        config = self.config
        return labels_wanted(env_steps, config.steps, config.labels) if config.queries.online else config.labels

    @one_torch_thread()
    def _collect(self) -> Rollout:
        """The policy acts on the reward as predicted so far."""
        began = time.perf_counter()
        simulated = self.recorder.seconds
        predicted = getattr(self._trained_on, "seconds", 0.0) if self.ensemble else 0.0
        if self.recorder.films is not None:
            self.recorder.films.plan(self.config.ppo.num_steps, self._films_wanted())
        self.agent.collect()
        rollout = self.recorder.take()
        self._recent.append(rollout)
        simulated = self.recorder.seconds - simulated
        predicted = (self._trained_on.seconds if self.ensemble else 0.0) - predicted
        self.clock.add("simulate", simulated)
        self.clock.add("predict", predicted)
        self.clock.add("policy", time.perf_counter() - began - simulated - predicted)
        return rollout

    def _films_wanted(self) -> int:
        """Stretches of the next rollout to film: half as many again as a round asks about, as some cross a reset."""
        if self._started:
            return FILMED
        return max(FILMED, 3 * self._labels_wanted(0) // self.config.queries.initial_rollouts)

    @one_torch_thread()
    def _learn(self, rollout: Rollout) -> tuple[dict[str, float], Fitted | None]:
        """Policy and predictor, on a core each where there are two: neither needs what the other learns meanwhile."""
        fitted: Future[Fitted] | None = None
        if self.trainer is not None:
            if self._second_core is not None:
                fitted = self._second_core.submit(self._ask_and_fit, rollout)
            else:
                fitted = Future()
                fitted.set_result(self._ask_and_fit(rollout))
        try:
            with self.clock.stage("ppo"):
                ppo = self.agent.learn()
        finally:
            if fitted is not None:
                wait([fitted])
        found = fitted.result() if fitted is not None else None
        self._update_observation_statistics(rollout)
        return ppo, found

    @one_torch_thread()  # the number of threads is each thread's own
    def _ask_and_fit(self, rollout: Rollout) -> Fitted:
        """Ask what is due, fit to all answers, normalise the reward and compare it with the true one."""
        assert self.trainer is not None
        gradient_steps = self.config.reward.gradient_steps
        assert gradient_steps is not None
        self._ask_what_is_due()
        self._take_answers()
        with self.clock.stage("fit"):
            fit = self.trainer.fit(gradient_steps)
        return Fitted(fit, self._reward_metrics(rollout), self._calibrate())

    @one_torch_thread()
    def _ask_what_is_due(self) -> None:
        """Ask what the schedule wants by now."""
        due = self._labels_wanted(self.agent.env_steps) - self.labels_asked
        if due > 0:
            self._ask(self._choose(due, self.config.queries.recent_rollouts))

    @one_torch_thread()
    def _choose(self, count: int, rollouts: int, known: bool = True) -> list[Query]:
        """Pairs of segments of recent rollouts; at random as long as nothing is known to disagree about."""
        options = self.config.queries
        assert options.segment_steps is not None
        assert self.ensemble is not None
        with self.clock.stage("label"):
            recent = join(list(self._recent)[-rollouts:])
            if options.selection == "uniform" or not known:
                return random_pairs(recent, count, options.segment_steps, self._query_rng)
            return disputed_pairs(recent, count, options.segment_steps, options, self.ensemble, self._query_rng)

    def _ask(self, queries: list[Query]) -> None:
        assert self.elicitation is not None
        with self.clock.stage("label"):
            self.elicitation.ask(queries, self.agent.env_steps)

    def _take_answers(self) -> None:
        """Those that have come in by now, to whatever was asked; the policy waits for none."""
        assert self.elicitation is not None
        assert self.trainer is not None
        with self.clock.stage("label"):
            self.trainer.comparisons.extend(self.elicitation.collect(self.agent.env_steps))

    def _update_observation_statistics(self, rollout: Rollout) -> None:
        self._moments.update(rollout.observations)
        self.agent.set_observation_statistics(self._moments.mean, self._moments.deviation)
        if self.ensemble is not None and self.config.reward.normalise_observations:
            self.ensemble.set_observation_statistics(self._moments.mean, self._moments.deviation)

    def _normalise_rewards(self) -> None:
        """Each member's reward to mean 0 and deviation 1 over recent data (section 2.2.1)."""
        if self.ensemble is None or self.trainer is None or not self.config.reward.normalise_rewards:
            return
        recent = self.ensemble.member_rewards(*self._draw_steps(NORMALISATION_STEPS))
        steps = self.trainer.comparisons.steps(COMPARED_STEPS)
        compared = self.ensemble.member_rewards(*steps) if len(steps[0]) else None
        self.ensemble.normalise_rewards_over(recent, compared)

    def _draw_steps(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Observations and actions of about `count` recent steps, the same number from each rollout."""
        rollouts = list(self._recent)[-NORMALISATION_ROLLOUTS:]
        size = rollouts[0].rewards.size
        chosen = self._sample_rng.integers(size, size=max(1, count // len(rollouts)))
        before = np.concatenate([r.observations.reshape(size, -1)[chosen] for r in rollouts])
        after = np.concatenate([r.next_observations.reshape(size, -1)[chosen] for r in rollouts])
        actions = np.concatenate([r.actions.reshape(size, -1)[chosen] for r in rollouts])
        return observed(before, after, self.config.reward.observation), actions

    def _calibrate(self) -> Calibration | None:
        """At evenly spaced points of the run and at its end."""
        assert self.trainer is not None
        now, steps = self.agent.env_steps, self.config.steps
        before = now - self.config.iteration_steps
        if now < steps and now * CALIBRATIONS // steps == before * CALIBRATIONS // steps:
            return None
        with self.clock.stage("predict"):
            return self.trainer.calibrate()

    def _reward_metrics(self, rollout: Rollout) -> dict[str, float]:
        assert self.ensemble is not None
        assert self.trainer is not None
        with self.clock.stage("predict"):
            self._normalise_rewards()
            return reward_metrics(
                self.ensemble,
                rollout,
                self._reference,
                self.trainer.comparisons.steps(COMPARED_STEPS),
                self.config.queries.segment_steps or 1,
                self.config.horizon or 1,
            )

    def _report(
        self, rollout: Rollout, fitted: Fitted | None, ppo: dict[str, float], seconds: float
    ) -> IterationReport:
        metrics = {
            "steps_per_second": rollout.rewards.size / seconds,
            "true_return": float(np.mean(rollout.episode_returns)) if rollout.episode_returns else float("nan"),
            "true_reward": float(rollout.rewards.mean()),
            **(fitted.rewards if fitted is not None else {}),
            **{f"ppo/{name}": value for name, value in ppo.items()},
            **self.clock.shares(),
        }
        if fitted is not None:
            fit = fitted.report
            metrics |= {
                "labels/wanted": float(self._labels_wanted(self.agent.env_steps)),
                "labels/asked": float(self.labels_asked),
                "labels/answered": float(self.labels_answered),
                "fit/train_loss": fit.train_loss,
                "fit/validation_loss": fit.validation_loss,
                "fit/accuracy": fit.accuracy,
                "fit/l2": fit.l2,
                **calibration_metrics(fitted.calibration),
            }
        return IterationReport(self.agent.env_steps, metrics, fitted.calibration if fitted is not None else None)

    def close(self) -> None:
        """Stop the threads."""
        self.env.close()
        if self._second_core is not None:
            self._second_core.shutdown()
