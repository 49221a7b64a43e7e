"""Models with a state that goes on from step to step: where a fit's state stands in a series handed to `features`.

In training the state before each past step is kept, so that a past origin sees the state of its own time and nothing
later; after the fit only the last is, and what came since carries it on.
"""

import numpy as np

from controller.core.forecast.base import CannotFit, Fitted, IntArray
from controller.core.types import FloatArray, Series


def place(fitted: Fitted, series: Series, origins: IntArray) -> tuple[int, IntArray]:
    """(offset, at): the index in `series` of the state's first step, and the origins counted from it.

    `numbers["start_s"]` says when the state's first step is. Raises CannotFit when an origin lies before it, or the
    series begins after it, for then what came in between is missing.
    """
    offset = round((fitted.numbers["start_s"] - series.start_s) / series.step_s)
    at = origins - offset
    if offset < 0 or int(at[0]) < 0:
        raise CannotFit(f"{fitted.model} can't go back before its last fit, nor on without what came since")
    return offset, at


def path_features(path: FloatArray, ceiling: float) -> FloatArray:
    """The constant and a point path (origins, ahead), which is kept within 0 and the ceiling: a recursion run on can
    leave the earth. NaN, not known, stays."""
    out = np.ones((*path.shape, 2))
    out[:, :, 1] = np.clip(path, 0.0, ceiling)
    return out
