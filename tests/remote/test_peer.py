"""WaveSpeed's own SDK against the stand-in: the stand-in is not only our reading of the page."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from wavespeed_standin import MODEL, Standin
from wavespeed_testing import KEY, client_for, request

sdk = pytest.importorskip("wavespeed.api.client", reason="pip install wavespeed")


def peer(service: Standin) -> sdk.Client:
    return sdk.Client(api_key=KEY, base_url=service.url, retry_interval=0.01)


def portrait(size: str = "256*320", seed: int = 7) -> dict:
    return {"prompt": "a portrait", "size": size, "seed": seed, "output_format": "png"}


def some_file() -> io.BytesIO:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "PNG")
    buffer.seek(0)
    return buffer


@pytest.fixture(autouse=True)
def _sdk_sessions(recwarn):
    """The SDK leaves its sockets to the garbage collector; its warnings are its own."""


def test_upload_and_run(service: Standin):
    """The SDK's upload, submission and polling work unchanged."""
    service.generation_s = 0.1
    client = peer(service)
    address = client.upload(some_file())
    output = client.run(MODEL, {**portrait(), "image": address}, poll_interval=0.05)
    assert output["outputs"][0].startswith(service.url)
    assert service.paid == 1
    assert service.requests["put"] == 1


def test_sync_mode(service: Standin):
    """So does its sync mode."""
    client = peer(service)
    address = client.upload(some_file())
    output = client.run(MODEL, {**portrait(), "image": address}, enable_sync_mode=True)
    assert output["outputs"]


def test_failures_look_the_same(service: Standin):
    """The SDK sees a failed task, a refusal and a time-out as it does in its own tests."""
    client = peer(service)
    address = client.upload(some_file())
    service.fail_next_prediction("failed", 5000, "worker")
    with pytest.raises(RuntimeError, match="failed"):
        client.run(MODEL, {**portrait(), "image": address})
    service.fail("submit", "no_credit")
    with pytest.raises(RuntimeError, match="402"):
        client.run(MODEL, {**portrait(), "image": address})
    service.generation_s = 60
    result = client.run_no_throw(MODEL, {**portrait(), "image": address}, enable_sync_mode=True)
    assert result["status"] == "processing"
    assert result["task_id"] in service.jobs


def test_lost_answer_the_peer_loses_what_we_find(service: Standin, tmp_path: Path):
    """With one lost answer both pay once; only ours delivers."""
    service.list_inputs = True  # or the other one could be ours
    client = peer(service)
    address = client.upload(some_file())
    service.fail("submit", "500_after")
    with pytest.raises(RuntimeError):
        client.run(MODEL, {**portrait(), "image": address})
    assert (service.paid, service.images_delivered) == (1, 0)
    service.fail("submit", "500_after")
    client_for(service.url, tmp_path).run(request())
    assert (service.paid, service.images_delivered) == (2, 1)


def test_twenty_jobs_beside_the_peer(service: Standin, tmp_path: Path):
    """Twenty jobs, four at once, of both; how long each waits is a row of the benchmarks."""
    service.generation_s = 0.1
    client = peer(service)
    address = client.upload(some_file())

    def run_one(seed: int) -> None:
        inputs = {**portrait(seed=seed), "image": address}
        (url,) = client.run(MODEL, inputs, poll_interval=0.2)["outputs"]
        with sdk.requests.get(url, timeout=5) as reply:
            Image.open(io.BytesIO(reply.content)).load()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run_one, range(20)))
    red = [np.full((64, 64, 3), (255, 0, 0), np.uint8)]
    client_for(service.url, tmp_path).run(
        request(photos=red, prompts=["a", "b"], num_images=10, max_parallel=4)
    )
    assert service.paid == service.images_delivered == 40
