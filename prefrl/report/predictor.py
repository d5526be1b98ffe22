"""The section of a run's page that asks whether its policy exploits the predictor; used by report.run_page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefrl import plots
from prefrl.alarms import FALL, NOTICED, SHORTEST, SURE
from prefrl.calibration import Calibration
from prefrl.metrics import Metrics, measured
from prefrl.report.contents import Run
from prefrl.report.html import Drawer, Drawing, number

GUESSING = 0.55  # accuracy on held-out answers; 0.5 is a coin
PREDICTED_AGAINST_TRUE = (
    "A line per run, from its first steps to its end, which is marked. The predicted return is 0 for the random "
    "policy, in units of the deviation of its reward per step. A sound run goes up and to the right; one that goes up "
    "and to the left exploits its predictor, and one that goes straight up has found nothing but what pleases it."
)
COLLAPSED = 0.01  # deviations between the members' rewards


def alarms_in_short(run: Run) -> str:
    """One line for the head of the page."""
    if run.alarms:
        return f"{len(run.alarms)} alarm{'s' * (len(run.alarms) > 1)}"
    if not measured(run.metrics, "predicted_return"):
        return "not measured"
    return "no alarm" if alarms_can_tell(run) else "too short to tell"


def alarms_can_tell(run: Run) -> bool:
    """Whether something was predicted, for long enough that no alarm means something."""
    return measured(run.metrics, "predicted_return") and not _too_short(run)


def _too_short(run: Run) -> bool:
    return len(run.metrics.get("env_steps", ())) < SHORTEST


def predictor_section(run: Run, draw: Drawer) -> dict[str, Any]:
    """Sentences, figures and the reliability table; a sentence for each thing that the run did not leave."""
    figures = _figures(run, draw)
    if not figures:
        return {"sentences": [], "figures": [], "table": None, "missing": [_why_nothing(run)]}
    missing = []
    if run.calibration is None:
        missing.append(
            "There is no reliability diagram: the run left no calibration.json, as where nothing is held out "
            "(--reward.no-hold-out, --reward.target returns) and in runs of earlier versions."
        )
    return {
        "sentences": [*_verdict(run), *_quietly_exploited(run), *_diagnosis(run.metrics, run.calibration)],
        "figures": figures,
        "table": _table(run.calibration) if run.calibration is not None else None,
        "missing": missing,
    }


def _why_nothing(run: Run) -> str:
    if run.feedback == "none":
        return "This run was trained on the true reward (feedback none), so there is no predictor to compare with it."
    return "No predicted reward was recorded: the run did not get as far as fitting the predictor."


def _figures(run: Run, draw: Drawer) -> list[Drawing]:
    metrics, drawings = run.metrics, []
    if measured(metrics, "predicted_return"):
        caption = (
            "Two units, one shape: where the predicted return climbs and the true one falls, the policy exploits the "
            "predictor. The predicted one is 0 for the random policy, in units of the deviation of its reward per step."
        )
        if run.alarms:
            caption += " Alarms are hatched."
        marked = [(alarm.from_steps, alarm.to_steps) for alarm in run.alarms]
        drawings.append(draw("True and predicted return", plots.return_comparison(metrics, marked), caption))
    if measured(metrics, "reward/mean", "reward/std", "reward/correlation"):
        caption = (
            "On the steps of each iteration's rollouts. The spread should stay steady, or shrink where the policy has "
            "come to rest; the correlation should not sink while it moves."
        )
        drawings.append(draw("Predicted reward", plots.reward_diagnostics(metrics), caption))
    if measured(metrics, "reward/spread_ratio", "held_out/calibration_error"):
        caption = (
            "Above: how far the members lie apart on the policy's new states, in units of that on the states that were "
            "compared; well above 1, the policy is where nobody was asked. Below: mean probability given to held-out "
            "answers beside the share that came true; the gap is over- or underconfidence."
        )
        drawings.append(draw("What the predictor knows", plots.trust_curves(metrics), caption))
    if run.calibration is not None:
        caption = (
            "Answers that a member was not fitted to, by the probability that it gave them, the assumed error rate "
            "included; bars are 95 % intervals. Where a labeller errs less than assumed, points leave the dashes."
        )
        drawings.append(draw("Calibration on held-out answers", plots.reliability(run.calibration), caption))
    return drawings


def _verdict(run: Run) -> list[str]:
    if _too_short(run):
        return [f"The run is too short to tell: alarms take {SHORTEST} iterations."]
    if not run.alarms:
        return [
            "No alarm: within no quarter of the run does the predicted return climb visibly while the true return, or "
            "the agreement with held-out answers, falls visibly."
        ]
    sentences = [f"{alarm.sentence}." for alarm in run.alarms]
    if _asked_for_something_else(run) and any(alarm.kind == "true return" for alarm in run.alarms):
        sentences.append(
            "The true return is the environment's own, which need not be what the answers prefer: look at the videos, "
            "and at the measures of success."
        )
    return sentences


def _asked_for_something_else(run: Run) -> bool:
    """People, and the judge of a novel behaviour, go by what they see and not by the environment's reward."""
    oracle = (run.config.get("options") or {}).get("oracle")
    judge = isinstance(oracle, Mapping) and oracle.get("score") == "judge"
    return run.feedback == "people" or judge


