"""Whose fault is a low return? Each run's predictor judges the policies of the others.

    python experiments/cross_policies.py --name reacher RUN RUN ...

Takes folders of finished runs of one task, such as those in runs/trials. Where a predictor pays the policy that is
truly better more than its own, PPO did not find what it was shown; where it pays its own more, the predictor is wrong,
and the second table says what it goes by. Writes experiments/results/cross_policies/NAME.md; a minute.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from common import RESULTS, markdown_table

from prefrl.config import Count
from prefrl.errors import UserError
from prefrl.policy import SavedPolicy
from prefrl.reward_model import RewardEnsemble
from prefrl.rollouts import Rollout, RolloutRecorder
from prefrl.run_directory import describe_here, read_json, written_configuration
from prefrl.threads import one_torch_thread

START_SEED = 2_000_000  # of the episodes' start states, which no training and no evaluation saw
NAMED = 3  # inputs per predictor


@dataclass(frozen=True)
class Options:
    """Which runs."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """folders of finished runs of one task"""
    name: str
    """of the results"""
    episodes: Count = 64
    """of each policy, from the same start states"""


@dataclass(frozen=True)
class Judged:
    """A finished run, what its policy does, and its predictor; None if it had the true reward."""

    name: str
    rollout: Rollout
    predictor: RewardEnsemble | None

    @property
    def true_return(self) -> float:
        """Mean over the episodes."""
        return float(self.rollout.rewards.sum(axis=0).mean())


@one_torch_thread()
def load(run: Path, episodes: int) -> Judged:
    """Let the run's policy act, without noise, for whole episodes."""
    config, about = written_configuration(run), read_json(run / "config.json")
    spec = config.environment()
    env = RolloutRecorder(spec.make(episodes))
    policy = SavedPolicy(run / "policy.zip", env.single_observation_space, env.single_action_space, config.ppo.hidden)
    observations, _ = env.reset(seed=START_SEED)
    for _ in range(spec.horizon):
        observations, *_ = env.step(policy.act(observations))
    rollout = env.take()
    env.close()
    asked = f"{about['labels']} answers" if about["labels"] else "true reward"
    predictor = RewardEnsemble.load(run / "predictor.safetensors") if about["labels"] else None
    return Judged(f"{asked}, seed {about['seed']}", rollout, predictor)


def rewards(predictor: RewardEnsemble, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Predicted, in deviations, whatever its agent's aversion to risk makes of them."""
    return predictor.combine(predictor.member_rewards(observations, actions)).numpy()


def predicted_return(predictor: RewardEnsemble, rollout: Rollout) -> float:
    """Mean over the episodes."""
    return float(rewards(predictor, rollout.observed(predictor.observation), rollout.actions).sum(axis=0).mean())


def gone_by(predictor: RewardEnsemble, own: Rollout, better: Rollout) -> list[tuple[int, float]]:
    """Which inputs make the predictor prefer its own policy's steps, those of most weight first.

    In the latter half of the episodes, one input of the better policy's steps at a time is put in from its own: the
    reward per step that this adds, in the reward's deviations.
    """
    half = len(own.rewards) // 2
    seen = [each.observed(predictor.observation)[half:] for each in (own, better)]
    inputs = [np.concatenate([s, each.actions[half:]], axis=-1) for s, each in zip(seen, (own, better), strict=True)]
    size = seen[0].shape[-1]

    def paid(steps: np.ndarray) -> float:
        return float(rewards(predictor, steps[..., :size], steps[..., size:]).mean())

    before, added = paid(inputs[1]), []
    for number in range(inputs[1].shape[-1]):
        mixed = inputs[1].copy()
        mixed[..., number] = inputs[0][..., number]
        added.append((number, paid(mixed) - before))
    return sorted(added, key=lambda each: -each[1])


def main() -> None:
    """Judge every policy by every predictor, and write both tables."""
    options = tyro.cli(Options, description=__doc__)
    if len({written_configuration(run).task for run in options.runs}) > 1:
        sys.exit("runs of several tasks can't judge each other; give two or more of one task")
    judged = [load(run, options.episodes) for run in options.runs]
    judges = [each for each in judged if each.predictor is not None]
    if len(judged) < 2 or not judges:
        sys.exit(f"{len(judged)} runs, {len(judges)} with a predictor; give two or more, one of them from answers")
    results = RESULTS / "cross_policies"
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"{options.name}.md"
    path.write_text(_page(options, judged, judges))
    print(path.read_text())
    print(path)


def _page(options: Options, judged: Sequence[Judged], judges: Sequence[Judged]) -> str:
    best = max(judged, key=lambda each: each.true_return)
    returns = ["true return", *(f"{each.true_return:.2f}" for each in judged)]
    paid, gone = [], []
    for judge in judges:
        assert judge.predictor is not None
        own = predicted_return(judge.predictor, judge.rollout)
        more = [predicted_return(judge.predictor, each.rollout) - own for each in judged]
        paid.append([judge.name, *(f"{each:+.1f}" if each else "**own**" for each in more)])
        if judge is not best:
            names = _inputs(judge.predictor, judge.rollout)
            most = gone_by(judge.predictor, judge.rollout, best.rollout)[:NAMED]
            gone.append([judge.name, *(f"{names[number]} ({reward:+.2f})" for number, reward in most)])
    about = describe_here()
    machine = f"{about['machine']['system']} {about['machine']['machine']}"
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    runs = "\n".join(f"- `{run.name}`" for run in options.runs)
    return f"""# {written_configuration(options.runs[0]).task}: each predictor's word on each policy

Predicted return of each column's policy less that of the predictor's own, in deviations of the predicted reward; means
of {options.episodes} episodes from the same start states, without action noise. Above 0 for a better policy: PPO did
not find what the predictor would have paid for. Below 0 for a better policy: the predictor is wrong.

{markdown_table(["predictor of", *(each.name for each in judged)], returns, *paid)}

What a predictor goes by that prefers its own policy to the best, {best.name}: the inputs that add most to the
reward per step when they alone are put from its own policy's steps into the best one's, in the latter half of the
episodes.

{markdown_table(["predictor of", "most", "second", "third"], *gone)}

`python experiments/cross_policies.py --name {options.name} --episodes {options.episodes}` and

{runs}

Machine: {machine}. Versions: {versions}.
Revision {about["git_revision"]}. Date {about["started_at"][:10]}.
"""


def _inputs(predictor: RewardEnsemble, rollout: Rollout) -> list[str]:
    """Names of all that the predictor is given of a step."""
    when = ("before", "after") if predictor.observation == "both" else (predictor.observation,)
    names = [f"observation {i} {each}" for each in when for i in range(predictor.observation_dim)]
    return [*names, *(f"action {i}" for i in range(rollout.actions.shape[-1]))]


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
