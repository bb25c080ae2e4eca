"""A limit in seconds is that long: on new and kept connections, for every part of an answer."""

from __future__ import annotations

import threading
import time

import pytest
from pulid_pack.pulid_core.paid_jobs.exchange import Limits
from pulid_pack.pulid_core.paid_jobs.transport import Sent, TransportError
from pulid_pack.pulid_core.wavespeed.api import ApiLimits
from pulid_pack.pulid_core.wavespeed.errors import RemoteCancelled
from pulid_pack.tests.remote.scripted_server import ScriptedServer, slowly
from wavespeed_standin import Standin, late
from wavespeed_testing import client_for, request, trusting

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
DRIPS = {
    "header": slowly(b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"),
    "status line": slowly(b"HTTP/1.1 200 ", b"O"),
    "informational": slowly(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": slowly(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", b"x"),
    "chunk extension": slowly(CHUNKED + b"2;", b"x"),
    "chunk": slowly(CHUNKED + b"ffff\r\n", b"x"),
    "trailer": slowly(CHUNKED + b"2\r\n{}\r\n0\r\nX-Trailer: ", b"x"),
    "trailers": slowly(CHUNKED + b"2\r\n{}\r\n0\r\n", b"X-Trailer: x\r\n"),
    "silence": slowly(b"", b"", 0.1),
}


def test_headers_may_take_as_long_as_the_limit_says():
    """Longer than the limit for connecting, on a new connection and on a kept one."""
    limits = Limits(connect_s=0.3, read_s=3, total_s=3)
    with ScriptedServer(lambda: [0.8, OK]) as server:
        transport = trusting(server.url)
        for _ in range(2):
            assert transport.send("GET", f"{server.url}/x", limits=limits).json() == {}
        assert (server.connections, server.requests) == (1, 2)


@pytest.mark.parametrize("part", DRIPS)
def test_no_part_may_take_longer(part: str):
    """A server that sends a byte now and then is hung up on, whichever part it sends."""
    with ScriptedServer(DRIPS[part]) as server:
        started = time.monotonic()
        with pytest.raises(TransportError) as caught:
            trusting(server.url).send(
                "GET", f"{server.url}/x", limits=Limits(connect_s=5, read_s=0.5, total_s=0.5)
            )
        assert caught.value.sent is Sent.MAYBE
        assert time.monotonic() - started < 5


@pytest.mark.parametrize("part", DRIPS)
def test_a_stop_reaches_every_part(part: str):
    """Within a second, and no thread of the exchange outlives it."""
    stop = threading.Event()
    with ScriptedServer(DRIPS[part]) as server:
        transport = trusting(server.url)
        threading.Timer(0.2, stop.set).start()
        started = time.monotonic()
        with pytest.raises(RemoteCancelled):
            transport.send("GET", f"{server.url}/x", limits=Limits(), cancelled=stop.is_set)
        assert time.monotonic() - started < 2
    deadline = time.monotonic() + 2
    while ours() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not ours()


def ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("wavespeed")]


def test_a_cancelled_run_leaves_no_lock_behind(service: Standin, tmp_path):
    """The next run of the same inputs does not wait for the one that was stopped."""
    service.fail("result", late(20))
    client = client_for(service.url, tmp_path)
    with pytest.raises(RemoteCancelled):
        client.run(request(), cancelled=lambda: service.requests["result"] > 0)
    started = time.monotonic()
    client.run(request())
    assert time.monotonic() - started < 10
    assert (service.paid, service.requests["submit"]) == (1, 1)


def test_late_answers_are_not_lost(service: Standin, tmp_path):
    """A slow acceptance is an acceptance, and a slow upload is sent once."""
    patient = Limits(connect_s=0.3, read_s=5, total_s=5)
    service.fail("upload", late(0.7))
    service.fail("submit", late(0.7))
    client = client_for(service.url, tmp_path, limits=ApiLimits(submit=patient, upload=patient))
    assert client.run(request()).metadata[0]["source"] == "new"
    assert (service.requests["upload"], service.requests["submit"]) == (1, 1)
    assert service.requests["list"] == 0


def test_sync_mode_waits(tmp_path):
    """One long request gives the picture, with no look at the list and none at the prediction."""
    with Standin(generation_s=1.2, sync_wait_s=5) as service:
        batch = client_for(service.url, tmp_path).run(request(sync_mode=True))
        assert batch.metadata[0]["source"] == "new"
        assert service.requests["list"] == service.requests["result"] == 0
