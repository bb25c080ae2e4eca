"""Lost answers find their own picture, by proof or by an order that is certain; nothing is guessed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from email.utils import formatdate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pulid_pack.pulid_core.wavespeed import Progress
from pulid_pack.pulid_core.wavespeed.answers import Prediction, parse_moment
from pulid_pack.pulid_core.wavespeed.delivery import ADOPTED_WARNING
from pulid_pack.pulid_core.wavespeed.errors import RemoteBatchFailed, RemoteOutcomeUnknown
from wavespeed_faults import envelope, held
from wavespeed_standin import Job, Standin
from wavespeed_testing import client_for, request, until, waiting_clock

DARK, BRIGHT = (np.full((96, 80, 3), value, np.uint8) for value in (10, 240))
TWO = {"photos": [DARK, BRIGHT]}


def books(service: Standin) -> tuple[int, int]:
    return service.paid, service.requests["submit"]


@pytest.mark.parametrize("parallel", [1, 2])
def test_two_at_once(parallel: int, service: Standin, tmp_path: Path):
    """Two answers lost within a moment, a list that tells no inputs: each photo gets its picture."""
    service.fail("submit", "500_after", times=2)
    batch = client_for(service.url, tmp_path).run(request(max_parallel=parallel, **TWO))
    assert batch.images[0].mean() < batch.images[1].mean()
    assert books(service) == (2, 2)


def both_lost(service: Standin, tmp_path: Path):
    """Two predictions whose answers were lost while the list could not be read."""
    service.fail("submit", "500_after", times=2)
    service.fail("list", "not_found", times=20)
    client = client_for(service.url, tmp_path)
    with pytest.raises(RemoteBatchFailed):
        client.run(request(max_parallel=1, **TWO))
    service._faults.clear()
    return client


def test_two_found_later(service: Standin, tmp_path: Path):
    """The order of our own submissions is that of the predictions."""
    client = both_lost(service, tmp_path)
    batch = client.run(request(max_parallel=1, max_cost_usd=0, **TWO))
    assert batch.images[0].mean() < batch.images[1].mean()
    assert [facts["source"] for facts in batch.metadata] == ["adopted", "adopted"]
    assert books(service) == (2, 2)


def test_found_by_another_run_meanwhile(service: Standin, tmp_path: Path):
    """A run that waited for its turn collects what the run before it found, and orders nothing."""
    client = client_for(service.url, tmp_path)
    service.fail("submit", "500_after")
    service.fail("list", "not_found")
    with pytest.raises(RemoteOutcomeUnknown):
        client.run(request())
    waits = threading.Event()

    def note(progress: Progress) -> None:
        if "looking for it" in progress.text:
            waits.set()

    service.fail("list", held(waits.is_set))
    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(client.run, request(seed=8))
        until(lambda: service.requests["list"] == 2)  # before its own POST
        own = pool.submit(client.run, request(), progress=note)
        assert own.result().metadata[0]["source"] == "adopted"
        assert other.result().metadata[0]["source"] == "new"
    assert books(service) == (2, 2)


def test_two_with_one_date(service: Standin, tmp_path: Path):
    """What the service dates alike cannot be told apart: both ids are named, nothing is ordered."""
    same = datetime.now(timezone.utc).isoformat(timespec="seconds")
    service._iso = lambda _: same  # type: ignore[method-assign]
    client = both_lost(service, tmp_path)
    for _ in range(2):
        with pytest.raises(RemoteBatchFailed) as caught:
            client.run(request(max_parallel=1, **TWO))
        for error in caught.value.errors:
            assert isinstance(error, RemoteOutcomeUnknown)
            assert sorted(error.candidates) == sorted(service.jobs)
    assert books(service) == (2, 2)
    pictures = client.collect(sorted(service.jobs)).images  # the user looks, and chooses
    assert pictures[0].mean() < pictures[1].mean()


def test_another_program_in_the_window(service: Standin, tmp_path: Path):
    """Its prediction of a minute ago may be ours for all that is known: the user is asked."""
    service.jobs["stranger0001"] = Job("stranger0001", {"image": "x"}, time.time() - 20)
    service.fail("submit", "500")
    client = client_for(service.url, tmp_path)
    for _ in range(2):
        with pytest.raises(RemoteOutcomeUnknown) as caught:
            client.run(request())
        assert caught.value.candidates == ("stranger0001",)
    assert service.requests["submit"] == 1


WRITTEN: dict[str, Callable[[dict[str, Any]], dict[str, Any] | None]] = {
    "size with x": lambda inputs: inputs | {"size": "256x320"},
    "size with spaces": lambda inputs: inputs | {"size": " 256 * 320 "},
    "size as a list": lambda inputs: inputs | {"size": [256, 320]},
    "seed as text": lambda inputs: inputs | {"seed": "7"},
    "seed as a float": lambda inputs: inputs | {"seed": 7.0},
    "guidance": lambda inputs: inputs | {"guidance_scale": 3.50001},
    "guidance as text": lambda inputs: inputs | {"guidance_scale": "3.5"},
    "prompt with a space": lambda inputs: inputs | {"prompt": inputs["prompt"] + " "},
    "prompt cut": lambda inputs: inputs | {"prompt": inputs["prompt"][:15]},
    "prompt cut with dots": lambda inputs: inputs | {"prompt": inputs["prompt"][:15] + "..."},
    "format jpg": lambda inputs: inputs | {"output_format": "PNG"},
    "nulls": lambda inputs: inputs | {"seed": None, "size": None},
    "no prompt": lambda inputs: {"seed": inputs["seed"], "size": inputs["size"]},
    "only prompt": lambda inputs: {"prompt": inputs["prompt"]},
    "photo elsewhere": lambda inputs: inputs | {"image": "https://cdn.wavespeed.ai/copy.png"},
    "nothing": lambda _: {},
    "none": lambda _: None,
}


@pytest.mark.parametrize("name", WRITTEN)
def test_inputs_written_another_way(name: str, service: Standin, tmp_path: Path):
    """They are ours all the same; without a prompt among them they prove nothing, and that is said."""
    service.list_inputs = True
    service.rewrite_inputs = WRITTEN[name]
    service.fail("submit", "500_after")
    (facts,) = client_for(service.url, tmp_path).run(request()).metadata
    is_proved = name not in ("no prompt", "nothing", "none")
    assert facts["source"] == ("resumed" if is_proved else "adopted")
    assert (ADOPTED_WARNING in facts["warnings"]) != is_proved
    assert books(service) == (1, 1)


@pytest.mark.parametrize(
    "changes",
    [{"seed": 8}, {"prompt": "somebody else"}, {"size": "512*512"}, {"guidance_scale": 4.0}],
)
def test_inputs_of_somebody_else(changes: dict, service: Standin, tmp_path: Path):
    """A prediction that was told to be another one is none of ours."""
    service.list_inputs = True
    service.rewrite_inputs = lambda inputs: inputs | changes
    service.fail("submit", "500_after")
    with pytest.raises(RemoteOutcomeUnknown) as caught:
        client_for(service.url, tmp_path).run(request())
    assert caught.value.candidates == ()


@pytest.mark.parametrize("model", ["wavespeed-ai/flux-pulid:v2", "", "wavespeed-ai/flux-pulid"])
def test_names_of_the_model(model: str, service: Standin, tmp_path: Path):
    """A version behind the name does not hide it."""
    describe = service._describe
    service._describe = lambda job, **options: describe(job, **options) | {"model": model}  # type: ignore[method-assign]
    service.fail("submit", "500_after")
    client_for(service.url, tmp_path).run(request())
    assert books(service) == (1, 1)


def written_as(form: str) -> Callable[[float], str]:
    def iso(seconds: float) -> str:
        moment = datetime.fromtimestamp(seconds, timezone.utc)
        return moment.strftime(form).replace("NS", f"{moment.microsecond:06d}268")

    return iso


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize(
    "form", ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S.NSZ", "%Y-%m-%dT%H:%M:%S.NS+00:00"]
)
def test_dates_as_services_write_them(
    form: str, zone: str, service: Standin, tmp_path: Path, monkeypatch
):
    """Without a zone they are UTC, wherever this machine stands."""
    monkeypatch.setenv("TZ", zone)
    if hasattr(time, "tzset"):
        time.tzset()
    service._iso = written_as(form)  # type: ignore[method-assign]
    service.fail("submit", "500_after")
    client_for(service.url, tmp_path).run(request())
    monkeypatch.undo()
    if hasattr(time, "tzset"):
        time.tzset()
    assert books(service) == (1, 1)


def test_nine_digits():
    """Python 3.10's own parser takes three or six."""
    first, second = (
        Prediction("pred0001", created_at=f"2025-05-19T06:09:15.{digits}Z").created_s
        for digits in ("948268264", "948269264")
    )
    assert first == 1747634955.948268
    assert second is not None
    assert first < second
    assert parse_moment("yesterday") is None
    assert parse_moment("0001-01-01T00:00:00+23:59") is None


