"""Plain results."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Suggestion(NamedTuple):
    """A suggested next word."""

    word: str
    probability: float


class Quantized(NamedTuple):
    """A quantized array."""

    codes: NDArray[np.int16]
    """Whole numbers, in the shape of the array."""
    scales: NDArray[np.float32]
    """One for each group of elements, rounded to half precision."""
    values: NDArray[np.float32]
    """``codes`` times their scales: what the quantized array stands for."""


Event = dict[str, Any]
"""An event of a run: a line of its ``metrics.jsonl``."""
