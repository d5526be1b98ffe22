"""How good is a policy? True returns and success measures over whole episodes.

Takes anything with `act`; agent.Agent and agent.SavedPolicy have it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from prefrl.environments import EnvironmentSpec
from prefrl.rollouts import RolloutRecorder
from prefrl.simulation import MujocoVectorEnv
from prefrl.threads import one_torch_thread

EVALUATION_SEED = 1_000_000  # start states of evaluations, apart from those of training


class Policy(Protocol):
    """Acts on a batch of raw observations."""

    def act(self, observations: NDArray[np.floating], deterministic: bool = True) -> NDArray[Any]:
        """(n, obs_dim) -> (n, ...) actions."""
        ...


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Whole episodes of one policy."""

    env_steps: int  # of the run, when the policy was evaluated
    true_returns: tuple[float, ...]  # one per episode
    measures: dict[str, tuple[float, ...]]  # the task's, one number per episode; empty for other environments
    qpos: NDArray[np.float64] | None  # (episodes, horizon + 1, nq) exact states; None without MuJoCo
    qvel: NDArray[np.float64] | None

    def as_json(self) -> dict[str, Any]:
        """What evaluation.json holds."""

        def summary(values: tuple[float, ...]) -> dict[str, Any]:
            return {"mean": float(np.mean(values)), "std": float(np.std(values)), "values": list(values)}

        return {
            "episodes": len(self.true_returns),
            "env_steps": self.env_steps,
            "true_return": summary(self.true_returns),
            "measures": {name: summary(values) for name, values in self.measures.items()},
        }


@one_torch_thread()
def evaluate(
    policy: Policy,
    spec: EnvironmentSpec,
    episodes: int,
    env_steps: int = 0,
    threads: int | None = None,
    seed: int = EVALUATION_SEED,
    deterministic: bool = True,
) -> Evaluation:
    """Run `episodes` whole episodes side by side.

    Args:
        policy: acts without noise unless `deterministic` is off.
        spec: the environment.
        env_steps: of the run, to be noted.
        threads: cores to use.
        seed: of the start states.
    """
    env = RolloutRecorder(spec.make(episodes, threads))
    observations, _ = env.reset(seed=seed)
    info: dict[str, Any] = {}
    for _ in range(spec.horizon):
        observations, _, _, _, info = env.step(policy.act(observations, deterministic))
    rollout = env.take()
    qpos = qvel = None
    measures: dict[str, tuple[float, ...]] = {}
    if rollout.qpos is not None and rollout.qvel is not None:
        qpos, qvel = rollout.qpos.swapaxes(0, 1), rollout.qvel.swapaxes(0, 1)
    if qpos is not None and qvel is not None and isinstance(env.unwrapped, MujocoVectorEnv):
        qpos = np.concatenate([qpos, info["final_qpos"][:, None]], axis=1)
        qvel = np.concatenate([qvel, info["final_qvel"][:, None]], axis=1)
        if spec.task is not None:
            each = [spec.task.measure(states, env.unwrapped.dt) for states in qpos]
            measures = {name: tuple(m[name] for m in each) for name in each[0]}
    env.close()
    returns = tuple(rollout.rewards.sum(axis=0, dtype=np.float64).tolist())
    return Evaluation(env_steps, returns, measures, qpos, qvel)
