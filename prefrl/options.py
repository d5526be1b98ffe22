"""What each stage can be told: queries, predictor and PPO.

Apart from the stages, which load torch: a command that trains nothing starts without it. config.py composes them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from prefrl.errors import UserError
from prefrl.segments import When

FITTED_STEPS = 240  # of each segment of a minibatch in an iteration, over all its gradient steps


@dataclass(frozen=True)
class QueryOptions:
    """Which pairs of segments are asked about (section 2.2.4)."""

    segment_steps: int | None = None
    """steps per segment; the task's own by default; 1 is the "no segments" ablation"""
    selection: Literal["disagreement", "uniform"] = "disagreement"
    """ask where the ensemble disagrees most, or about random pairs"""
    candidates: int = 10
    """candidate pairs drawn per pair that is asked (disagreement)"""
    elite_share: float = 0.5
    """share of the later queries that compare segments of high predicted return with each other (disagreement); 0 is
    the paper's way"""
    elite_pool: int = 200
    """segments drawn for such a query; of the 10 best, the pair is asked about that the ensemble disagrees on most"""
    recent_rollouts: int = 4
    """iterations that segments are cut from"""
    initial_rollouts: int = 4
    """iterations of the random policy that the first quarter of the labels is about"""
    initial_rounds: bool = True
    """ask after each of these iterations about all of them so far, chosen by what was learnt by then; off asks
    everything after the last, at random, as in the paper"""
    online: bool = True
    """ask throughout the run; off asks everything about the random policy (the "no online queries" ablation)"""

    def __post_init__(self) -> None:
        if self.segment_steps is not None and self.segment_steps < 1:
            raise UserError(f"segment of {self.segment_steps} steps; it needs at least 1")
        if min(self.candidates, self.recent_rollouts, self.initial_rollouts) < 1:
            raise UserError("candidates and rollouts of the queries must be at least 1")
        if not 0 <= self.elite_share <= 1:
            raise UserError(f"elite share {self.elite_share} is outside [0, 1]")
        if self.elite_pool < 2:
            raise UserError(f"elite pool of {self.elite_pool} segments; a pair needs at least 2")


@dataclass(frozen=True)
class RewardOptions:
    """The predictor and its training; every switch of the paper's ablations is here."""

    members: int = 7
    """predictors in the ensemble; 1 is the "no ensemble" ablation"""
    hidden: tuple[int, ...] = (64, 64)
    """units in each hidden layer"""
    learning_rate: float = 1e-3
    """Adam's step size"""
    batch_size: int = 32
    """answers per gradient step and member"""
    latest_share: float = 0.5
    """share of these that is drawn from the latest answers alone, which are about what the policy does now; 0 draws
    all alike, as in the paper"""
    latest: int = 64
    """how many compared pairs are the latest; with no more than these, all are drawn alike"""
    initial_gradient_steps: int = 200
    """gradient steps on the first quarter of the answers, in each of its rounds"""
    gradient_steps: int | None = 2
    """gradient steps in each later iteration; None for as many as takes the same time whatever a segment's length: 16
    on segments of 15 steps, 4 on such of 60"""
    error_rate: float = 0.1
    """chance of a uniformly random answer assumed in the loss"""
    bootstrap: bool = True
    """train each member on its own draw with replacement, as in the paper; without, on all answers that it does not
    hold out"""
    hold_out: bool = True
    """hold out 1/e of the answers per member, which its draw leaves out; without bootstrap, each answer for one
    member"""
    adaptive_l2: bool = False
    """adapt the ℓ2 coefficient to the validation loss, as the paper does"""
    l2: float = 1e-3
    """ℓ2 coefficient, at first or for good, on the sum of squared weights; 0 is the "no regularisation" ablation"""
    dropout: float = 0.0
    """share of hidden units dropped in training"""
    observation: When = "before"
    """which observation of a step the predictor is given: before its action, as in the paper, or after it, which says
    more of what most environments pay for, or both"""
    normalise_observations: bool = True
    """normalise observations inside the predictor"""
    normalise_rewards: bool = True
    """normalise each member's reward over recent data"""
    risk_aversion: float = 0.0
    """a in the (1 - exp(-a r)) / a that the agent is paid for a predicted reward r: what is below the mean costs more
    than as much above it earns; 0 pays r itself, as in the paper"""
    target: Literal["comparisons", "returns"] = "comparisons"
    """fit comparisons, or regress on the segments' true returns (the "target" ablation)"""
    label_buffer: int = 3000
    """most recent answers that are trained on (section A.2)"""

    def __post_init__(self) -> None:
        if self.members < 1 or self.batch_size < 1 or self.label_buffer < 1:
            raise UserError("members, batch size and label buffer must be at least 1")
        if min(self.hidden, default=1) < 1:
            raise UserError(f"hidden layers of {self.hidden} units; each needs at least 1")
        if min(self.initial_gradient_steps, self.gradient_steps or 0) < 0:
            raise UserError("gradient steps must be 0 or more")
        if not 0 <= self.latest_share <= 1:
            raise UserError(f"share of the latest answers {self.latest_share} is outside [0, 1]")
        if self.latest < 1:
            raise UserError(
                f"{self.latest} latest answers; they must be at least 1 (--reward.latest-share 0 draws all alike)"
            )
        if not 0 <= self.error_rate < 1:
            raise UserError(f"error rate {self.error_rate} is outside [0, 1)")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout {self.dropout} is outside [0, 1)")
        if not 0 < self.learning_rate < math.inf:
            raise UserError(f"learning rate {self.learning_rate} is not a number above 0")
        if self.adaptive_l2 and not self.hold_out:
            raise UserError("nothing is held out to adapt ℓ2 to; drop --reward.adaptive-l2 or --reward.no-hold-out")
        if not 0 <= self.risk_aversion <= 1:
            raise UserError(f"risk aversion {self.risk_aversion} is outside [0, 1]; 0.5 is much, 0 is none")
        if self.risk_aversion and not self.normalise_rewards:
            raise UserError(
                f"risk aversion {self.risk_aversion} is of rewards of deviation 1; drop --reward.risk-aversion or "
                "--reward.no-normalise-rewards"
            )
        if not 0 <= self.l2 < math.inf:
            raise UserError(f"ℓ2 coefficient {self.l2} is not a number of 0 or more")

    def resolved(self, segment_steps: int) -> RewardOptions:
        """The same with the number of gradient steps filled in for segments of that length."""
        if self.gradient_steps is not None:
            return self
        return replace(self, gradient_steps=max(1, round(FITTED_STEPS / segment_steps)))


