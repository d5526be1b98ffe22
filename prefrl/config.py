"""Everything a run can be told, composed of one frozen dataclass per stage."""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import tyro

from prefrl.environments import EnvironmentSpec, resolve_environment
from prefrl.errors import UserError
from prefrl.labelling.options import PeopleOptions
from prefrl.options import PPOOptions, QueryOptions, RewardOptions
from prefrl.oracles.synthetic import SyntheticOracle, Teacher, true_return
from prefrl.tasks import TASKS, Task


def parse_count(text: str) -> int:
    """A whole number, which may be written 2e6 or 2_000_000."""
    number = float(text) if re.fullmatch(r"[0-9_]+(\.[0-9]+)?([eE][+]?[0-9]+)?", text) else float("nan")
    if not number.is_integer():
        raise ValueError(f"{text!r} is not a whole number of 0 or more (2000000, 2e6 or 2_000_000)")
    return int(number)


Count = Annotated[
    int,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="N",
        instance_from_str=lambda texts: parse_count(texts[0]),
        is_instance=lambda value: isinstance(value, int),
        str_from_instance=lambda value: [str(value)],
    ),
]


@dataclass(frozen=True)
class OracleOptions(Teacher):
    """The scripted oracle of --feedback synthetic."""

    score: Literal["reward", "judge"] = "reward"
    """compare the segments' true returns, or what the task's judge says of them"""
    equal_within: float = 0.01
    """difference of scores, in deviations, up to which segments are called equal: what nobody could see; an exact tie
    always is"""

    def make(self, task: Task | None, seed: int, labeller: str | None = None) -> SyntheticOracle:
        """The oracle, for segments of a task, or of an environment that is not of the table.

        Raises:
            UserError: there is no judge for it, or a myopic one.
        """
        if self.score == "reward":
            return SyntheticOracle(true_return, self, seed=seed, labeller=labeller or self.score)
        if task is None or task.judge is None:
            raise UserError(f"{task.name if task else 'this environment'} has no judge; use --oracle.score reward")
        return SyntheticOracle(task.judge, self, seed=seed, labeller=labeller or self.score)


