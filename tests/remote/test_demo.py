"""The remote demo runs without torch and ComfyUI, and asks before it pays."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import remote_demo
from PIL import Image
from pulid_pack.pulid_core.wavespeed import WavespeedClient
from registration import ROOT
from wavespeed_standin import Standin


def test_price_then_question(client: WavespeedClient, service: Standin, capsys):
    """The price and the balance are shown; anything but yes ends it, and nothing is sent."""
    for answer in ("", "n", "maybe"):
        with pytest.raises(remote_demo.DemoError, match="Nothing was sent"):
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


WITHOUT = """
import runpy, sys
sys.modules |= dict.fromkeys(["torch", "torchvision", "cv2", "onnx", "insightface"])
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_it_needs_no_torch_and_opens_nothing(tmp_path):
    """One picture from the built-in photo; a real key of the user's is not used."""
    demo = [str(ROOT / "devtools" / "remote_demo.py"), "--base", str(tmp_path / "base")]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *demo, "--output", str(tmp_path)],
        env=os.environ | {"WAVESPEED_API_KEY": "a-real-key", "PATH": ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 image paid, with play money" in done.stdout
    with Image.open(tmp_path / "remote-standin.png") as picture:
        assert picture.size == (1024, 1024)
