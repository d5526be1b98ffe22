"""What a stranger must know of a data set and a predictor: README.md and MODEL_CARD.md, from templates."""

from __future__ import annotations

import importlib.metadata
import math
import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import jinja2

from prefrl.dataset.contents import Dataset
from prefrl.dataset.files import arrays_name
from prefrl.metrics import Metrics
from prefrl.preferences import SKIPPED
from prefrl.tasks import TASKS

if TYPE_CHECKING:
    from prefrl.reward_model import RewardEnsemble  # loads torch

UNNAMED = "an unnamed task"


def data_card(dataset: Dataset, config: Mapping[str, Any]) -> str:
    """README.md of a data set.

    Args:
        dataset: what is published.
        config: the run's config.json; empty where there is none.
    """
    task = TASKS.get(dataset.task or "")
    answers = [line.answer() for line in dataset.answers]
    answered = {answer.query_id for answer in answers}
    oracle = _section(_section(config, "options"), "oracle") if config.get("feedback") == "synthetic" else {}
    return _render(
        "data_card.md.j2",
        **_names(dataset.task),
        instruction=task.instruction if task else "none recorded",
        labellers=_listed(Counter(answer.labeller for answer in answers).most_common()),
        oracle=_listed(oracle.items()),
        segments=len(dataset.segments),
        queries=len(dataset.queries),
        unanswered=sum(query.id not in answered for query in dataset.queries),
        answers=len(answers),
        superseded=sum(line.supersedes is not None for line in dataset.answers),
        cant_tell=sum(answer.ranking is None for answer in answers),
        skipped=sum(answer.ranking == SKIPPED for answer in answers),
        equal=sum(answer.ranking is not None and len(answer.ranking) == 1 for answer in answers),
        mujoco_versions=", ".join(sorted({_cell(line.mujoco_version or "none") for line in dataset.segments})),
        recorded_with=_listed(_section(config, "versions").items()),
        exported_on=datetime.now(UTC).date().isoformat(),
        version=importlib.metadata.version("prefrl"),
        files={
            arrays_name(k): ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in arrays.items())
            for k, arrays in enumerate(dataset.arrays, 1)
        },
    )


def model_card(predictor: RewardEnsemble, task: str | None, metrics: Metrics) -> str:
    """MODEL_CARD.md of a predictor.

    Args:
        predictor: what is published.
        task: that it was trained on.
        metrics: the run's; the last row is shown.
    """

    def last(column: str, form: str) -> str:
        value = metrics[column][-1] if len(metrics.get(column, ())) else math.nan
        return format(value, form) if math.isfinite(value) else "not measured"

    return _render(
        "model_card.md.j2",
        **_names(task),
        observation_dim=f"{'2 × ' if predictor.observation == 'both' else ''}{predictor.observation_dim}",
        action_dim=predictor.action_dim,
        when="before and after" if predictor.observation == "both" else predictor.observation,
        members=predictor.members,
        hidden=" and ".join(map(str, predictor.hidden)),
        deviation=f"{predictor.reward_deviation:g}",
        risk_aversion=predictor.risk_aversion,
        figures={
            "environment steps": last("env_steps", ".0f"),
            "answers": last("labels/answered", ".0f"),
            "held-out accuracy": last("fit/accuracy", ".2f"),
            "correlation with the true reward, per step": last("reward/correlation", ".2f"),
            "correlation with the true return, per segment": last("reward/segment_correlation", ".2f"),
        },
    )


def _render(template: str, **content: object) -> str:
    # Markdown has no escaping that holds everywhere; _cell cleans what others have chosen.
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("prefrl"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(content)


def _names(task: str | None) -> dict[str, str]:
    name = _plain(task or UNNAMED)
    return {"task": name, "gymnasium_id": TASKS[name].gymnasium_id if name in TASKS else name}


def _plain(value: object) -> str:
    """Without what would end a table's cell or a line of code."""
    return re.sub(r"""[`|"\\\s]+""", " ", str(value))


def _cell(value: object) -> str:
    return f"`{_plain(value)}`"


def _listed(pairs: Any) -> str:
    return ", ".join(f"{_cell(name)} {_plain(value)}" for name, value in pairs) or "none"


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A part of config.json, which somebody may have edited."""
    section = config.get(name)
    return section if isinstance(section, dict) else {}
