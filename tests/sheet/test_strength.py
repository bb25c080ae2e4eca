"""The search for the lowest strength, on stages whose similarity is known."""

import itertools
import math

import numpy as np
import pytest
from pulid_pack.pulid_core.errors import PulidError
from pulid_pack.pulid_core.sheet.contact_sheet import BEST_RGB
from pulid_pack.pulid_core.sheet.curve import TARGET_RGB, draw_curve
from pulid_pack.pulid_core.sheet.strength import Search, search_text, start_search


def run(stage, weights="0.3, 1.2", starts="0", target=0.6, budget=10, batch=1) -> Search:
    """Search where a picture of a weight and start has a known similarity."""
    search = start_search(weights, starts, target, budget)
    while (strength := search.next()) is not None:
        settings = search.settings(strength)
        search = search.tried(strength, stage(settings.weight, settings.start_at), batch)
    assert search.used <= budget
    assert len({trial.strength for trial in search.trials}) == len(search.trials)
    return search


def weight_of(search: Search) -> float:
    return search.settings(search.found.strength).weight


RISING = {
    "line": lambda w, _: w * 0.8,
    "step": lambda w, _: 0.7 if w >= 0.815 else 0.2,
    "saturating": lambda w, _: 0.9 * (1 - math.exp(-2 * w)),
    "late": lambda w, _: 0.61 if w > 1.17 else 0.1,
}
NOT_RISING = {
    "rises and falls": lambda w, _: 0.7 * math.exp(-(((w - 0.7) / 0.25) ** 2)),
    "breaks at once": lambda w, _: 0 if w > 0.93 else w,
    "two hills": lambda w, _: max(0.65 - abs(w - 0.62), 0.9 - 3 * abs(w - 1.1)),
    "noise": lambda w, _: w * 0.85 + 0.02 * math.sin(40 * w),
}


def lowest(stage, target: float) -> float:
    """The optimum, by looking everywhere."""
    return next(w for w in np.arange(0.3, 1.2001, 0.001) if stage(w, 0) >= target)


@pytest.mark.parametrize("budget", [7, 10, 16])
@pytest.mark.parametrize("stage", RISING.values(), ids=RISING)
def test_where_likeness_rises(stage, budget):
    search = run(stage, budget=budget)
    assert abs(weight_of(search) - lowest(stage, 0.6)) <= 0.05
    assert search.is_narrow


@pytest.mark.parametrize("stage", NOT_RISING.values(), ids=NOT_RISING)
def test_where_it_does_not(stage):
    """More strength breaks the face, or the picture is another one: still the lowest that will do."""
    for budget in (16, 24):
        search = run(stage, budget=budget)
        assert abs(weight_of(search) - lowest(stage, 0.6)) <= 0.05


@pytest.mark.parametrize("target", [0.3, 0.45, 0.6, 0.75, 0.9])
def test_wherever_the_target_lies(target):
    search = run(lambda w, _: w * 0.8, target=target)
    assert abs(weight_of(search) - lowest(lambda w, _: w * 0.8, target)) <= 0.05


@pytest.mark.parametrize(("budget", "stage"), [*itertools.product(range(2, 20), RISING.values())])
def test_the_budget_is_never_exceeded(budget, stage):
    assert run(stage, budget=budget).used <= budget


def test_pictures_are_counted_not_rounds():
    """Three pictures a round: three rounds of a budget of ten."""
    search = run(lambda w, _: w, budget=10, batch=3)
    assert (search.used, len(search.trials)) == (9, 3)


def test_what_is_cheap_stays_cheap():
    """The weak end already does: one picture. A rising stage needs fewer than its budget."""
    assert run(lambda *_: 0.9).used == 1
    assert run(lambda w, _: w, budget=16).used < 16


def test_an_unreachable_target_is_told_with_the_highest():
    """And with how it went; nothing is called found."""
    search = run(lambda w, _: 0.5 - abs(w - 0.8), budget=12)
    assert search.found is None
    assert search.used <= 12
    first, *trials = search_text(search).splitlines()
    assert first.startswith("Not reached: 0.6 was wanted, and the highest is 0.4")
    assert first.endswith(f"{search.used} of 12 picture(s) used.")
    assert len(trials) == len(search.trials)


def test_a_peak_between_two_steps_is_looked_for():
    """With what the budget has left, beside the highest."""
    search = run(lambda w, _: 0.7 - 3.3 * abs(w - 0.705), budget=12)
    assert search.found is not None
    assert all(trial.similarity < 0.6 for trial in search.trials[:11])
    assert search.used == 12


@pytest.mark.parametrize(
    ("weights", "starts", "best"),
    [("1", "0.5, 0", (1.0, 0.2)), ("0.5, 1", "0.4, 0", (0.75, 0.2))],
)
def test_start_at_and_both_together(weights, starts, best):
    """Later is weaker; the tolerance holds for both numbers."""
    search = run(lambda _, start: 0.8 - start, weights, starts, budget=12)
    found = search.settings(search.found.strength)
    assert found.start_at == pytest.approx(best[1], abs=0.05)
    assert found.weight == pytest.approx(best[0], abs=0.05)
    assert found.start_at <= 0.2  # never one that misses the target


@pytest.mark.parametrize(
    ("weights", "starts", "text"),
    [
        ("1", "0", "needs a range to search"),
        ("1, 1", "0, 0", "needs a range to search"),
        ("", "0", "weights should be one number, or two"),
        ("1, 2, 3", "0", "weights should be one number, or two"),
        ("0.3, 6", "0", "from -1 to 5"),
        ("1", "0.5, much", "starts should be one number, or two"),
    ],
)
def test_refusals_say_what_to_write(weights, starts, text):
    with pytest.raises(PulidError, match=text):
        start_search(weights, starts, 0.6, 10)


def test_the_report_says_how_sure_it_is():
    narrow = search_text(run(lambda w, _: w))
    assert narrow.startswith("Reached: 0.6")
    assert "budget ended" not in narrow
    assert "The budget ended before" in search_text(run(lambda w, _: w, budget=3))
    assert "the weak end of the range" in search_text(run(lambda *_: 0.9))


def test_the_curve_shows_target_and_what_was_found():
    """Green only where the target is reached; also of one trial, and of similarities below 0."""
    for stage, is_found in (
        (lambda w, _: w, True),
        (lambda *_: -0.2, False),
        (lambda *_: 1.0, True),
    ):
        picture = draw_curve(run(stage))
        assert picture.dtype == np.uint8
        assert (picture == TARGET_RGB).all(axis=2).any()
        assert (picture == BEST_RGB).all(axis=2).any() == is_found