DATES: dict[str, Callable[[], str | None]] = {
    "10 minutes off": lambda: formatdate(time.time() + 600, usegmt=True),
    "year 1": lambda: "Mon, 01 Jan 0001 00:00:00 GMT",
    "year 9999": lambda: "Fri, 31 Dec 9999 23:59:59 GMT",
    "a huge zone": lambda: "Mon, 01 Jan 2024 00:00:00 +99999999999999999999",
    "a huge year": lambda: "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
    "nonsense": lambda: "soon",
    "none": lambda: None,
}


@pytest.mark.parametrize("name", DATES)
def test_a_date_header_only_widens_the_window(name: str, service: Standin, tmp_path: Path):
    """What the service says of its clock cannot hide a prediction that ours finds."""
    service.date = DATES[name]
    service.fail("submit", "500_after")
    for _ in range(2):
        client_for(service.url, tmp_path).run(request())
    assert books(service) == (1, 1)


@pytest.mark.parametrize("jump_s", [-9 * 86400, 9 * 86400])
def test_no_date_and_a_clock_that_is_corrected(jump_s: float, service: Standin, tmp_path: Path):
    """Nobody's clock can be trusted then: the user is asked, and nothing is ordered."""
    service.date = lambda: None
    service.fail("submit", "500_after")
    service.fail("list", "503", times=6)
    wrong = waiting_clock(wall=lambda: time.time() + jump_s)
    with pytest.raises(RemoteOutcomeUnknown):
        client_for(service.url, tmp_path, wrong).run(request())
    with pytest.raises(RemoteOutcomeUnknown) as caught:
        client_for(service.url, tmp_path).run(request())
    assert caught.value.candidates == ("pred00000001",)
    assert books(service) == (1, 1)


