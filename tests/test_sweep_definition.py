"""What a sweep is: its trials, their ids, and how it is found."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import probes  # noqa: F401  registers its environments
import pytest
from tiny_sweeps import OPTIONS, tiny_sweep, tiny_trial, write_sweep

from prefrl.cli import _parse
from prefrl.config import TrainConfig
from prefrl.errors import UserError
from prefrl.sweep import Sweep, Trial, load_sweep
from prefrl.sweep.command import SweepOptions, chosen, quick


def ids(trials: list[Trial]) -> list[str]:
    return [trial.id for trial in trials]


# Ids.


@pytest.mark.parametrize(
    "same",
    [
        {"video": True, "checkpoint_minutes": 5.0, "threads": 2},  # nothing is learnt from these
        {"ppo.gamma": 0.995, "people.port": 9000},  # the default; of another feedback
        {"queries.segment_steps": 5.0, "steps": 2.048e3},
    ],
)
def test_equal_runs_have_one_id_whatever_their_condition_is_called(same: dict[str, Any]) -> None:
    assert replace(tiny_trial(**same), condition="another name").id == tiny_trial().id


def test_the_order_of_options_is_no_part_of_an_id() -> None:
    backwards = dict(reversed(OPTIONS.items()))
    assert Trial("reacher", "40 answers", 0, backwards).id == tiny_trial().id


def test_whatever_changes_what_is_learnt_changes_the_id() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"steps": 2304},
        {"labels": 41},
        {"ppo.gamma": 0.99},
        {"reward.members": 1},
        {"oracle.error_rate": 0.1},
        {"queries.online": False},
        {"feedback": "none"},
        {"evaluation_episodes": 3},
    ]
    found = ids([tiny_trial(seed, **change) for change in changes for seed in (0, 1)])
    assert len(set(found)) == 2 * len(changes)


def test_tasks_whose_names_differ_in_punctuation_alone_differ_in_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gymnasium.envs.registration, "registry", dict(gymnasium.registry))
    gymnasium.register("probes-Age-v0", entry_point="probes:Age", max_episode_steps=16)
    options = {"feedback": "none", "steps": 10_000}
    with_slash, with_dash = ids([Trial(f"probes{sign}Age-v0", "true reward", 0, options) for sign in "/-"])
    assert with_slash != with_dash
    assert with_slash[:-8] == with_dash[:-8] == "probes-Age-v0-none-seed0-"


def test_the_baselines_id_knows_nothing_of_answers() -> None:
    """So 350 and 700 answers are compared with one baseline, run once."""
    few, many = (
        tiny_trial(feedback="none", **{"labels": labels, "reward.members": n}) for labels, n in ((40, 1), (50, 3))
    )
    assert few.id == many.id


def test_an_id_can_be_read_and_is_a_file_name() -> None:
    assert re.fullmatch(r"reacher-synthetic-40-seed3-[0-9a-f]{8}", tiny_trial(3).id)
    gymnasium_id = Trial("prefrl/Reacher-v0", "x", 0, {**OPTIONS, "feedback": "none"}).id
    assert re.fullmatch(r"[A-Za-z0-9._-]+", gymnasium_id)
    assert gymnasium_id == tiny_trial(feedback="none").id, "one environment under both its names"


def test_a_trials_command_line_is_the_same_run(tmp_path: Path) -> None:
    for trial in quick(tiny_sweep()).trials + tiny_sweep().trials:
        parsed = _parse(trial.arguments())
        assert isinstance(parsed, TrainConfig)
        assert asdict(parsed.resolved()) == asdict(trial.config)


def test_an_option_that_does_not_exist_is_named() -> None:
    for mistyped, hint in (
        ("ppo.gama", r"did you mean 'ppo.gamma'\?"),
        ("label", r"did you mean 'labels'\?"),
        ("gradient_steps", r"did you mean 'reward.gradient_steps'\?"),
        ("xyz", r"`prefrl train --help` lists them; a sweep spells --ppo.num-envs as 'ppo.num_envs'"),
    ):
        with pytest.raises(UserError, match=f"no option '{mistyped}' of '40 answers'; {hint}"):
            _ = replace(tiny_trial(), options={mistyped: 0.9}).id
    with pytest.raises(UserError, match=r"reacher, 40 answers: .* raise --steps .*; a sweep spells"):
        _ = tiny_trial(steps=4).id
    with pytest.raises(UserError, match=r"reacher, 40 answers is no configuration of a run: labels: .*integer"):
        _ = tiny_trial(labels="many").id
    for own in ("seed", "task", "run_dir"):  # two trials would be one run, counted twice
        with pytest.raises(UserError, match=f"option '{own}' of '40 answers': the sweep itself gives each trial"):
            _ = replace(tiny_trial(), options={own: 5}).id
    with pytest.raises(UserError, match=r"option 'ppo' of '40 answers' is a group; name its options, as 'ppo\.NAME'"):
        _ = tiny_trial(ppo={"gamma": 0.9}).id


# Sweeps.


def test_trials_go_seed_after_seed_and_a_condition_has_the_last_word() -> None:
    sweep = Sweep(
        "Two tasks",
        ("reacher", "hopper"),
        {"few": {"labels": 50}, "many": {}},
        (7, 8),
        options={"labels": 60, "steps": 100_000},
        task_options={"hopper": {"labels": 70}},
    )
    found = [(trial.seed, trial.task, trial.condition, trial.config.labels) for trial in sweep.trials]
    assert found[:4] == [
        (7, "reacher", "few", 50),
        (7, "reacher", "many", 60),
        (7, "hopper", "few", 50),
        (7, "hopper", "many", 70),
    ]
    assert [each[0] for each in found] == [7] * 4 + [8] * 4


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seeds": ()}, "has no trials"),
        ({"baseline": "PPO"}, "'PPO' is none of: 40 answers, true reward"),
        ({"baseline": None, "drawings": ("profiles",)}, "name the sweep's baseline"),
        (
            {"conditions": {"a": {}, "b": {"queries.online": False}}, "baseline": None, "drawings": ("answers",)},
            "'a' and 'b' both have 40 answers on",
        ),
        (
            {"options": {**OPTIONS, "ppo.gamma": float("nan")}},
            "the sweep's options: nan cannot be kept; give text, finite",
        ),
        ({"notes": {"reacher": {1, 2}}}, r"the sweep's notes: \{1, 2\} cannot be kept"),
        ({"notes": {"reacher": 3}}, "the sweep's notes, reacher: .*string, not 3"),
        (
            {"conditions": {40: {}}, "baseline": None},
            "the sweep's conditions: 40 is the name of something; write it as",
        ),
        ({"title": Path}, "the sweep's title: .* cannot be kept"),
        ({"tasks": "reacher"}, "the sweep's tasks: .*tuple, not 'reacher'"),
        ({"tasks": ("reacher", "reacher")}, "the sweep's tasks: .* names one twice"),
        ({"seeds": (0, 1, 0)}, r"the sweep's seeds: \(0, 1, 0\) names one twice, which would count as two runs"),
        ({"seeds": 3}, "the sweep's seeds: .*tuple, not 3"),
        ({"drawings": ("curves",)}, "the sweep's drawings, 0: .*'learning', 'answers' or 'profiles', not 'curves'"),
        ({"paper": {"reacher": {"40 answers": None}}}, "the sweep's paper, reacher, 40 answers: .*number, not None"),
        ({"seeds": (0, -3)}, "the sweep's seeds: -3 is below 0"),
        (
            {"task_options": {"reecher": {"labels": 5}}},
            "the sweep's task_options: 'reecher' is none of its tasks: reacher",
        ),
        ({"notes": {"reecher": "x"}}, "the sweep's notes: 'reecher' is none of its tasks: reacher"),
        (
            {
                "tasks": ("reacher", "hopper"),
                "task_options": {"hopper": {"labels": 70}},
                "drawings": ("answers",),
            },
            "'40 answers' has 40 answers on reacher and 70 on hopper",
        ),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(tiny_sweep(), **changed)


def test_a_sweep_made_with_numpy_is_the_one_made_by_hand() -> None:
    some = {"labels": np.int64(50), "reward.hidden": (8, 8)}
    made = tiny_sweep(seeds=np.linspace(0, 1, 2), conditions={"some": some}, baseline=None)
    by_hand = tiny_sweep(seeds=(0, 1), conditions={"some": {"labels": 50, "reward.hidden": [8, 8]}}, baseline=None)
    assert made == by_hand
    assert json.loads(json.dumps(asdict(made))) == json.loads(json.dumps(asdict(by_hand)))
    assert ids(made.trials) == ids(by_hand.trials)
    assert tiny_sweep(seeds=range(2)) == tiny_sweep(seeds=[0, 1])
    assert made.trials[0].config.reward.hidden == (8, 8)


def test_quick_trials_are_tiny_and_still_differ() -> None:
    sweep = tiny_sweep(conditions={"350": {"labels": 350}, "700": {}, "1400": {"labels": 1400}}, baseline=None)
    sweep = replace(sweep, options={**sweep.options, "labels": 700, "steps": 2_000_000})
    found = quick(sweep).trials
    assert [trial.config.labels for trial in found] == [11, 18, 32]
    assert all(trial.config.steps < 50_000 for trial in found)
    assert len(set(ids(found))) == 3


def test_answers_that_quick_trials_cannot_tell_apart_are_not_drawn() -> None:
    conditions = {"700": {"labels": 700}, "710": {"labels": 710}}
    sweep = tiny_sweep(conditions=conditions, baseline=None, drawings=("learning", "answers"))
    assert sweep.drawings == ("learning", "answers")
    assert quick(sweep).drawings == ("learning",)


@pytest.mark.parametrize(
    "path", sorted(Path(__file__).parent.parent.glob("experiments/*.py")), ids=lambda path: path.stem
)
def test_every_committed_sweep_can_be_run_whole_and_quick(path: Path) -> None:
    """None of its trials is refused; no two conditions of a task are one run."""
    if "SWEEP = " not in path.read_text():
        return
    sweep = load_sweep(str(path))[1]
    for each in (sweep, quick(sweep)):
        assert len(set(ids(each.trials))) == len(sweep.tasks) * len(sweep.conditions) * len(sweep.seeds)


# Loading.


def test_a_sweep_is_found_by_name_and_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_sweep(tmp_path, seeds=(4, 5))
    by_path = load_sweep(str(folder / "experiments" / "tiny.py"))
    monkeypatch.chdir(folder)
    assert load_sweep("tiny") == by_path
    assert by_path[0] == "tiny"
    assert by_path[1].seeds == (4, 5)


def test_a_sweeps_file_may_be_a_script_of_several_parts(tmp_path: Path) -> None:
    """It imports what lies beside it, defines dataclasses, and does nothing of its `if __name__ ...`."""
    (tmp_path / "beside.py").write_text("SEEDS = (6,)")
    path = tmp_path / "script.py"
    path.write_text(
        """from __future__ import annotations
