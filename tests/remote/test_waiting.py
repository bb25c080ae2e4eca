"""A finished picture waits half a second for the next look; counted in looks on a clock by hand."""

from __future__ import annotations

import random
from itertools import accumulate
from statistics import mean

import pytest
from pulid_pack.pulid_core.wavespeed import Timing, WavespeedClient
from wavespeed_standin import Standin
from wavespeed_testing import request


def wait_and_looks(seen_s: list[float], takes_s: float) -> tuple[float, int]:
    """How long a picture waits to be found, and after how many looks."""
    for number, at_s in enumerate(accumulate(Timing().looks(seen_s)), 1):
        if at_s >= takes_s:
            return at_s - takes_s, number
    raise AssertionError


@pytest.mark.parametrize(("least_s", "most_s", "looks"), [(4, 8, 10), (8, 15, 18), (15, 40, 45)])
def test_wait_for_the_next_look(least_s: float, most_s: float, looks: int):
    """With ten pictures seen before, and without any, on average, and without looking too often."""
    dice = random.Random(1)  # noqa: S311
    drawn = [dice.uniform(least_s, most_s) for _ in range(2000)]
    for seen in ([], drawn[:10]):
        waits, counts = zip(*(wait_and_looks(seen, takes_s) for takes_s in drawn), strict=True)
        assert mean(waits) <= 0.55
        assert mean(counts) <= looks + 20 * (not seen)


def test_what_answers_say_is_learnt(client: WavespeedClient, service: Standin):
    """The next picture of that size is not looked for before the shortest was ready."""
    client.run(request())
    assert client.journal.durations("256*320") == [1.234]
    assert next(Timing().looks([1.234, 9.0])) == pytest.approx(1.11, abs=0.01)
    assert client.journal.durations("512*512") == []
    assert service.requests["result"] == 1
