"""The lowest strength that is alike enough, found with few pictures.

Likeness need not rise with the strength: too much of it breaks faces. So the range is looked through from
its weak end, in steps as fine as the budget allows, up to the first that is alike enough; only the gap
below that one is halved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ..errors import PulidError
from ..numbers import parse_numbers
from .tuning import START_RANGE, WEIGHT_RANGE, Combination

TOLERANCE = 0.05
"""The search ends when a weaker one is known to fail so near in weight and start_at."""


@dataclass(frozen=True)
class Trial:
    """What one strength gave."""

    strength: float
    """0 is the weak end of the range, 1 the strong one."""
    similarity: float
    """Mean over its pictures."""
    pictures: int


@dataclass(frozen=True)
class Search:
    """What is looked for, and what was tried so far."""

    weights: tuple[float, float]
    """At the weak and at the strong end."""
    starts: tuple[float, float]
    target: float
    budget: int
    """Pictures that may be made."""
    trials: tuple[Trial, ...] = ()

    @property
    def used(self) -> int:
        """Pictures made so far."""
        return sum(trial.pictures for trial in self.trials)

    @property
    def tolerance(self) -> float:
        """`TOLERANCE` as a part of the range."""
        return TOLERANCE / max(abs(b - a) for a, b in (self.weights, self.starts))

    @property
    def found(self) -> Trial | None:
        """The weakest that is alike enough."""
        return min(
            (trial for trial in self.trials if trial.similarity >= self.target),
            key=lambda trial: trial.strength,
            default=None,
        )

    @property
    def below(self) -> Trial | None:
        """The strongest that was tried below the one found."""
        found = self.found
        weaker = [trial for trial in self.trials if found and trial.strength < found.strength]
        return max(weaker, key=lambda trial: trial.strength, default=None)

    @property
    def is_narrow(self) -> bool:
        """Whether nothing weaker is left to try."""
        found, below = self.found, self.below
        return found is not None and (
            below is None or found.strength - below.strength <= self.tolerance
        )

    def settings(self, strength: float) -> Combination:
        """Weight and start of a strength."""
        weight, start = (a + (b - a) * strength for a, b in (self.weights, self.starts))
        return Combination(round(weight, 3), round(start, 3))

    def tried(self, strength: float, similarity: float, pictures: int) -> Search:
        """Go on with what one more strength gave."""
        return replace(self, trials=(*self.trials, Trial(strength, similarity, pictures)))

    def next(self) -> float | None:
        """Which strength to try now; None at the end of the search or of the budget."""
        if not self.trials:
            return 0.0
        if self.used + self.trials[-1].pictures > self.budget or self.is_narrow:
            return None
        if self.found and self.below:
            return (self.below.strength + self.found.strength) / 2
        known = {trial.strength for trial in self.trials}
        steps = self._steps()
        coarse = (place / steps for place in range(steps + 1))
        return next((one for one in coarse if one not in known), None) or self._beside_the_best()

    def _steps(self) -> int:
        """Into how many steps the range is divided: as many as leave pictures to halve one of them."""
        rounds = self.budget // self.trials[0].pictures
        steps = math.ceil(1 / self.tolerance)
        while steps > 1 and steps + 1 + self._halvings(steps) > rounds:
            steps -= 1
        return steps

    def _halvings(self, steps: int) -> int:
        return math.ceil(math.log2(max(1.0, 1 / (steps * self.tolerance))))

    def _beside_the_best(self) -> float | None:
        """Between the most alike one and the more alike of its neighbours: the target may lie there."""
        trials = sorted(self.trials, key=lambda trial: trial.strength)
        best = max(trials, key=lambda trial: trial.similarity)
        place = trials.index(best)
        beside = [*trials[max(0, place - 1) : place], *trials[place + 1 : place + 2]]
        apart = [one for one in beside if abs(one.strength - best.strength) > self.tolerance]
        other = max(apart, key=lambda trial: trial.similarity, default=None)
        return None if other is None else (best.strength + other.strength) / 2


def start_search(weights: str, starts: str, target: float, budget: int) -> Search:
    """Read a search from what a user wrote.

    Args:
        weights: One weight, or two: at the weak end, and at the strong end.
        starts: One start, or two, likewise.
        target: Similarity to reach.
        budget: Pictures that may be made.

    Raises:
        PulidError: A text is no one or two numbers in their range, or nothing varies.
    """
    search = Search(
        _ends(weights, "weights", *WEIGHT_RANGE),
        _ends(starts, "starts", *START_RANGE),
        target,
        budget,
    )
    if search.weights[0] == search.weights[1] and search.starts[0] == search.starts[1]:
        raise PulidError(
            f"Auto-tune needs a range to search, but weights is {weights!r} and starts {starts!r}. "
            "Write two numbers into one of them, the weak end first, for example 0.3, 1.2."
        )
    return search


def _ends(text: str, name: str, low: float, high: float) -> tuple[float, float]:
    try:
        numbers = list(parse_numbers(text))
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or not all(low <= number <= high for number in numbers):
        raise PulidError(
            f"{name} should be one number, or two separated by a comma, from {low} to {high}, but is "
            f"{text!r}. Write the weak end first, for example 0.3, 1."
        )
    return numbers[0], numbers[-1]


def search_text(search: Search) -> str:
    """Tell what was found, how many pictures it took, and what each strength gave."""
    used = f"{search.used} of {search.budget} picture(s) used."
    found, best = search.found, max(search.trials, key=lambda trial: trial.similarity)
    if found is None:
        head = (
            f"Not reached: {search.target:g} was wanted, and the highest is {best.similarity:.3f} at "
            f"{search.settings(best.strength).caption}. What follows was not run. Choose a lower target "
            f"or another range. {used}"
        )
    else:
        told = f"Reached: {found.similarity:.3f} at {search.settings(found.strength).caption}"
        below = search.below
        if below is None:
            told += ", the weak end of the range; weaker may do as well"
        elif not search.is_narrow:
            told += f". The budget ended before more was tried down to {search.settings(below.strength).caption}"
        head = f"{told}. {used}"
    trials = (
        f"{number}: {search.settings(trial.strength).caption}: {trial.similarity:.3f}"
        for number, trial in enumerate(search.trials, 1)
    )
    return "\n".join((head, *trials))
