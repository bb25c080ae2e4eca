"""A limit in seconds is that long: on new and kept connections, for every part of an answer.

The seconds are those of a clock that only the tests move on; nothing here depends on a machine's
speed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from pulid_pack.pulid_core.paid_jobs import clock, crew, exchange
from pulid_pack.pulid_core.paid_jobs.exchange import Limits
from pulid_pack.pulid_core.paid_jobs.transport import Sent, TransportError
from pulid_pack.pulid_core.wavespeed.errors import RemoteCancelled
from pulid_pack.tests.remote.scripted_server import PAUSE_S, Part, ScriptedServer
from wavespeed_faults import held
from wavespeed_standin import Standin
from wavespeed_testing import WIRE, WireClock, client_for, let_threads_end, request, trusting

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
DRIPS = {
    "header": (b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"),
    "status line": (b"HTTP/1.1 200 ", b"O"),
    "informational": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", b"x"),
    "chunk extension": (CHUNKED + b"2;", b"x"),
    "chunk": (CHUNKED + b"ffff\r\n", b"x"),
    "trailer": (CHUNKED + b"2\r\n{}\r\n0\r\nX-Trailer: ", b"x"),
    "trailers": (CHUNKED + b"2\r\n{}\r\n0\r\n", b"X-Trailer: x\r\n"),
    "silence": (b"", b""),
}
LIMIT_S, STEP_S = 30, 12


def endless(dripped: bytes, hand: WireClock, late: threading.Event) -> Iterable[Part]:
    """Pieces for as long as the client takes them, while time passes until just beyond the limit.

    Args:
        late: Set once the client has waited for all of it but a step.
    """
    end = time.monotonic() + 100
    while time.monotonic() < end:
        yield dripped
        left_s = hand.since + LIMIT_S - hand.now
        if left_s < STEP_S:
            late.set()
        yield hand.passed(STEP_S) if left_s >= 0 else pause


def pause() -> bool:
    time.sleep(PAUSE_S)
    return True


@pytest.mark.parametrize("seconds", [29, 59])
def test_headers_may_take_as_long_as_the_limit_says(seconds: int):
    """Longer than the limit for connecting, on a new connection and on a kept one."""
    hand = WireClock()
    limits = Limits(read_s=seconds + 1)
    with ScriptedServer(lambda: [hand.passed(seconds), OK]) as server:
        transport = trusting(server.url, hand)
        for _ in range(2):
            assert transport.send("GET", f"{server.url}/x", limits=limits).json() == {}
        assert (server.connections, server.requests) == (1, 2)
    assert hand.now == 2 * seconds


@pytest.mark.parametrize("part", DRIPS)
def test_no_part_may_take_longer(part: str):
    """A server that sends a byte now and then is hung up on, whichever part it sends."""
    hand, late = WireClock(), threading.Event()
    head, dripped = DRIPS[part]

    def script() -> Iterable[Part]:
        yield head
        yield from endless(dripped, hand, late)

    with ScriptedServer(script) as server:
        limits = Limits(read_s=LIMIT_S, total_s=LIMIT_S)
        with pytest.raises(TransportError, match="no answer in time") as caught:
            trusting(server.url, hand).send("GET", f"{server.url}/x", limits=limits)
        assert caught.value.sent is Sent.MAYBE
        assert late.is_set()


@pytest.mark.parametrize("part", DRIPS)
def test_a_stop_reaches_every_part(part: str):
    """While no limit ever passes; and no thread of the exchange outlives it."""
    stop = threading.Event()
    head, dripped = DRIPS[part]

    def script() -> Iterable[Part]:
        yield head
        yield dripped
        stop.set()
        while True:
            yield dripped
            yield pause

    with ScriptedServer(script) as server, pytest.raises(RemoteCancelled):
        trusting(server.url, WireClock()).send(
            "GET", f"{server.url}/x", limits=Limits(), cancelled=stop.is_set
        )
    let_threads_end()


def test_a_stop_is_looked_for_at_least_three_times_a_second():
    """Whatever is waited for: an answer, a pause, other threads."""
    assert max(exchange.WATCH_S, clock.SLICE_S, crew.SUPERVISION_S) <= 1 / 3


def test_a_cancelled_run_leaves_no_lock_behind(service: Standin, tmp_path: Path):
    """The next run of the same inputs gets its picture while the old answer is still held."""
    service.fail("result", held(lambda: False))
    client = client_for(service.url, tmp_path)
    with pytest.raises(RemoteCancelled):
        client.run(request(), cancelled=lambda: service.requests["result"] > 0)
    client.run(request())
    let_threads_end()
    assert (service.paid, service.requests["submit"]) == (1, 1)


def test_late_answers_are_not_lost(service: Standin, tmp_path: Path):
    """A slow acceptance is an acceptance, and a slow upload is sent once."""
    service.fail("upload", held(WIRE.passed(119)))
    service.fail("submit", held(WIRE.passed(59)))
    assert client_for(service.url, tmp_path).run(request()).metadata[0]["source"] == "new"
    assert (service.requests["upload"], service.requests["submit"]) == (1, 1)
    assert service.requests["list"] == 0


def test_sync_mode_waits(service: Standin, tmp_path: Path):
    """One long request gives the picture, with no look at the list and none at the prediction."""
    service.fail("submit", held(WIRE.passed(119)))
    batch = client_for(service.url, tmp_path).run(request(sync_mode=True))
    assert batch.metadata[0]["source"] == "new"
    assert service.requests["list"] == service.requests["result"] == 0
