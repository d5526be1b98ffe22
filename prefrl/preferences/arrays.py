"""A segment's arrays as plain bytes: between segments.Segment and the columns of the database.

Little-endian, row-major, with dtype and shape beside them; what is read is checked, and nothing of it is executed.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefrl.errors import UserError
from prefrl.segments import Segment

ARRAYS = ("observations", "actions", "true_rewards", "qpos", "qvel", "next_observations")
# None where the environment has no exact state, and in what was recorded before observations after actions were kept.
OPTIONAL_ARRAYS = ("qpos", "qvel", "next_observations")
DTYPES = frozenset({"|b1", "|i1", "|u1", *(f"<{kind}{size}" for kind in "iuf" for size in (2, 4, 8))})


def check_segment(segment: Segment, where: str) -> None:
    """Refuse arrays that no predictor could be trained on: of different lengths, or with NaN or infinity in them."""
    for name in ARRAYS:
        array = getattr(segment, name)
        if array is None:
            continue
        dimensions = 1 if name == "true_rewards" else 2
        if array.ndim != dimensions or len(array) != segment.length or segment.length == 0:
            raise UserError(
                f"{where}: {name} have shape {array.shape} beside {segment.length} observations; "
                f"give {dimensions}-dimensional arrays with one row per step, and at least one step"
            )
        if name == "next_observations" and array.shape != segment.observations.shape:
            raise UserError(
                f"{where}: next_observations have shape {array.shape} beside observations of shape "
                f"{segment.observations.shape}; give one after each action, as before it"
            )
        if not np.isfinite(array).all():
            step = int(np.argmin(np.isfinite(array.reshape(len(array), -1)).all(axis=1)))
            raise UserError(f"{where}: {name} hold NaN or infinity at step {step}; mend the environment that gave them")


def encode(array: NDArray[Any]) -> tuple[bytes, str, str]:
    """Little-endian bytes, dtype and shape of an array."""
    dtype = array.dtype.newbyteorder("<")
    if dtype.str not in DTYPES:
        raise UserError(f"an array of dtype {array.dtype} can't be stored; give one of {', '.join(sorted(DTYPES))}")
    return array.astype(dtype, copy=False).tobytes(), dtype.str, ",".join(map(str, array.shape))


def decode(data: object, dtype: object, shape: object, where: str) -> NDArray[Any]:
    """The array that encode wrote: a fresh, writable one. Whatever else stands in the file is refused."""
    if dtype not in DTYPES:
        raise UserError(f"{where} have dtype {dtype!r}; only plain numbers are loaded: {', '.join(sorted(DTYPES))}")
    if not isinstance(shape, str) or not re.fullmatch("[0-9]{1,9}(,[0-9]{1,9})?", shape):
        raise UserError(f"{where} have shape {shape!r}, which is not like 60,11; the file is damaged")
    dimensions = tuple(map(int, shape.split(",")))
    expected = math.prod(dimensions) * np.dtype(str(dtype)).itemsize
    if not isinstance(data, bytes) or len(data) != expected:
        found = f"{len(data)} bytes" if isinstance(data, bytes) else f"{data!r}"
        raise UserError(f"{where} hold {found} where {dtype} of shape {shape} takes {expected}; the file is damaged")
    little_endian = np.frombuffer(data, dtype=str(dtype)).reshape(dimensions)
    return little_endian.astype(little_endian.dtype.newbyteorder("="))
