"""One run of `imitation`'s preference comparisons on HalfCheetah, in an environment of its own.

compare.py starts this. By hand, after the two lines at the top of requirements-imitation.txt:

    experiments/peers/.venv-imitation/bin/python experiments/peers/run_imitation.py --steps 4e4 --out runs/imitation

Leaves curve.csv (one row for each step on which episodes ended) and, last of all, summary.json in --out.

The task is ours: HalfCheetah rewarded with its forward velocity alone, 1,000 steps, never ending early. Settings says
what was chosen: the paper's values where it has them, else those that imitation ships or documents for this robot.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("TQDM_DISABLE", "1")  # imitation draws a bar for every round of fitting

import gymnasium
import numpy as np
import torch
from imitation.algorithms import preference_comparisons
from imitation.policies.base import NormalizeFeaturesExtractor
from imitation.rewards.reward_nets import BasicRewardNet, NormalizedRewardNet, RewardEnsemble
from imitation.util import logger as imitation_logger
from imitation.util.networks import RunningNorm
from imitation.util.util import make_vec_env
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

Result = TypeVar("Result")


@dataclass(frozen=True)
class Settings:
    """What the run uses; written to summary.json as it is."""

    environment: str = "HalfCheetah-v4"
    # Forward reward only: the paper removes torque costs, since a person can't see them.
    environment_options: dict[str, float] = field(default_factory=lambda: {"ctrl_cost_weight": 0.0})
    environments: int = 8  # make_vec_env's default, and that of imitation's own training script
    parallel: bool = False  # DummyVecEnv, as in imitation's documented example
    # The paper's predictor and queries, the same as ours.
    members: int = 3
    predictor_layers: tuple[int, ...] = (64, 64)
    fragment_length: int = 30
    query_oversampling: int = 10
    uncertainty_on: str = "probability"
    initial_comparison_share: float = 0.25
    assumed_error_rate: float = 0.1  # in the loss only; imitation's default is 0
    temperature: float = 0.0  # the oracle never errs; imitation's default of 1 is in units of return
    # imitation's `seals_half_cheetah` configuration for this very script (train_preference_comparisons).
    iterations: int = 50  # at most: see `iterations_for`
    rollout_steps: int = 512
    ppo: dict[str, float] = field(
        default_factory=lambda: {
            "batch_size": 64,
            "n_epochs": 5,
            "learning_rate": 0.0003286871805949382,
            "clip_range": 0.1,
            "gamma": 0.95,
            "gae_lambda": 0.95,
            "ent_coef": 3.794797423594763e-06,
            "vf_coef": 0.11483689492120866,
            "max_grad_norm": 0.8,
        }
    )
    policy_layers: tuple[int, ...] = (64, 64)  # from train_rl's configuration of that name
    # As in imitation's documented example, which was tuned; fitting otherwise by default: AdamW, 1e-3, batches of 32.
    normalise_observations: bool = True
    epochs: int = 3
    initial_epoch_multiplier: float = 4.0  # the default of 200 would take minutes before the first step of PPO
    transition_oversampling: float = 1.0


def iterations_for(settings: Settings, steps: int) -> int:
    """Rounds of asking, fitting and acting.

    Segments come from the episodes that ended since the last round. If none did, the library resets the environments
    and acts for a whole episode more in each of them, every round; so a short run has fewer rounds.
    """
    return max(2, min(settings.iterations, steps // 20_000))


def paper_schedule(progress: float) -> float:
    """Share of the answers wanted at a fraction of the run: 2e6 / (T + 2e6) over 2e7 steps, scaled to any length."""
    return 1.0 / (1.0 + 10.0 * progress)


class TrueReturns(VecEnvWrapper):
    """Notes the true return of every episode that ends.

    Sits below imitation's wrappers, so its reward is the environment's. Counts every step taken, those for collecting
    segments included, whichever part of the library asked for them.
    """

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        self.env_steps = 0
        self.rows: list[tuple[int, float, list[float]]] = []  # env_steps, clock, returns of the episodes that ended

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        observations, rewards, dones, infos = self.venv.step_wait()
        self.env_steps += self.num_envs
        if dones.any():
            returns = [float(infos[i]["episode"]["r"]) for i in np.flatnonzero(dones)]
            self.rows.append((self.env_steps, time.perf_counter(), returns))
        return observations, rewards, dones, infos


class Stopwatch:
    """Seconds spent in each named function."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def timed(self, name: str, function: Callable[..., Result]) -> Callable[..., Result]:
        self.seconds[name] = 0.0

        def call(*args: Any, **kwargs: Any) -> Result:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[name] += time.perf_counter() - start

        return call


def build_environments(settings: Settings, rng: np.random.Generator) -> TrueReturns:
    venv = make_vec_env(
        settings.environment,
        rng=rng,
        n_envs=settings.environments,
        parallel=settings.parallel,
        env_make_kwargs=settings.environment_options,
    )
    return TrueReturns(venv)


def build_ensemble(settings: Settings, venv: VecEnv) -> RewardEnsemble:
    """As imitation's `reward_ensemble` configuration: each member normalises its own output, then the mean."""

    def member() -> NormalizedRewardNet:
        network = BasicRewardNet(
            venv.observation_space,
            venv.action_space,
            hid_sizes=settings.predictor_layers,
            normalize_input_layer=RunningNorm,
        )
        return NormalizedRewardNet(network, RunningNorm)

    return RewardEnsemble(venv.observation_space, venv.action_space, [member() for _ in range(settings.members)])


