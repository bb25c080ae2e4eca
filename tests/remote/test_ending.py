"""A program that ends does not wait for pictures, and the next one collects them."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from wavespeed_standin import Standin
from wavespeed_testing import KEY, client_for, request

DEVTOOLS = Path(__file__).resolve().parents[2] / "devtools"
SCRIPT = """
    import sys, threading, time
    import registration
    from pathlib import Path
    from pulid_pack.pulid_core.wavespeed import Clock
    from pulid_pack.pulid_core.wavespeed.errors import RemoteCancelled
    from wavespeed_testing import client_for, request

    client = client_for(sys.argv[1], Path(sys.argv[2]), Clock())
    accepted = threading.Event()
    daemon = sys.argv[3] == "daemon"

    def hear(progress):
        if "id" in progress.text:
            accepted.set()

    threading.Thread(target=client.run, args=[request()], kwargs={"progress": hear}, daemon=daemon).start()
    # A picture that comes quickly may leave no progress text that names its id.
    accepted.wait(30 if daemon else 1)
    print("ends", flush=True)
"""


def start(service: Standin, folder: Path, kind: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), service.url, str(folder), kind]
    return subprocess.Popen(command, cwd=DEVTOOLS, stdout=subprocess.PIPE, text=True)


def test_the_interpreter_ends_at_once(service: Standin, tmp_path: Path):
    """As ComfyUI does it: the main thread ends while a daemon thread waits for a picture."""
    service.generation_s = 60
    with start(service, tmp_path, "daemon") as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ends\n"
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            pytest.fail("it waits for the picture")
    service.generation_s = 0
    assert client_for(service.url, tmp_path).run(request()).metadata[0]["source"] == "resumed"
    assert (service.paid, service.key) == (1, KEY)


def test_a_thread_that_python_waits_for(service: Standin, tmp_path: Path):
    """A script whose main thread ends first still gets its picture."""
    service.generation_s = 1.5
    with start(service, tmp_path, "thread") as process:
        assert process.wait(30) == 0
    assert (service.paid, service.images_delivered) == (1, 1)
