"""`prefrl watch`: evaluate a finished run's policy again, and film it."""

from __future__ import annotations

import logging
from pathlib import Path

from prefrl.clips import RenderingUnavailable
from prefrl.errors import UserError
from prefrl.evaluation import Evaluation, evaluate
from prefrl.filming import film
from prefrl.policy import SavedPolicy, TrustedPolicy
from prefrl.run_directory import read_json, refuse_links, written_configuration
from prefrl.trust import refuse_untrusted

log = logging.getLogger("prefrl")


def watch(
    run_dir: Path, episodes: int = 10, deterministic: bool = True, seed: int | None = None, trust: bool = False
) -> tuple[Evaluation, Path | None]:
    """Evaluate a finished run's policy again and write RUN/videos/watch.mp4.

    Args:
        run_dir: the run's folder.
        episodes: to evaluate.
        deterministic: act by the policy's mean.
        seed: of the start states.
        trust: open policy.zip with Stable-Baselines3, whoever wrote it, and import the module that the run names.

    Returns:
        What it did, and the video; None, with a warning, where nothing can be rendered.

    Raises:
        UserError: the folder holds no finished run, or one that wants more trust.
    """
    if episodes < 1:
        raise UserError("0 episodes show nothing; give --episodes 1 or more")
    refuse_links(run_dir)
    config, policy_file = written_configuration(run_dir), run_dir / "policy.zip"
    if not policy_file.exists():
        raise UserError(f"{run_dir} holds no policy.zip; it is written when a run ends")
    refuse_untrusted(run_dir, trust, config.task)
    spec = config.environment()
    env = spec.make(1)
    open_policy = TrustedPolicy if trust else SavedPolicy
    policy = open_policy(policy_file, env.single_observation_space, env.single_action_space, config.ppo.hidden)
    env.close()
    env_steps = read_json(run_dir / "status.json").get("env_steps", config.steps)
    evaluation = evaluate(
        policy,
        spec,
        episodes,
        env_steps,
        deterministic=deterministic,
        **({} if seed is None else {"seed": seed}),
    )
    try:
        return evaluation, film(policy, spec, evaluation, run_dir / "videos" / "watch.mp4", seconds=25)
    except RenderingUnavailable as error:
        log.warning("no video: %s", error)
        return evaluation, None