def build_agent(settings: Settings, venv: VecEnv, seed: int) -> PPO:
    policy_options: dict[str, Any] = {"net_arch": list(settings.policy_layers)}
    if settings.normalise_observations:
        policy_options["features_extractor_class"] = NormalizeFeaturesExtractor
        policy_options["features_extractor_kwargs"] = {"normalize_class": RunningNorm}
    return PPO(
        "MlpPolicy",
        venv,
        n_steps=settings.rollout_steps // settings.environments,
        policy_kwargs=policy_options,
        seed=seed,
        device="cpu",
        **settings.ppo,
    )


def build_trainer(
    settings: Settings, venv: VecEnv, steps: int, seed: int, rng: np.random.Generator, watch: Stopwatch
) -> preference_comparisons.PreferenceComparisons:
    """Put the library's parts together the way its own training script does."""
    log = imitation_logger.configure(format_strs=[])
    ensemble = build_ensemble(settings, venv)
    agent = preference_comparisons.AgentTrainer(build_agent(settings, venv, seed), ensemble, venv, rng=rng)
    preferences = preference_comparisons.PreferenceModel(ensemble, noise_prob=settings.assumed_error_rate)
    queries = preference_comparisons.ActiveSelectionFragmenter(
        preferences,
        base_fragmenter=preference_comparisons.RandomFragmenter(rng=rng, warning_threshold=0, custom_logger=log),
        fragment_sample_factor=settings.query_oversampling,
        uncertainty_on=settings.uncertainty_on,
    )
    fitting = preference_comparisons.EnsembleTrainer(
        preferences, preference_comparisons.CrossEntropyRewardLoss(), rng=rng, epochs=settings.epochs
    )
    agent.train = watch.timed("agent", agent.train)
    agent.sample = watch.timed("sample", agent.sample)
    fitting.train = watch.timed("fit", fitting.train)
    return preference_comparisons.PreferenceComparisons(
        agent,
        ensemble,
        num_iterations=iterations_for(settings, steps),
        fragmenter=queries,
        preference_gatherer=preference_comparisons.SyntheticGatherer(temperature=settings.temperature, rng=rng),
        reward_trainer=fitting,
        fragment_length=settings.fragment_length,
        transition_oversampling=settings.transition_oversampling,
        initial_comparison_frac=settings.initial_comparison_share,
        initial_epoch_multiplier=settings.initial_epoch_multiplier,
        query_schedule=paper_schedule,
        custom_logger=log,
    )


def write_curve(path: Path, venv: TrueReturns, process_start: float, training_start: float) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["env_steps", "seconds", "total_seconds", "true_return", "episodes"])
        for env_steps, clock, returns in venv.rows:
            writer.writerow(
                [
                    env_steps,
                    f"{clock - training_start:.3f}",
                    f"{clock - process_start:.3f}",
                    f"{np.mean(returns):.3f}",
                    len(returns),
                ]
            )


def run(settings: Settings, steps: int, labels: int, seed: int, out: Path) -> dict[str, Any]:
    """Train once; returns what summary.json holds."""
    process_start = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    venv = build_environments(settings, rng)
    watch = Stopwatch()
    trainer = build_trainer(settings, venv, steps, seed, rng, watch)

    training_start, cpu_start = time.perf_counter(), time.process_time()

    def report(iteration: int) -> None:
        seconds = time.perf_counter() - training_start
        last = f"{np.mean(venv.rows[-1][2]):8.1f}" if venv.rows else "       -"
        print(
            f"iteration {iteration:3d}  {venv.env_steps:9,d} steps  {len(trainer.dataset):4d} answers"
            f"  true return {last}  {seconds:7.1f} s  {venv.env_steps / seconds:7.0f} steps/s",
            flush=True,
        )

    # The library acts for one round more than it is told, after the first answers.
    rounds = iterations_for(settings, steps)
    trainer.train(total_timesteps=steps * rounds // (rounds + 1), total_comparisons=labels, callback=report)
    training_end, cpu_end = time.perf_counter(), time.process_time()
    venv.close()

    seconds = training_end - training_start
    write_curve(out / "curve.csv", venv, process_start, training_start)
    answered = trainer.dataset.preferences
    summary = {
        "system": "imitation",
        "seed": seed,
        "steps": steps,
        "labels": labels,
        "env_steps": venv.env_steps,
        "labels_answered": len(answered),
        "seconds": round(seconds, 3),
        "total_seconds": round(training_end - process_start, 3),
        "cpu_seconds": round(cpu_end - cpu_start, 3),
        "steps_per_second": round(venv.env_steps / seconds, 1),
        "iterations": rounds,
        "stage_seconds": {
            **{name: round(value, 3) for name, value in watch.seconds.items()},
            "queries": round(seconds - sum(watch.seconds.values()), 3),
        },
        "torch_threads": torch.get_num_threads(),
        "settings": asdict(settings),
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "gymnasium": gymnasium.__version__,
            **{name: version(name) for name in ("imitation", "stable-baselines3", "mujoco", "torch", "seals")},
        },
    }
    partial = out / "summary.json.part"
    partial.write_text(json.dumps(summary, indent=2) + "\n")
    partial.replace(out / "summary.json")
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=float, required=True, help="environment steps to train for, e.g. 2e6")
    parser.add_argument("--labels", type=int, default=700, help="comparisons the oracle answers")
    parser.add_argument("--seed", type=int, default=1, help="seed of everything random")
    parser.add_argument("--out", type=Path, required=True, help="folder for curve.csv and summary.json")
    parser.add_argument("--threads", type=int, help="threads of torch (its own default if left out)")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    summary = run(Settings(), int(options.steps), options.labels, options.seed, options.out)
    print(f"{summary['env_steps']:,} steps in {summary['seconds']:.1f} s: {summary['steps_per_second']:.0f} steps/s")


if __name__ == "__main__":
    main()