@pytest.mark.parametrize("jump_s", [-9 * 86400, 9 * 86400, -400 * 86400, 400 * 86400])
def test_honest_dates_and_a_clock_that_is_corrected(
    jump_s: float, service: Standin, tmp_path: Path
):
    """The service's clock is enough."""
    service.fail("submit", "500_after")
    service.fail("list", "503", times=6)
    wrong = waiting_clock(wall=lambda: time.time() + jump_s)
    with pytest.raises(RemoteOutcomeUnknown):
        client_for(service.url, tmp_path, wrong).run(request())
    client_for(service.url, tmp_path).run(request())
    assert books(service) == (1, 1)


def test_late_entry_in_the_list(service: Standin, tmp_path: Path):
    """A prediction that shows itself after the search is found by the next run, not ordered anew."""
    service.fail("submit", "500_after")
    service.fail("list", envelope(200, data={"items": []}), times=4)
    client = client_for(service.url, tmp_path)
    with pytest.raises(RemoteOutcomeUnknown):
        client.run(request())
    client.run(request())
    assert books(service) == (1, 1)


def test_a_filter_that_the_service_reads_another_way(service: Standin, tmp_path: Path):
    """An empty list proves nothing before it was asked for without times."""
    service.fail("submit", "500_after")
    service.fail("list", envelope(200, data={"items": []}), times=3)
    client_for(service.url, tmp_path).run(request())
    assert books(service) == (1, 1)