from dataclasses import dataclass
from beside import SEEDS
from prefrl.sweep import Sweep

@dataclass
class Row:
    steps: int

SWEEP = Sweep("Script", ("reacher",), {"all": {"steps": Row(30_000).steps}}, SEEDS)
if __name__ == "__main__":
    raise SystemExit("was run")
"""
    )
    assert load_sweep(str(path))[1].trials[0].seed == 6


def test_a_name_that_is_no_sweep_is_answered_with_those_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no sweep experiments/figure9.py; there are none in experiments/ here"):
        load_sweep("figure9")
    write_sweep(tmp_path)
    (tmp_path / "experiments" / "kill.py").write_text("print('no sweep')")
    with pytest.raises(UserError, match=r"experiments/ has tiny; or give"):
        load_sweep("figure9")
    (tmp_path / "own.py").write_text(
        "import gymnasium\nfrom prefrl.sweep import Sweep\n"
        "gymnasium.register('OfTheSweepItself-v0', entry_point='probes:Age', max_episode_steps=16)\n"
        "SWEEP = Sweep('Own', ('OfTheSweepItself-v0',), {'a': {}}, (0,))\n"
    )
    with pytest.raises(UserError, match=r"own.py registers OfTheSweepItself-v0 .* MODULE:OfTheSweepItself-v0"):
        load_sweep(str(tmp_path / "own.py"))
    with pytest.raises(UserError, match=r"kill.py defines no SWEEP"):
        load_sweep("kill")


# Choosing.


def test_only_the_named_trials_are_chosen() -> None:
    sweep = tiny_sweep(tasks=("reacher", "hopper"), seeds=(0, 1, 2), options={"steps": 100_000})
    found = chosen(sweep, SweepOptions("x", tasks=("hopper",), conditions=("true reward",), seeds=(2, 0)))
    assert [(trial.task, trial.condition, trial.seed) for trial in found] == [
        ("hopper", "true reward", 0),
        ("hopper", "true reward", 2),
    ]
    with pytest.raises(UserError, match=r"no trial has the condition '40'; there are 40 answers, true reward"):
        chosen(sweep, SweepOptions("x", conditions=("40",)))
    with pytest.raises(UserError, match=r"no trial has the seed 9; there are 0, 1, 2"):
        chosen(sweep, SweepOptions("x", seeds=(9,)))


@pytest.mark.parametrize("parts", range(1, 12))
def test_the_parts_of_a_sweep_are_all_of_it_and_no_run_is_in_two(parts: int) -> None:
    """Though some of its trials are one run."""
    sweep = tiny_sweep(
        conditions={"few": {}, "none": {"feedback": "none"}, "again": {}}, seeds=(0, 1, 2), baseline=None
    )
    found = [chosen(sweep, SweepOptions("x", part=f"{i}/{parts}")) for i in range(1, parts + 1)]
    names = [(trial.condition, trial.seed) for part in found for trial in part]
    assert sorted(names) == sorted(itertools.product(sweep.conditions, sweep.seeds))
    runs = [set(ids(part)) for part in found]
    assert sum(len(each) for each in runs) == len(set.union(*runs)) == 6
    assert max(len(each) for each in runs) - min(len(each) for each in runs) <= 1


@pytest.mark.parametrize("parts", [2, 3, 4, 6, 8, 12, 16])
def test_no_part_takes_much_longer_than_another(parts: int) -> None:
    """Also where their number and that of tasks or conditions have a common divisor."""
    minutes = {"hopper": 5, "reacher": 3, "ant": 8, "pendulum": 2.5}
    shares = {"true reward": 0.7, "20": 1.0, "30": 1.0, "40": 1.1}
    answers = {name: {"feedback": "none"} if name == "true reward" else {"labels": int(name)} for name in shares}
    sweep = tiny_sweep(tasks=tuple(minutes), conditions=answers, seeds=(0, 1, 2), baseline=None)
    found = [chosen(sweep, SweepOptions("x", part=f"{i}/{parts}")) for i in range(1, parts + 1)]
    take = [sum(minutes[trial.task] * shares[trial.condition] for trial in part) for part in found]
    assert max(take) < 1.4 * sum(take) / parts, take


@pytest.mark.parametrize("part", ["0/4", "5/4", "4", "a/b", "1/0", "-1/4", "1/4/2"])
def test_a_part_that_there_is_not_is_refused(part: str) -> None:
    with pytest.raises(UserError, match=f"--part {part}; (give I/N|parts count from 1)"):
        chosen(tiny_sweep(), SweepOptions("x", part=part))
