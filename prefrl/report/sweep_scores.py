"""What a sweep's final returns say: means, normalised scores, aggregates over tasks. Used by the sweep's page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from prefrl.errors import UserError
from prefrl.plots import Estimate, Profile
from prefrl.statistics import (
    Bootstrapped,
    Samples,
    interquartile_mean,
    mean_interval,
    normalised_scores,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    stratified_bootstrap,
)
from prefrl.sweep.results import Outcome, SweepResults

Statistic = Callable[[Samples], NDArray[np.float64]]
Standing = Literal["above", "inside", "below"]
SEED = 0  # of every bootstrap
ENOUGH = 0.9  # of PPO on the true reward, as a normalised score
HARDLY = 0.1  # of the way from the random policy to the baseline
UNKNOWN = Estimate(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Reached:
    """On how many tasks a condition does as well as the baseline."""

    above: int  # its mean is at or above the baseline's mean
    inside: int  # or at least inside the interval of the baseline's mean
    tasks: int  # on which both have a run


class SweepScores:
    """Every number of a sweep's page.

    A score is normalised by the random policy's return (0) and by the mean over the baseline's seeds (1). Intervals of
    scores resample the baseline's seeds along with the condition's, so they hold the uncertainty of the scale too; of
    the baseline itself, being the scale, their ends are NaN. The random policy's return counts as exact, and so do the
    tasks: other tasks are another question. Without a task on which both have two runs there is nothing to resample,
    and the ends are NaN too.

    Args:
        results: a part of the trials may be missing; what has no run is left out.

    Raises:
        UserError: a run was evaluated to no number.
    """

    def __init__(self, results: SweepResults) -> None:
        self.results = results
        self._returns: dict[tuple[str, str], list[float]] = {}
        for each in results.outcomes:
            value = (each.evaluation.get("true_return") or {}).get("mean")
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise UserError(f"run {each.id} has a final true return of {value}; leave it out of trials.jsonl")
            self._returns.setdefault((each.task, each.condition), []).append(float(value))

    @property
    def conditions(self) -> list[str]:
        """In the sweep's order."""
        return list(self.results.sweep.conditions)

    @property
    def tasks(self) -> tuple[str, ...]:
        """In the sweep's order."""
        return self.results.sweep.tasks

    def returns(self, task: str, condition: str) -> NDArray[np.float64]:
        """(runs,): the final true return of each finished seed."""
        return np.array(self._returns.get((task, condition), ()), dtype=np.float64)

    def mean(self, task: str, condition: str) -> Estimate:
        """Over the finished seeds, with a 95 % t interval; NaN without a run."""
        return Estimate(*mean_interval(self.returns(task, condition)))

    @cached_property
    def unscored(self) -> dict[str, str]:
        """By task, why its returns can't be normalised."""
        baseline, reasons = self.results.sweep.baseline, {}
        for task in self.tasks:
            random = self.results.random_returns.get(task)
            if baseline is None:
                reasons[task] = "the sweep has no baseline"
            elif random is None:
                reasons[task] = "the random policy's return was not measured"
            elif not len(self.returns(task, baseline)):
                reasons[task] = f"no run of {baseline} is finished"
            elif self.mean(task, baseline).value <= random:
                reasons[task] = f"{baseline} is no better than random"
        return reasons

    def score_of(self, task: str, value: float) -> float:
        """A true return as a normalised score; NaN where the task has none."""
        if task in self.unscored or self.results.sweep.baseline is None:
            return math.nan
        random = self.results.random_returns[task]
        return (value - random) / (self.mean(task, self.results.sweep.baseline).value - random)

    def pleasing_only_predictors(self) -> list[Outcome]:
        """Runs without an alarm that score below HARDLY, while their predictor pays them more than a random policy.

        An alarm takes a true return that falls, and these have none to lose. Left out are runs whose oracle asks for
        something else than the true return.
        """
        return [
            each
            for each in self.results.outcomes
            if self.score_of(each.task, each.true_return) < HARDLY
            and not each.alarms
            and each.learnt_from.get("oracle", {}).get("score") != "judge"
            and sum(each.late("predicted_return")) > 0
        ]

    def paper_score(self, task: str, condition: str) -> float:
        """The paper's return, normalised by our random policy and the paper's own baseline; NaN where it has none."""
        paper, random = self.results.sweep.paper.get(task, {}), self.results.random_returns.get(task, math.nan)
        span = paper.get(self.results.sweep.baseline or "", math.nan) - random
        return (paper.get(condition, math.nan) - random) / span if span > 0 else math.nan

    def paper_iqm(self, condition: str) -> float:
        """Interquartile mean of the paper's scores on the same tasks; NaN where it lacks one, and for the baseline.

        Of each task the paper tells the mean over its runs alone, so this is over means where `iqm` is over runs.
        """
        if condition == self.results.sweep.baseline:
            return math.nan  # 1 by definition
        means = [np.array([self.paper_score(task, condition)]) for task in self.scored(condition)]
        return float(interquartile_mean(means)) if means else math.nan

    def runs(self, condition: str) -> int:
        """Of the tasks that are scored."""
        return sum(len(self.returns(task, condition)) for task in self.scored(condition))

    def baseline_runs(self) -> int:
        """The fewest on any task that is scored; 0 if none is."""
        return self._fewest_runs(self.results.sweep.baseline or "")

    def fewest_runs(self) -> int:
        """Of any condition on any task that it is scored on; 0 if none is."""
        return min((self._fewest_runs(name) for name in self.conditions if self.scored(name)), default=0)

    def _fewest_runs(self, condition: str) -> int:
        return min((len(self.returns(task, condition)) for task in self.scored(condition)), default=0)

    def finished(self, condition: str) -> frozenset[tuple[str, int]]:
        """Task and seed of its runs that are scored."""
        scored = set(self.scored(condition))
        outcomes = [each for each in self.results.outcomes if each.condition == condition and each.task in scored]
        return frozenset((each.task, each.seed) for each in outcomes)

    def scored(self, condition: str) -> list[str]:
        """The tasks over which the condition's scores are taken together: those with a scale and a run of it."""
        return [task for task in self.tasks if task not in self.unscored and len(self.returns(task, condition))]

    @cached_property
    def comparable(self) -> SweepScores:
        """The same over the tasks that every condition with a run has runs of, so that conditions can be compared.

        Itself where that is all of them, or none.
        """
        having = [set(self.scored(name)) for name in self.conditions if self.scored(name)]
        common = tuple(task for task in self.tasks if having and all(task in each for each in having))
        if not common or all(set(common) == each for each in having):
            return self
        sweep, results = self.results.sweep, self.results
        part = replace(
            sweep,
            tasks=common,
            task_options={task: each for task, each in sweep.task_options.items() if task in common},
            notes={task: each for task, each in sweep.notes.items() if task in common},
        )
        return SweepScores(
            replace(results, sweep=part, outcomes=tuple(each for each in results.outcomes if each.task in common))
        )

    def compared(self, condition: str) -> list[str]:
        """The tasks on which both the condition and the baseline have a run."""
        baseline = self.results.sweep.baseline or ""
        return [task for task in self.tasks if len(self.returns(task, condition)) and len(self.returns(task, baseline))]

    def single(self, condition: str) -> list[str]:
        """Of the tasks compared, those on which the condition or the baseline has one run, as if it were exact."""
        return [task for task in self.compared(condition) if not self._resampled(task, condition)]

    def iqm(self, condition: str) -> Estimate:
        """Interquartile mean of the scores of all runs, every task's weighing alike."""
        return _estimate(self._over_tasks(condition, interquartile_mean))

    def gap(self, condition: str) -> Estimate:
        """By how much the runs fall short of a score of 1, on average, every task's weighing alike."""
        return _estimate(self._over_tasks(condition, optimality_gap))

    def improvement(self, condition: str) -> Estimate:
        """The chance that a run beats one of the baseline on the same task; NaN for the baseline itself."""
        baseline, tasks = self.results.sweep.baseline, self.compared(condition)
        if baseline is None or condition == baseline or not tasks:
            return UNKNOWN
        ours, theirs = ([self.returns(task, each) for task in tasks] for each in (condition, baseline))
        found = stratified_bootstrap(probability_of_improvement, ours, theirs, rng=np.random.default_rng(SEED))
        return _estimate(self._known(found, condition, tasks))

    def profile(self, condition: str, thresholds: NDArray[np.float64]) -> Profile | None:
        """The share of runs above each normalised score, every task's weighing alike; None without a run."""
        found = self._over_tasks(condition, lambda scores: performance_profile(scores, thresholds))
        return None if found is None else Profile(thresholds, found.value, found.low, found.high)

    def standing(self, task: str, condition: str) -> Standing | None:
        """Where its mean is as seen from the baseline's mean and interval; None where either has no run."""
        own, baseline = self.mean(task, condition).value, self.mean(task, self.results.sweep.baseline or "")
        if math.isnan(own) or math.isnan(baseline.value):
            return None
        if own >= baseline.value:
            return "above"
        return "inside" if own >= baseline.low else "below"  # a single seed has no interval to be inside

    def reached(self, condition: str) -> Reached:
        """On how many tasks its mean is at, or inside the interval of, the baseline's."""
        found = [self.standing(task, condition) for task in self.tasks]
        above, inside, below = (found.count(each) for each in ("above", "inside", "below"))
        return Reached(above, above + inside, above + inside + below)

    @cached_property
    def answers(self) -> dict[str, int]:
        """Number of answers by condition, of those that have some or would ask for some, fewest first."""
        counts: dict[str, int] = {}
        for name in self.conditions:
            labels = [each.labels for each in self.results.outcomes if each.condition == name]
            # Of what never ran, by its options alone: its environment may not be known where the page is made.
            planned = [trial.options for trial in self.results.sweep.trials if trial.condition == name]
            labels = labels or [int(each.get("labels", 0)) for each in planned if each.get("feedback") != "none"]
            if labels and np.mean(labels) > 0:
                counts[name] = round(float(np.mean(labels)))
        return dict(sorted(counts.items(), key=lambda item: item[1]))

    def tried_fewer(self, task: str, condition: str) -> bool:
        """Whether every smaller number of answers has as many runs on the task as the baseline."""
        fewer = list(self.answers)[: list(self.answers).index(condition)]
        return all(self._as_often(task, each) for each in fewer)

    def enough_answers(self, task: str) -> str | None:
        """The condition with the fewest answers whose mean score reaches 0.9; None if none does.

        Of those with as many runs on the task as the baseline: one seed of three says little of the mean.
        """
        for condition in self.answers:
            mean = self.mean(task, condition).value
            if self._as_often(task, condition) and self.score_of(task, mean) >= ENOUGH:
                return condition
        return None

    def _as_often(self, task: str, condition: str) -> bool:
        """Whether it has at least as many runs on the task as the baseline."""
        return len(self.returns(task, condition)) >= len(self.returns(task, self.results.sweep.baseline or ""))

    def enough_return(self, task: str) -> float:
        """The true return whose score is 0.9; NaN where the task has no scores."""
        if task in self.unscored or self.results.sweep.baseline is None:
            return math.nan
        random = self.results.random_returns[task]
        return random + ENOUGH * (self.mean(task, self.results.sweep.baseline).value - random)

    def _resampled(self, task: str, condition: str) -> bool:
        baseline = self.results.sweep.baseline or ""
        return min(len(self.returns(task, each)) for each in (condition, baseline)) >= 2

    def _known(self, found: Bootstrapped, condition: str, tasks: Sequence[str]) -> Bootstrapped:
        """Without an interval where it would tell nothing.

        Where no task has runs to draw from its ends would be the value itself. And the baseline is its own scale:
        resamples of its few runs lie closer to their own mean, which is their 1, than the runs do.
        """
        if condition != self.results.sweep.baseline and any(self._resampled(task, condition) for task in tasks):
            return found
        nothing = np.full_like(found.value, np.nan)
        return Bootstrapped(found.value, nothing, nothing)

    def _over_tasks(self, condition: str, statistic: Statistic) -> Bootstrapped | None:
        """Of the scores of a condition's runs on all tasks that have some."""
        baseline, tasks = self.results.sweep.baseline, self.scored(condition)
        if baseline is None or not tasks:
            return None
        random = [self.results.random_returns[task] for task in tasks]
        samples = [[self.returns(task, each) for task in tasks] for each in dict.fromkeys((condition, baseline))]

        def of_returns(*drawn: Samples) -> NDArray[np.float64]:
            scores = normalised_scores(drawn[0], random, [each.mean(axis=-1) for each in drawn[-1]])
            # Each task weighs as much as any other, however many of its runs are finished.
            most = math.lcm(*(each.shape[-1] for each in scores))
            return statistic([np.repeat(each, most // each.shape[-1], axis=-1) for each in scores])

        found = stratified_bootstrap(of_returns, *samples, rng=np.random.default_rng(SEED))
        return self._known(found, condition, tasks)


def _estimate(found: Bootstrapped | None) -> Estimate:
    return UNKNOWN if found is None else Estimate(float(found.value), float(found.low), float(found.high))
