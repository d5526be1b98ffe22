"""Torch's and the generators' state <-> the arrays and numbers of a checkpoint.

Apart from checkpoint.py, which knows files and not torch.
"""

from __future__ import annotations

import random

import numpy as np
import torch

from prefrl.checkpoint import State


def tensors_to_arrays(tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Copies of a module's state_dict."""
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}


def arrays_to_tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """What `tensors_to_arrays` was given."""
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}


def optimiser_state(optimiser: torch.optim.Optimizer) -> State:
    """Moments and step count of each parameter."""
    return {str(i): tensors_to_arrays(moments) for i, moments in optimiser.state_dict()["state"].items()}


def load_optimiser_state(optimiser: torch.optim.Optimizer, state: State) -> None:
    """Undo `optimiser_state`; the options stay the optimiser's own."""
    moments = {int(i): arrays_to_tensors(arrays) for i, arrays in state.items()}
    optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})


def global_random_state() -> State:
    """The generators that Stable-Baselines3 and torch draw from: Python's, NumPy's and torch's own."""
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002  Stable-Baselines3 draws from it
    version, internal, gauss = random.getstate()
    return {
        "python": [version, list(internal), gauss],
        "numpy": [name, keys, position, has_gauss, cached],
        "torch": torch.get_rng_state().numpy(),
    }


def load_global_random_state(state: State) -> None:
    """Undo `global_random_state`."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(tuple(state["numpy"]))  # noqa: NPY002
    torch.set_rng_state(torch.from_numpy(state["torch"].copy()))
