"""A question that is refused says nothing about the prediction that was paid."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from pulid_pack.pulid_core.wavespeed import WavespeedClient
from pulid_pack.pulid_core.wavespeed.errors import (
    Billed,
    PaidJobError,
    RemoteBudgetExceeded,
    RemoteCancelled,
    RemoteExpired,
    RemoteOutcomeUnknown,
)
from wavespeed_faults import Fault, envelope, patch, status
from wavespeed_standin import Standin
from wavespeed_testing import client_for, let_threads_end, request, waiting_clock

HTML = Fault("reply", status=403, body=b"<html>Forbidden by the gateway</html>")
REFUSALS = {
    "402": status(402, "insufficient credits"),
    "403": status(403, "Insufficient permissions"),
    "401 scope": status(401, '{"error":"insufficient_scope"}'),
    "400": status(400, "bad request"),
    "405": status(405),
    "410": status(410, "gone"),
    "404": status(404, "not found"),
    "413": status(413),
    "302": status(302, Location="/maintenance"),
    "code 402": envelope(402, "insufficient credits"),
    "code 1407": envelope(1407, "insufficient credits"),
    "code 1200": envelope(1200, "moderation"),
    "code 404": envelope(404, "not found"),
    "HTML 403": HTML,
    "HTML 200": Fault("reply", body=b"<html>Maintenance</html>"),
    "other": patch(id="pred99999999"),
}


def books(service: Standin) -> tuple[int, int]:
    return service.paid, service.requests["submit"]


def lose(client: WavespeedClient, service: Standin, fault: Fault, **changes) -> PaidJobError:
    """A run in which every look is answered with one fault."""
    service.fail("result", fault, times=200)
    with pytest.raises(PaidJobError) as caught:
        client.run(request(max_wait_s=60, **changes))
    service._faults.clear()
    return caught.value


@pytest.mark.parametrize("name", REFUSALS)
def test_the_row_stays_open(name: str, client: WavespeedClient, service: Standin):
    """However often it is refused: the text says that it is billed, and the next run collects it."""
    for _ in range(2):
        error = lose(client, service, REFUSALS[name])
        assert error.billed is Billed.YES
        assert error.prediction_id == "pred00000001"
        assert "not billed" not in str(error)
        assert "rejected the inputs" not in str(error)
    assert client.run(request()).metadata[0]["source"] == "resumed"
    assert books(service) == (1, 1)


@pytest.mark.parametrize("first", ["file", "empty"])
def test_one_404_while_fetching(first: str, client: WavespeedClient, service: Standin):
    """After a failed download, or a completed prediction without outputs, it is no verdict either."""
    if first == "file":
        service.fail("file", "503")
        service.fail("result", None)
    else:
        service.fail("result", "empty_outputs")
    service.fail("result", "not_found")
    client.run(request())
    assert books(service) == (1, 1)


def test_delivered_and_gone(client: WavespeedClient, service: Standin):
    """A delivered picture that is gone here and there is an error, never an order."""
    client.run(request())
    shutil.rmtree(client.store.folder)
    for limit_usd in (0, 0.5):
        service.fail("result", "not_found", times=99)
        with pytest.raises(RemoteExpired, match="force_rerun"):
            client.run(request(max_cost_usd=limit_usd))
        service._faults.clear()
    assert client.run(request(max_cost_usd=0)).metadata[0]["source"] == "resumed"
    assert books(service) == (1, 1)


def test_nothing_is_ordered_that_the_check_did_not_count(service: Standin, tmp_path: Path):
    """A week later, 0 only looks; what cannot be found is an error."""
    now = [1_800_000_000.0]
    service._now = lambda: now[0]
    client = client_for(service.url, tmp_path, waiting_clock(wall=lambda: now[0]))
    client.run(request(num_images=3))
    now[0] += 8 * 24 * 3600
    with pytest.raises(PaidJobError):
        client.run(request(num_images=3, max_cost_usd=0))
    assert books(service) == (3, 3)


def test_a_lost_answer_is_looked_for_without_a_budget(client: WavespeedClient, service: Standin):
    """With max_cost_usd 0 it is found free of charge, or refused when it does not exist."""
    service.fail("submit", "500_after")
    service.fail("list", "503", times=6)
    with pytest.raises(RemoteOutcomeUnknown):
        client.run(request())
    assert client.run(request(max_cost_usd=0)).metadata[0]["source"] == "adopted"
    service.fail("submit", "500")
    with pytest.raises(RemoteOutcomeUnknown):
        client.run(request(seed=8))
    with pytest.raises(RemoteBudgetExceeded, match="not found"):
        client.run(request(seed=8, max_cost_usd=0))
    assert books(service) == (1, 2)


STUCK = {
    "404": ("result", status(404, "not found")),
    "410": ("result", status(410)),
    "HTML": ("result", Fault("reply", body=b"<html>")),
    "5000 px": ("file", Fault("reply", body=b"\x89PNG\r\n\x1a\n" + b"\0" * 90)),
    "no outputs": ("result", patch(outputs=[], status="completed")),
    "private host": ("result", patch(outputs=["https://10.0.0.1/x.png"], status="completed")),
}


@pytest.mark.parametrize("name", STUCK)
def test_force_rerun_is_the_way_out(name: str, client: WavespeedClient, service: Standin):
    """Of a paid picture that never becomes usable; without it nothing is ordered."""
    endpoint, fault = STUCK[name]
    service.fail(endpoint, fault, times=60)
    for _ in range(2):
        with pytest.raises(PaidJobError, match="force_rerun"):
            client.run(request(max_wait_s=60))
    assert books(service) == (1, 1)

    render = service._describe

    def describe(job, **options):
        if job.id != "pred00000001":
            service._faults.clear()
        return render(job, **options)

    service._describe = describe  # type: ignore[method-assign]
    batch = client.run(request(max_wait_s=60, force_rerun=True))
    assert batch.prediction_ids == ["pred00000002"]
    assert books(service) == (2, 2)


def test_force_rerun_is_the_way_out_of_a_lost_answer(client: WavespeedClient, service: Standin):
    """Even while the list cannot be read."""
    service.fail("submit", "500_after")
    service.fail("list", "503", times=18)
    for _ in range(2):
        with pytest.raises(RemoteOutcomeUnknown):
            client.run(request())
    client.run(request(force_rerun=True))
    assert books(service) == (2, 2)


def test_base64_and_back(service: Standin, tmp_path: Path):
    """A picture that was ordered inside the answer is collected without that option, too."""
    service.generation_s = 60
    large = {"width": 1024, "height": 1024, "photos": [noise()]}
    client = client_for(service.url, tmp_path)
    with pytest.raises(RemoteCancelled):
        client.run(request(base64_output=True, **large), cancelled=lambda: bool(service.jobs))
    service.generation_s = 0
    assert client.run(request(**large)).metadata[0]["outputs"][0].startswith("base64")
    assert books(service) == (1, 1)


def noise():
    return np.random.default_rng(1).integers(0, 256, (700, 700, 3), np.uint8)


def test_unreadable_photo_at_the_post(client: WavespeedClient, service: Standin):
    """The text promises another upload, and there is one."""
    service.fail("submit", envelope(1402, "media"))
    with pytest.raises(PaidJobError, match="uploaded anew"):
        client.run(request())
    client.run(request())
    assert service.requests["upload"] == 2
    assert books(service) == (1, 2)


def test_a_stop_while_downloading_says_what_is_paid(service: Standin, tmp_path: Path):
    """Ready is paid."""
    service.fail("file", "hang_before", times=9)
    client = client_for(service.url, tmp_path)
    with pytest.raises(RemoteCancelled, match="1 image") as caught:
        client.run(request(), cancelled=lambda: service.requests["file"] > 0)
    assert caught.value.pending == 1


def test_cancel_at_the_service(service: Standin, tmp_path: Path):
    """On request a stop also goes to the service; the prediction's own state then ends it."""
    service.generation_s = 5
    client = client_for(service.url, tmp_path)
    with pytest.raises(RemoteCancelled):
        client.run(
            request(cancel_at_service=True), cancelled=lambda: service.requests["result"] > 0
        )
    let_threads_end()
    assert service.requests["cancel"] == 1
    with pytest.raises(PaidJobError, match="ended the task as deleted"):
        client.run(request())
    assert service.paid == 0


def test_a_stop_alone_leaves_it_running(service: Standin, tmp_path: Path):
    """Which is the default."""
    service.generation_s = 5
    with pytest.raises(RemoteCancelled):
        client_for(service.url, tmp_path).run(
            request(), cancelled=lambda: service.requests["result"] > 0
        )
    let_threads_end()
    assert service.requests["cancel"] == 0
