"""Every combination of some weights and starts, to be compared side by side."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from ..errors import PulidError
from ..numbers import parse_numbers

MAX_COMBINATIONS = 64
WEIGHT_RANGE, START_RANGE = (-1, 5), (0, 1)  # what PulidApplyFlux takes


@dataclass(frozen=True)
class Combination:
    """The settings of one picture."""

    weight: float
    start_at: float

    @property
    def caption(self) -> str:
        """What a contact sheet writes below the picture."""
        return f"weight {self.weight:g}, start {self.start_at:g}"


class GridColumns(int):
    """A grid's number of columns, counted in combinations, each of which can be several pictures.

    An int for whatever else it is connected to.
    """


def tuning_grid(weights: str, starts: str) -> tuple[list[Combination], GridColumns]:
    """Combine every weight with every start.

    Args:
        weights: Numbers in [-1, 5], separated by commas; one row of the grid for each.
        starts: Numbers in [0, 1]; one column for each.

    Returns:
        The combinations, row by row, and the number of columns.

    Raises:
        PulidError: A text without numbers, a number out of range, or too many combinations.
    """
    rows = _numbers(weights, "weights", *WEIGHT_RANGE)
    columns = _numbers(starts, "starts", *START_RANGE)
    count = len(rows) * len(columns)
    if count > MAX_COMBINATIONS:
        raise PulidError(
            f"A tuning grid holds at most {MAX_COMBINATIONS} pictures, but {len(rows)} weights and "
            f"{len(columns)} starts make {count}. Leave some out."
        )
    combinations = itertools.starmap(Combination, itertools.product(rows, columns))
    return list(combinations), GridColumns(len(columns))


def _numbers(text: str, name: str, minimum: float, maximum: float) -> tuple[float, ...]:
    try:
        numbers = parse_numbers(text)
    except ValueError:
        numbers = ()
    if not numbers or not all(minimum <= number <= maximum for number in numbers):
        raise PulidError(
            f"{name} should be numbers from {minimum} to {maximum}, separated by commas, but are "
            f"{text!r}. Write for example {minimum}, {maximum}."
        )
    return numbers
