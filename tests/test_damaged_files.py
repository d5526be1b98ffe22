"""Files of somebody else's run, damaged by the dozen; experiments/fuzz_loaders.py does it by the ten thousand."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from damaged_files import LOADERS, PREDICTOR, damaged, example_run, load_damaged, nothing_executed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefrl.errors import UserError
from prefrl.reward_model import RewardEnsemble


@pytest.mark.parametrize("name", LOADERS)
def test_a_whole_file_is_taken(name: str) -> None:
    assert load_damaged(name, (example_run() / name).read_bytes()).name == "taken"


@pytest.mark.parametrize("name", LOADERS)
@settings(max_examples=40, suppress_health_check=list(HealthCheck), deadline=None)
@given(st.data())
def test_a_damaged_file_is_refused_in_one_line_or_harmless(name: str, data: st.DataObject) -> None:
    load_damaged(name, data.draw(damaged(name)))


class Bomb:
    """What a stranger's pickle may hold."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("__import__('os').system('true')",)


@pytest.mark.parametrize("name", [name for name in LOADERS if not name.endswith(".json")])
def test_a_pickle_in_its_place_is_not_opened(name: str) -> None:
    assert load_damaged(name, pickle.dumps(Bomb())).name == "refused"


def test_the_watch_for_execution_sees_it() -> None:
    with pytest.raises(AssertionError), nothing_executed():
        pickle.loads(pickle.dumps(Bomb()))  # noqa: S301  this is what is watched for


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_predictor_with_nan_in_it_is_refused(tmp_path: Path, bad: float) -> None:
    ensemble = RewardEnsemble(3, 2, hidden=(4, 4))
    with torch.no_grad():
        ensemble.weights[1][0, 0, 0] = bad
    ensemble.save(tmp_path / PREDICTOR)
    with pytest.raises(UserError, match=r"weights.1 holds NaN or infinity"):
        RewardEnsemble.load(tmp_path / PREDICTOR)
