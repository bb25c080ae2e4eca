"""kill -9 at any moment: the next run delivers everything, and nothing was paid twice."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import wavespeed_worker
from wavespeed_standin import Standin
from wavespeed_testing import KEY

pytestmark = pytest.mark.slow

BATCH = 8
KILLS = 20


def start(url: str, folder: Path, seed: int = 7, num_images: int = BATCH) -> subprocess.Popen:
    command = [sys.executable, wavespeed_worker.__file__, url, str(folder), str(seed)]
    return subprocess.Popen(
        [*command, str(num_images)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen) -> dict:
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return json.loads(output)


@pytest.mark.parametrize("list_inputs", [True, False])
def test_kill_at_random_moments(tmp_path: Path, list_inputs: bool):
    """A batch of 8, killed at random moments until 20 are spent: 8 delivered, 8 paid."""
    dice = random.Random(5)  # noqa: S311
    kills = batches = 0
    while kills < KILLS // 2:
        folder = tmp_path / str(batches)
        batches += 1
        with Standin(key=KEY, generation_s=0.02, list_inputs=list_inputs) as service:
            while True:
                process = start(service.url, folder)
                # From the first request on, so that the interpreter's start is no moment.
                before = sum(service.requests.values())
                while sum(service.requests.values()) == before and process.poll() is None:
                    time.sleep(0.005)
                time.sleep(dice.random() * 0.4)
                if process.poll() is not None or kills >= KILLS // 2:
                    break
                process.kill()
                process.communicate()
                kills += 1
            report = finish(process)
            assert len(set(report["ids"])) == BATCH
            assert service.paid == BATCH
            assert service.paid_twice == 0
            assert service.images_delivered == BATCH
    assert kills >= KILLS // 2


def test_two_processes_one_prediction(tmp_path: Path):
    """The same request in two processes at once is sent once, and both get the image."""
    with Standin(key=KEY, generation_s=0.3) as service:
        service.fail("upload", "drip")  # three seconds in which both are on their way to the POST
        pair = [start(service.url, tmp_path, num_images=1) for _ in range(2)]
        reports = [finish(process) for process in pair]
        assert reports[0]["ids"] == reports[1]["ids"]
        assert service.requests["submit"] == service.paid == 1