def _diagnosis(metrics: Metrics, calibration: Calibration | None) -> list[str]:
    """The last tenth of the run in words."""
    correlations = []
    for column, unit in (("reward/correlation", "step by step"), ("reward/segment_correlation", "over whole segments")):
        late = _late(metrics, column)
        if np.isfinite(late):
            correlations.append(f"{number(late, 2)} {unit}")
    diagnosis = []
    if correlations:
        both = " and ".join(correlations)
        diagnosis.append(f"Over the last tenth of the run, predicted and true reward correlate by {both}.")
    if np.isfinite(ratio := _late(metrics, "reward/spread_ratio")):
        diagnosis.append(
            f"On the policy's states the members lie {number(ratio, 2)} times as far apart as on compared ones."
        )
    if calibration is not None:
        diagnosis.append(_calibration_in_words(calibration))
    accuracy, spread = _late(metrics, "fit/accuracy"), _late(metrics, "reward/spread")
    if accuracy < GUESSING:
        diagnosis.append(
            f"Warning: the predictor is right about {accuracy:.0%} of the answers it was not fitted to, "
            "which is hardly better than guessing."
        )
    if spread < COLLAPSED:
        diagnosis.append(
            f"Warning: the members' rewards lie {spread:.3f} deviations apart; an ensemble that agrees everywhere "
            "chooses its queries at random."
        )
    return diagnosis


def _quietly_exploited(run: Run) -> list[str]:
    """A warning of what raises no alarm: a true return that never rose, or that has sunk however slowly.

    None where the true return is not what was asked for, or is constant, as where only people know the reward.
    """
    true, predicted = (_tenths(run.metrics, column) for column in ("true_return", "predicted_return"))
    if not (true and predicted) or np.ptp(np.concatenate(true)) == 0 or _asked_for_something_else(run):
        return []
    means = np.array([tenth.mean() for tenth in true])
    best = int(means.argmax())
    if means[best] - means[0] <= NOTICED * abs(means[0]) and _climbed(predicted[0], predicted[-1]):
        return [
            f"Warning: the predicted return climbed from {number(predicted[0].mean())} to "
            f"{number(predicted[-1].mean())} while the true return, {number(means[0])} in the first tenth of the run, "
            f"never came to more than {number(means[best])}: so far the policy pleases its predictor and nobody else."
        ]
    sunk = means[best] - means[-1]
    if sunk > max(FALL * np.ptp(means), NOTICED * abs(means[best])) and _climbed(predicted[best], predicted[-1]):
        return [
            f"Warning: since its best tenth of the run the true return has sunk from {number(means[best])} to "
            f"{number(means[-1])} while the predicted return climbed from {number(predicted[best].mean())} to "
            f"{number(predicted[-1].mean())}."
        ]
    return []


def _climbed(before: NDArray[np.float64], after: NDArray[np.float64]) -> bool:
    """By more than the rows of both differ among themselves."""
    noise = np.sqrt(before.var() / len(before) + after.var() / len(after))
    return bool(after.mean() - before.mean() > SURE * noise)


def _tenths(metrics: Metrics, column: str) -> list[NDArray[np.float64]]:
    """What was measured, in ten pieces of two rows at least; nothing where there is less."""
    values = metrics.get(column, np.empty(0))
    known = values[np.isfinite(values)]
    return np.array_split(known, 10) if len(known) >= 20 else []


def _calibration_in_words(calibration: Calibration) -> str:
    error, chance = calibration.error, calibration.error_by_chance
    sentence = (
        f"On {number(calibration.predictions)} held-out predictions the expected calibration error is {error:.3f} "
        f"(about {chance:.3f} would be chance alone)"
    )
    if np.isfinite(calibration.accuracy):
        sentence += f": sure by {calibration.confidence:.0%} on average, and right about {calibration.accuracy:.0%}"
    return sentence + "."


def _table(calibration: Calibration) -> dict[str, Any]:
    titles = ("probability of left", "its mean", "left preferred", "predictions", "answers")
    return {
        "columns": [{"title": title, "number": True} for title in titles],
        "rows": [
            [
                f"{each.low:.0%} to {each.high:.0%}",
                f"{each.predicted:.1%}",
                f"{each.preferred:.1%}",
                number(each.predictions),
                number(each.answers),
            ]
            for each in calibration.bins
        ],
    }


def _late(metrics: Metrics, column: str) -> float:
    """Mean over the last tenth of the run; NaN where nothing was measured."""
    values = metrics.get(column, np.empty(0))
    late = values[-max(1, len(values) // 10) :]
    late = late[np.isfinite(late)]
    return float(late.mean()) if len(late) else float("nan")
