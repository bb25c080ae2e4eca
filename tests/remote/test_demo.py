"""The remote demo asks before it pays."""

from __future__ import annotations

import pytest
import remote_demo
from demo import DemoError
from pulid_pack.pulid_core.wavespeed import WavespeedClient
from wavespeed_standin import Standin


def test_price_then_question(client: WavespeedClient, service: Standin, capsys):
    """The price and the balance are shown; anything but yes ends it, and nothing is sent."""
    for answer in ("", "n", "maybe"):
        with pytest.raises(DemoError, match="Nothing was sent"):
            remote_demo.agree(client, agreed=False, ask=lambda _, answer=answer: answer)
    shown = capsys.readouterr().out
    assert "One image costs $0.020 by WaveSpeed's quote." in shown
    assert "Your balance is $100.00." in shown
    assert set(service.requests) == {"balance", "price"}


def test_yes(client: WavespeedClient):
    """Yes, or --yes without a question, goes on."""
    remote_demo.agree(client, agreed=False, ask=lambda _: " Yes ")
    remote_demo.agree(client, agreed=True, ask=lambda _: pytest.fail("asked"))


def test_environment_hides_a_real_key(service: Standin, monkeypatch):
    """What the demo's server is given replaces a key of the user's own."""
    monkeypatch.setenv("WAVESPEED_API_KEY", "a-real-key")
    assert service.environment()["WAVESPEED_API_KEY"] == service.key
