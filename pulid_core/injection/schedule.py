"""When, and how strongly by then: ranges of the noise schedule, and curves over them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import PulidError
from ..numbers import as_float32

PERCENT_TOLERANCE = 1e-5

Points = tuple[tuple[float, float], ...]
"""A broken line: (progress, factor) with rising progress in [0, 1]."""


EASE_STEPS = 32  # pieces of the broken line that stands for a curve; its error is below 0.0004


def _smoothstep() -> Points:
    """Rise from 0 to 1 with no slope at either end."""
    steps = [i / EASE_STEPS for i in range(EASE_STEPS + 1)]
    return tuple((t, t * t * (3 - 2 * t)) for t in steps)


CONSTANT: Points = ((0.0, 1.0),)
SCHEDULES: dict[str, Points] = {
    "constant": CONSTANT,
    "ease-in": _smoothstep(),
    "ease-out": tuple((t, 1 - factor) for t, factor in _smoothstep()),
}
"""Name -> factor on the weight, over the progress from start_at to end_at."""


@dataclass(frozen=True)
class SigmaRange:
    """A part of the noise schedule, in sigmas, both ends included."""

    first: float
    """The higher one, where the range starts."""
    last: float

    @classmethod
    def from_percents(
        cls, start_at: float, end_at: float, percent_to_sigma: Callable[[float], float]
    ) -> SigmaRange:
        """Turn percents of the noise schedule into sigmas.

        Args:
            start_at: 0 is the first, noisiest step; 1 is the end. A start of 0 has no upper limit:
                a custom schedule may begin above the model's own highest sigma.
            end_at: As start_at.
            percent_to_sigma: The model sampling's own conversion.
        """
        first = math.inf if start_at <= 0 else as_float32(percent_to_sigma(start_at))
        return cls(first, as_float32(percent_to_sigma(end_at)))

    def __contains__(self, sigma: float) -> bool:
        return self.first >= sigma >= self.last


def progress_at(
    sigma: float, start_at: float, end_at: float, percent_to_sigma: Callable[[float], float]
) -> float:
    """Say how far a sigma lies between two percents of the noise schedule.

    Args:
        sigma: Inside the range.
        start_at: Where the result is 0.
        end_at: Where the result is 1.
        percent_to_sigma: The model sampling's own conversion, which never rises.

    Returns:
        Progress in [0, 1], to 1e-5 of the schedule.
    """
    if sigma >= as_float32(percent_to_sigma(start_at)):
        return 0.0
    low, high = start_at, end_at
    while high - low > PERCENT_TOLERANCE:
        middle = (low + high) / 2
        if as_float32(percent_to_sigma(middle)) > sigma:
            low = middle
        else:
            high = middle
    return (high - start_at) / max(end_at - start_at, PERCENT_TOLERANCE)


def interpolate(points: Points, progress: float) -> float:
    """Read a broken line at one place; before its first and after its last point it is level.

    Args:
        points: At least one, by rising progress.
        progress: In [0, 1].
    """
    for (left, low), (right, high) in itertools.pairwise(points):
        if left <= progress < right:
            return low + (high - low) * (progress - left) / (right - left)
    return points[0][1] if progress < points[0][0] else points[-1][1]


def parse_points(text: str) -> Points:
    """Read `0:0.2, 0.5:1, 1:0.8` as (progress, factor) points.

    Raises:
        PulidError: No points, or one that cannot be read, is not finite or not in order.
    """
    try:
        pairs = [piece.split(":") for piece in text.split(",") if piece.strip()]
        points = tuple((float(progress), float(factor)) for progress, factor in pairs)
    except ValueError:
        points = ()
    places = [progress for progress, _ in points]
    is_in_order = places == sorted(set(places)) and all(0 <= place <= 1 for place in places)
    if not points or not is_in_order or not all(math.isfinite(factor) for _, factor in points):
        raise PulidError(
            f"The weight schedule needs points like `0:0.2, 0.5:1, 1:0.8`, but got {text!r}. "
            "Write progress:factor pairs, with progress rising from 0 (start_at) to 1 (end_at)."
        )
    return points
