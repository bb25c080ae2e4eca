"""The same image asked for at the same time is one prediction."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pulid_pack.pulid_core.paid_jobs.locks import Locks
from pulid_pack.pulid_core.wavespeed import Clock, WavespeedClient
from pulid_pack.pulid_core.wavespeed.errors import RemoteCancelled
from wavespeed_standin import Standin
from wavespeed_testing import client_for, request


def test_two_threads_one_post(client: WavespeedClient, service: Standin):
    """Two threads, one payload: one POST, two images."""
    service.generation_s = 0.2
    with ThreadPoolExecutor(2) as pool:
        batches = list(pool.map(client.run, [request(), request()]))
    assert batches[0].prediction_ids == batches[1].prediction_ids
    assert (service.requests["submit"], service.paid) == (1, 1)


def test_two_clients_of_one_folder(service: Standin, tmp_path: Path):
    """Two clients that share a folder share their predictions."""
    clients = [client_for(service.url, tmp_path) for _ in range(2)]
    service.generation_s = 0.2
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda client: client.run(request()), clients))
    assert (service.requests["submit"], service.paid) == (1, 1)


def test_twins_in_a_batch(client: WavespeedClient, service: Standin):
    """Identical jobs of one batch are one prediction, delivered in every place."""
    batch = client.run(request(prompts=["one", "one", "two"]))
    assert len(batch.images) == 3
    assert batch.prediction_ids[0] == batch.prediction_ids[1]
    assert service.paid == 2


def test_lock_is_exclusive_and_cancellable(tmp_path: Path):
    """A held lock is waited for, in a way that can be stopped."""
    locks = Locks(tmp_path)
    stop = threading.Event()
    with locks.hold("job:a", Clock(), stop.is_set):
        threading.Timer(0.1, stop.set).start()
        with pytest.raises(RemoteCancelled), locks.hold("job:a", Clock(), stop.is_set):
            pytest.fail("held twice")
        with locks.hold("submit:a", Clock(), lambda: False):
            pass
    with locks.hold("job:a", Clock(), lambda: False):
        pass
