"""Stop means stop within a second, and nothing that was paid is lost."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest
from pulid_pack.pulid_core.wavespeed import Clock, Pacer, WavespeedClient
from pulid_pack.pulid_core.wavespeed.errors import RemoteCancelled
from wavespeed_faults import held
from wavespeed_standin import Standin
from wavespeed_testing import WIRE, client_for, let_threads_end, request

REAL = Clock()


def real_client(service: Standin, folder: Path, **options) -> WavespeedClient:
    return client_for(service.url, folder, REAL, **options)


@pytest.mark.parametrize(
    ("endpoint", "fault"),
    [
        ("upload", "hang_before"),
        ("submit", "hang_after"),
        ("result", "hang_before"),
        ("file", "hang_before"),
    ],
)
def test_while_a_request_is_open(endpoint: str, fault: str, service: Standin, tmp_path: Path):
    """A request that does not answer does not hold up the stop, though no limit ends it."""
    service.on_wait = lambda: None
    service.fail(endpoint, fault, times=9)
    with pytest.raises(RemoteCancelled):
        real_client(service, tmp_path).run(
            request(), cancelled=lambda: service.requests[endpoint] > 0
        )
    service._faults.clear()
    # The worker with an open POST finds out what became of it once its time is over.
    service.on_wait = WIRE.hurry
    client_for(service.url, tmp_path).run(request())
    assert (service.paid, service.images_delivered) == (1, 1)


def test_while_another_program_writes(service: Standin, tmp_path: Path):
    """Planning draws a seed; a record that is busy does not hold up the stop."""
    client = real_client(service, tmp_path)
    client.run(request())
    with contextlib.closing(sqlite3.connect(tmp_path / "journal.sqlite3")) as other:
        other.execute("BEGIN IMMEDIATE")
        for busy in (client, real_client(service, tmp_path)):
            with pytest.raises(RemoteCancelled):
                busy.run(request(seed=-1), cancelled=lambda: True)
    let_threads_end()
    assert service.paid == 1


def test_while_the_balance_is_asked(service: Standin, tmp_path: Path):
    """What is paid and here is delivered without it."""
    asked: list[bool] = []

    def ready() -> bool:
        asked.append(True)
        return len(asked) > 400  # where nobody hangs up

    service.fail("balance", held(ready))
    batch = real_client(service, tmp_path).run(request(), cancelled=lambda: bool(asked))
    assert len(batch.images) == 1
    assert "balance" not in batch.summary


def test_before_the_post(service: Standin, tmp_path: Path):
    """Stopped while waiting for its turn, nothing is paid."""
    pacer = Pacer(1, REAL)
    pacer.wait_turn(lambda: False)
    with pytest.raises(RemoteCancelled) as caught:
        real_client(service, tmp_path, pacer=pacer).run(
            request(), cancelled=lambda: service.requests["upload"] > 0
        )
    assert caught.value.pending == 0
    assert service.paid == 0


def test_while_it_is_generated(service: Standin, tmp_path: Path):
    """Stopped while polling, the next run collects; the text says what will be billed."""
    service.generation_s = 1.5
    with pytest.raises(RemoteCancelled, match="1 image") as caught:
        real_client(service, tmp_path).run(request(), cancelled=lambda: bool(service.jobs))
    assert caught.value.pending == 1
    assert client_for(service.url, tmp_path).run(request()).metadata[0]["source"] == "resumed"
    assert (service.paid, service.requests["submit"]) == (1, 1)


def test_random_seed_after_a_stop(service: Standin, tmp_path: Path):
    """Seed -1, stopped, run again: no second prediction."""
    service.generation_s = 1.0
    with pytest.raises(RemoteCancelled):
        real_client(service, tmp_path).run(request(seed=-1), cancelled=lambda: bool(service.jobs))
    client_for(service.url, tmp_path).run(request(seed=-1))
    assert (service.paid, service.requests["submit"]) == (1, 1)


def test_while_waiting_after_429(service: Standin, tmp_path: Path):
    """The minute after a 429 can be cut short."""
    service.fail("submit", "rate_limit", times=3)
    with pytest.raises(RemoteCancelled):
        real_client(service, tmp_path).run(
            request(), cancelled=lambda: service.requests["submit"] > 0
        )
    assert service.paid == 0


def test_queued_jobs_are_not_started(service: Standin, tmp_path: Path):
    """Of a batch of 8 only those that were under way are paid."""
    service.generation_s = 5
    with pytest.raises(RemoteCancelled):
        real_client(service, tmp_path).run(
            request(num_images=8), cancelled=lambda: len(service.jobs) >= 2
        )
    let_threads_end()
    assert service.paid == 2