@dataclass(frozen=True)
class TrainConfig:
    """One training run."""

    task: tyro.conf.Positional[str]
    """task of `prefrl tasks`, or any gymnasium id (module:Id-v0 imports the module first)"""
    feedback: Literal["synthetic", "people", "none"] = "synthetic"
    """synthetic: a scripted oracle compares segments; people: whoever opens the labelling page, whose address is
    printed; none: PPO on the true reward, the baseline"""
    labels: Count = 700
    """comparisons to ask for over the whole run"""
    steps: Count = 2_000_000
    """environment steps of the whole run"""
    seed: Count = 0
    """fixes the run bit for bit on one machine"""
    horizon: Count | None = None
    """steps per episode; the task's own by default"""
    fill_early_ends: bool | None = None
    """fill up an episode that ends early to the horizon, staying there for no reward, instead of refusing it; by
    default where --horizon is given"""
    run_dir: Path | None = None
    """folder to leave the run in, which must not exist; runs/TASK-FEEDBACK-SEED by default"""
    store: str | None = None
    """database of segments, queries and answers, a file or postgresql://USER@HOST/NAME; RUN/preferences.db by default;
    what it holds already is trained on and counts as labels;
    a password in the URL is not kept, so `prefrl resume` takes it from the environment variable PGPASSWORD"""
    replay: str | None = None
    """RUN/preferences.db of a run to repeat, given its other options: every query and answer comes from there at the
    step at which it came then, and nobody is asked; on one machine the result is the same, bit for bit"""
    threads: Count | None = None
    """cores to use; all by default"""
    checkpoint_minutes: float = 1.0
    """minutes from one checkpoint to the next, to resume from; 0 after every iteration"""
    evaluation_episodes: Count = 10
    """episodes of the final evaluation"""
    video: bool = True
    """render videos of the policy at 25, 50, 75 and 100 % of the run"""
    queries: QueryOptions = field(default_factory=QueryOptions)
    oracle: OracleOptions = field(default_factory=OracleOptions)
    people: PeopleOptions = field(default_factory=PeopleOptions)
    reward: RewardOptions = field(default_factory=RewardOptions)
    ppo: PPOOptions = field(default_factory=PPOOptions)

    def environment(self) -> EnvironmentSpec:
        """The environment, resolved.

        Raises:
            UserError: there is no such environment.
        """
        return resolve_environment(self.task, self.horizon, self.fill_early_ends)

    @property
    def iteration_steps(self) -> int:
        """Environment steps per iteration of the loop."""
        return self.ppo.num_envs * self.ppo.num_steps

    def steps_that_hold(self, segment_steps: int) -> int:
        """Steps of each environment that surely hold a segment beside a reset: more where all reset together."""
        staggered = self.ppo.num_envs > 1
        return segment_steps if staggered else 2 * segment_steps - 1

    def resolved(self) -> TrainConfig:
        """The same run with every default filled in, checked for what can't work.

        Raises:
            UserError: options that contradict each other or the environment.
        """
        spec = self.environment()
        segment_steps = self.queries.segment_steps or (spec.task.segment_steps if spec.task else min(25, spec.horizon))
        kind = self.feedback if self.replay is None else "replay"
        config = replace(
            self,
            task=spec.name,
            horizon=spec.horizon,
            fill_early_ends=spec.absorb,
            run_dir=self.run_dir or Path("runs") / f"{_file_name(spec.name)}-{kind}-{self.seed}",
            store=self.store and _absolute(self.store),
            replay=self.replay and _absolute(self.replay),
            queries=replace(self.queries, segment_steps=segment_steps),
            reward=self.reward.resolved(segment_steps),
        )
        if self.seed >= 2**32:
            raise UserError(f"seed {self.seed} is beyond {2**32 - 1}, the largest that NumPy and torch take")
        if not 0 <= self.checkpoint_minutes < math.inf:
            raise UserError(f"{self.checkpoint_minutes} minutes between checkpoints; give a number of 0 or more")
        if self.evaluation_episodes < 1:
            raise UserError("0 evaluation episodes; a run is judged by at least 1")
        if self.store == "":
            raise UserError("the name of the store is empty; give --store a file or a URL, or leave it out")
        if self.store and self.feedback == "none":
            raise UserError("--feedback none leaves nothing to store; leave out --store")
        if self.replay is not None and (self.store or self.feedback == "none"):
            other = f"--store {self.store}" if self.store else "--feedback none"
            raise UserError(f"--replay repeats a run with answers in a folder of its own; leave out {other}")
        if self.steps < self.iteration_steps:
            raise UserError(
                f"{self.steps} steps are less than one iteration of {self.iteration_steps}; "
                "raise --steps or lower --ppo.num-envs, --ppo.num-steps and --ppo.batch-size"
            )
        if self.feedback != "none":
            config._check_feedback(spec, segment_steps)
        return config

    def _check_feedback(self, spec: EnvironmentSpec, segment_steps: int) -> None:
        if segment_steps > spec.horizon:
            raise UserError(
                f"segment of {segment_steps} steps exceeds the episodes of {spec.horizon}; "
                "lower --queries.segment-steps or raise --horizon"
            )
        rollouts = {"recent": self.queries.recent_rollouts, "initial": self.queries.initial_rollouts}
        fewest = min(rollouts.values())
        too_few = " and ".join(f"--queries.{kind}-rollouts" for kind, count in rollouts.items() if count == fewest)
        window = self.ppo.num_steps * fewest
        if segment_steps > window:
            raise UserError(
                f"segment of {segment_steps} steps exceeds the {window} recent steps of each environment; "
                f"lower --queries.segment-steps or raise {too_few}"
            )
        needed = self.steps_that_hold(segment_steps)
        if needed > window:
            raise UserError(
                f"segments of {segment_steps} steps need {needed} recent steps of each environment to "
                f"find one beside a reset, since all reset together; there are {window}; "
                "lower --queries.segment-steps or raise --ppo.num-steps"
            )
        if self.labels < 4:
            raise UserError(f"{self.labels} labels; the predictor needs at least 4 (--feedback none trains without)")
        if self.labels * 2 * segment_steps > self.steps:
            raise UserError(
                f"{self.labels} labels on pairs of {segment_steps} steps show more than the run's {self.steps} steps; "
                f"lower --labels to {self.steps // (2 * segment_steps)} or raise --steps"
            )
        first = self.queries.initial_rollouts * self.iteration_steps
        if first + self.iteration_steps > self.steps:
            raise UserError(
                f"the random policy's {first} steps leave no iteration of {self.iteration_steps} in {self.steps}; "
                "raise --steps or lower --queries.initial-rollouts"
            )
        if self.feedback == "people" and spec.task is None and segment_steps > self.ppo.num_steps:
            raise UserError(
                f"segment of {segment_steps} steps exceeds an iteration's {self.ppo.num_steps}, within which they are "
                "filmed; lower --queries.segment-steps or raise --ppo.num-steps"
            )
        if self.feedback == "synthetic":
            self.oracle.make(spec.task, self.seed)


# Where a task is known to want something else than the defaults; experiments/README.md has what was measured.
TASK_DEFAULTS: dict[str, dict[str, Any]] = {
    # A stroke pays late: with a shorter view it wriggles on the spot.
    "swimmer": {"ppo": PPOOptions(gamma=0.9999)},
    # The judge knows a flip from a roll; the blog's reward does not. Longer iterations and larger batches than
    # elsewhere, and more action noise: else the policy settles on rocking back and forth before it has found the turn.
    "hopper-backflip": {
        "labels": 900,
        "steps": 4_000_000,
        "queries": QueryOptions(recent_rollouts=2, elite_share=0.0, initial_rounds=False),
        "oracle": OracleOptions(score="judge", equal_within=0.0),
        "reward": RewardOptions(gradient_steps=4),
        "ppo": PPOOptions(num_steps=128, batch_size=2048, epochs=10, initial_log_deviation=0.0, centre_rewards=False),
    },
}


def default_config(task: str) -> TrainConfig:
    """The run that `prefrl train TASK` starts without further options; TASK is a name or a gymnasium id."""
    names = {row.gymnasium_id: row.name for row in TASKS.values()}
    return TrainConfig(task, **TASK_DEFAULTS.get(names.get(task, task), {}))


def config_from_json(options: dict[str, Any], source: Path | str) -> TrainConfig:
    """The run that `dataclasses.asdict` of a resolved configuration says, as it stands in config.json.

    Args:
        options: what was read.
        source: where from, for the error.

    Raises:
        UserError: an option is missing, of the wrong type, or impossible.
    """
    try:
        return _adapter().validate_python(options)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise UserError(f"{source} is no configuration of a run: {name}: {first['msg']}") from error


@functools.cache
def _adapter() -> pydantic.TypeAdapter[TrainConfig]:
    """Takes some milliseconds to make."""
    return pydantic.TypeAdapter(TrainConfig)


def _absolute(url_or_path: str) -> str:
    return url_or_path if "://" in url_or_path else str(Path(url_or_path).absolute())


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)
