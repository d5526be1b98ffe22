"""PPO on the true reward by an agent as averse to risk as that of the answers: whose gain is it, theirs or the
aversion's?

    python experiments/averse_truth.py walker ant hopper --seeds 0 1 2

The true reward of each step is brought to mean 0 and deviation 1 over the latest iterations and paid as
(1 - exp(-a r)) / a, as a predicted one is, but for that each predictor is so normalised, so that their mean deviates by
a little less; without aversion, it is normalised alone. Keeps what is done in
experiments/results/averse_truth/runs.jsonl, goes on from there, and writes averse_truth.md beside it. A run of 2M steps
takes three to ten minutes on one core.
"""

from __future__ import annotations

import dataclasses
import json
import platform
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from common import RESULTS, markdown_table
from gymnasium.vector import VectorWrapper
from numpy.typing import NDArray

from prefrl.agent import Agent
from prefrl.config import default_config
from prefrl.evaluation import evaluate
from prefrl.loop import NORMALISATION_ROLLOUTS
from prefrl.normalisation import RunningMoments
from prefrl.paper import TRUE_REWARD
from prefrl.reward_model import LEAST_DEVIATION, RewardEnsemble
from prefrl.rollouts import RolloutRecorder
from prefrl.sweep.results import read_results
from prefrl.threads import one_torch_thread

OUT = RESULTS / "averse_truth"


@dataclass(frozen=True)
class Options:
    """Which runs."""

    tasks: Annotated[tuple[str, ...], tyro.conf.Positional]
    """tasks of `prefrl tasks`"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """of each task"""
    risk_aversion: float = 0.5
    """as --reward.risk-aversion; 0 for the normalised reward itself"""
    steps: int = 2_000_000
    """environment steps of each run"""


class Normalised(VectorWrapper):
    """The true reward, normalised and paid as a predicted one."""

    def __init__(self, env: RolloutRecorder, risk_aversion: float) -> None:
        super().__init__(env)
        self.mean, self.deviation, self.least = 0.0, 1.0, 1e-6
        self._pays = RewardEnsemble(1, 1, risk_aversion=risk_aversion)  # for its utility alone

    def normalise_over(self, rewards: NDArray[np.floating]) -> None:
        """Mean 0 and deviation 1 over these, or less where the policy has come to rest."""
        self.mean, self.deviation = float(rewards.mean()), max(float(rewards.std()), self.least)

    def step(self, actions: NDArray[Any]) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step; rewards are (n,) float32, a fresh array."""
        observations, rewards, *rest = self.env.step(actions)
        normalised = torch.as_tensor((rewards - self.mean) / self.deviation, dtype=torch.float32)
        return observations, self._pays.utility(normalised).numpy(), *rest


@one_torch_thread()
def run(task: str, seed: int, options: Options) -> list[float]:
    """Train, and return the true returns of the evaluated episodes."""
    config = dataclasses.replace(default_config(task), feedback="none", steps=options.steps, seed=seed).resolved()
    spec = config.environment()
    recorder = RolloutRecorder(spec.make(config.ppo.num_envs, 1, stagger=True), spec.horizon)
    env = Normalised(recorder, options.risk_aversion)
    agent = Agent(env, config.ppo, config.steps, seed)
    moments = RunningMoments(int(np.prod(recorder.single_observation_space.shape or ())))
    recent: deque[NDArray[np.floating]] = deque(maxlen=NORMALISATION_ROLLOUTS)

    def collect() -> None:
        agent.collect()
        rollout = recorder.take()
        recent.append(rollout.rewards)
        moments.update(rollout.observations)

    for _ in range(config.queries.initial_rollouts):  # of the random policy, as before the first answers
        collect()
        agent.set_observation_statistics(moments.mean, moments.deviation)
    env.normalise_over(np.concatenate(recent))
    env.least = LEAST_DEVIATION * env.deviation
    agent.restart_return_statistics()
    while agent.env_steps < config.steps:
        collect()
        agent.learn()
        agent.set_observation_statistics(moments.mean, moments.deviation)
        env.normalise_over(np.concatenate(recent))
    env.close()
    return list(evaluate(agent, spec, config.evaluation_episodes, threads=1).true_returns)


def main() -> None:
    """Run what is not done, and write the table."""
    options = tyro.cli(Options, description=__doc__)
    OUT.mkdir(parents=True, exist_ok=True)
    kept = OUT / "runs.jsonl"
    kept.touch()
    for seed in options.seeds:
        for task in options.tasks:
            which = {"task": task, "seed": seed, "risk_aversion": options.risk_aversion, "steps": options.steps}
            if any(which.items() <= each.items() for each in map(json.loads, kept.read_text().splitlines())):
                continue
            returns = run(task, seed, options)
            about = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": f"{platform.machine()}, one thread"}
            with kept.open("a") as file:
                file.write(json.dumps({**which, "true_returns": returns, **about}) + "\n")
            print(f"{task}, seed {seed}: {np.mean(returns):,.4g}", flush=True)
    (OUT / "averse_truth.md").write_text(table([json.loads(line) for line in kept.read_text().splitlines()]))


def table(runs: list[dict[str, Any]]) -> str:
    """Beside PPO on the plain true reward, of figure2.py."""
    plain = read_results(RESULTS / "figure2")
    rows = []
    for task, aversion, steps in sorted({(each["task"], each["risk_aversion"], each["steps"]) for each in runs}):
        means = {
            each["seed"]: float(np.mean(each["true_returns"]))
            for each in runs
            if (each["task"], each["risk_aversion"], each["steps"]) == (task, aversion, steps)
        }
        beside = {each.seed: each.true_return for each in plain.of(task, TRUE_REWARD)}
        cells = [", ".join(f"{each[seed]:,.4g}" for seed in sorted(means) if seed in each) for each in (means, beside)]
        rows.append([task, f"{aversion:g}", f"{steps:,}", ", ".join(map(str, sorted(means))), *cells])
    head = ["task", "risk aversion", "steps", "seeds", "true reward, normalised and so paid", "true reward as it is"]
    about = sorted({f"{each['date']}, {each['machine']}" for each in runs})
    return (
        "# PPO on the true reward, averse to risk\n\n`python experiments/averse_truth.py TASK --risk-aversion A "
        "--seeds SEEDS`; mean of 10 evaluation episodes per seed; the reward as it is by figure2.py, 2,000,000 steps; "
        f"{'; '.join(about)}.\n\n{markdown_table(head, *rows)}\n"
    )


if __name__ == "__main__":
    main()