@dataclass(frozen=True)
class PPOOptions:
    """PPO's settings; the paper used TRPO (section A.1)."""

    num_envs: int = 64
    """environments stepped together"""
    num_steps: int = 64
    """steps of each environment per iteration"""
    batch_size: int = 256
    """steps per gradient step"""
    epochs: int = 5
    """passes over the steps of an iteration"""
    learning_rate: float = 3e-4
    """Adam's step size at the start"""
    final_learning_rate: float | None = None
    """Adam's step size at the end, linear in between; constant by default"""
    gamma: float = 0.995
    """discount per step"""
    gae_lambda: float = 0.97
    """bias-variance trade-off of the advantages"""
    clip_range: float = 0.2
    """of the probability ratio"""
    target_kl: float | None = None
    """an iteration's passes end early once the policy is 1.5 times this Kullback-Leibler divergence from where it
    began; by default they do not"""
    entropy_bonus: float = 0.0
    """weight of the policy's entropy at the start"""
    final_entropy_bonus: float | None = None
    """weight of the policy's entropy at the end, linear in between; constant by default"""
    max_grad_norm: float = 0.5
    """gradients are scaled down to this norm"""
    initial_log_deviation: float = -1.0
    """log of the action noise's deviation at the start, in units of half the action's range where that is bounded"""
    hidden: tuple[int, ...] = (64, 64)
    """tanh units in each hidden layer of policy and value function"""
    centre_rewards: bool = True
    """subtract the reward's running mean; no episode ends early, so it favours no policy"""
    normalise_returns: bool = True
    """scale rewards by the running deviation of the discounted return"""

    def __post_init__(self) -> None:
        if self.num_envs < 1 or self.num_steps < 1 or self.epochs < 1:
            raise UserError("environments, steps and epochs of an iteration must be at least 1")
        if self.batch_size < 2:
            raise UserError(f"PPO batch of {self.batch_size}; advantages are normalised over at least 2 steps")
        if min(self.hidden, default=0) < 1:
            raise UserError(f"hidden layers of {self.hidden} units; the policy needs one layer or more of at least 1")
        if not (0 <= self.gamma <= 1 and 0 <= self.gae_lambda <= 1):
            raise UserError(f"gamma {self.gamma} or gae-lambda {self.gae_lambda} is outside [0, 1]")
        if min(self.learning_rate, self.clip_range, self.max_grad_norm) <= 0 or (self.final_learning_rate or 0) < 0:
            raise UserError("PPO's learning rate, clip range and gradient norm must be above 0")
        for bonus in (self.entropy_bonus, self.final_entropy_bonus or 0.0):
            if not 0 <= bonus < math.inf:
                raise UserError(f"PPO's entropy bonus of {bonus} is not a number of 0 or more")
        if self.target_kl is not None and not 0 < self.target_kl < math.inf:
            raise UserError(f"PPO's target KL {self.target_kl} is not a number above 0; leave it out for none")
        if self.num_envs * self.num_steps < self.batch_size:
            raise UserError(
                f"PPO batch of {self.batch_size} exceeds the {self.num_envs * self.num_steps} steps of an iteration; "
                "lower --ppo.batch-size or raise --ppo.num-envs"
            )
