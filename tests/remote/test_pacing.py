"""Two submissions a minute for new accounts, whatever the nodes ask for."""

from __future__ import annotations

from pathlib import Path

import pytest
from pulid_pack.pulid_core.wavespeed import Clock, Pacer
from wavespeed_standin import Standin
from wavespeed_testing import client_for, fast_clock, request


class Hand:
    """A clock that a test moves, by sleeping."""

    def __init__(self):
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.now, sleep=self.sleep)


def test_window():
    """Never more than the allowed number in any 60 seconds."""
    hand = Hand()
    pacer = Pacer(2, hand.clock())
    moments = []
    for _ in range(6):
        pacer.wait_turn(lambda: False)
        moments.append(hand.now)
    assert moments == pytest.approx([0, 0, 60, 60, 120, 120])


def test_slow_down():
    """After a 429 half the rate for five minutes, never less than one."""
    hand = Hand()
    pacer = Pacer(2, hand.clock())
    pacer.slow_down()
    moments = []
    for _ in range(8):
        pacer.wait_turn(lambda: False)
        moments.append(hand.now)
    assert moments == pytest.approx([0, 60, 120, 180, 240, 300, 300, 360])


def test_rate_of_a_new_account_is_kept(tmp_path: Path):
    """A batch of 6 at the lowest level meets no 429 and takes two more minutes."""
    clock = fast_clock(100)
    with Standin(images_per_min=2, now=lambda: 1_800_000_000 + clock.monotonic()) as service:
        started = clock.monotonic()
        batch = client_for(service.url, tmp_path, clock, pacer=Pacer(2, clock)).run(
            request(num_images=6)
        )
        assert len(batch.images) == service.requests["submit"] == 6
        assert clock.monotonic() - started >= 120


@pytest.mark.parametrize(("text", "rate"), [("500", 500), ("0", 1), ("many", 2), ("", 2)])
def test_settings(text: str, rate: int, tmp_path: Path):
    """The environment lifts the rate; nonsense does not."""
    client = client_for(
        "http://127.0.0.1:9", tmp_path, pacer=None, environ={"WAVESPEED_IMAGES_PER_MIN": text}
    )
    assert client._shared_pacer().images_per_min == rate


def test_settings_file(tmp_path: Path):
    """So does the settings file."""
    client = client_for("http://127.0.0.1:9", tmp_path, pacer=None, environ={})
    (tmp_path / "settings.json").write_text('{"images_per_min": 500}')
    assert client._shared_pacer().images_per_min == 500
    (tmp_path / "settings.json").write_text("not json")
    assert client._shared_pacer().images_per_min == 2
