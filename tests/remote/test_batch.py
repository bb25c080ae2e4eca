"""Batches: order, cost, seeds, and what a failure of one does to the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pulid_pack.pulid_core.wavespeed import Request, WavespeedClient, parse_size
from pulid_pack.pulid_core.wavespeed.errors import (
    RemoteAuthError,
    RemoteBatchFailed,
    RemoteBudgetExceeded,
    RemoteCreditError,
    RemoteInputError,
    RemoteOutcomeUnknown,
    RemoteRejected,
)
from wavespeed_faults import envelope, status
from wavespeed_standin import Standin
from wavespeed_testing import client_for, photo, request, waiting_clock


def test_order_is_photo_prompt_seed(client: WavespeedClient, service: Standin):
    """Every photo with every prompt and seed, in that order, however the jobs end."""
    batch = client.run(
        request(
            photos=[photo(1), photo(2)],
            prompts=["one", "two"],
            num_images=2,
            seed=2147483647,
            max_parallel=4,
        )
    )
    places = [(m["image_index"], m["prompt_index"], m["seed"]) for m in batch.metadata]
    seeds = (2147483647, 0)
    assert places == [(i, p, s) for i in range(2) for p in range(2) for s in seeds]
    assert len({image.tobytes() for image in batch.images}) == 8
    assert [service.jobs[i].inputs["seed"] for i in batch.prediction_ids] == [*seeds] * 4
    assert service.requests["upload"] == 2
    assert service.paid == service.images_delivered == 8


def test_what_is_sent(client: WavespeedClient, service: Standin):
    """Every documented parameter arrives under its name."""
    client.run(request(guidance_scale=3.123456, output_format="webp", base64_output=True))
    (job,) = service.jobs.values()
    assert job.inputs | {"image": "x"} == {
        "prompt": "prompt-canary in the rain",
        "image": "x",
        "size": "256*320",
        "guidance_scale": 3.1235,
        "seed": 7,
        "output_format": "webp",
        "enable_base64_output": True,
    }


def test_too_expensive(client: WavespeedClient, service: Standin):
    """A run above the limit is refused before the first upload."""
    with pytest.raises(RemoteBudgetExceeded) as caught:
        client.run(request(num_images=16, max_cost_usd=0.31))
    assert caught.value.cost_usd == pytest.approx(0.32)
    assert (service.requests["upload"], service.paid) == (0, 0)


def test_only_new_images_count(client: WavespeedClient, service: Standin):
    """What is here already costs nothing and does not count."""
    client.run(request(num_images=2, max_cost_usd=0.04))
    assert client.estimate(request(num_images=3)).new == 1
    client.run(request(num_images=3, max_cost_usd=0.02))
    assert service.paid == 3


def test_an_open_outcome_counts(client: WavespeedClient, service: Standin):
    """A lost answer may lead to a second submission, so its price counts."""
    service.fail("submit", "500")
    with pytest.raises(RemoteOutcomeUnknown):
        client.run(request())
    with pytest.raises(RemoteBudgetExceeded):
        client.run(request(max_cost_usd=0.01))
    assert service.requests["submit"] == 1


def test_one_failure_of_three(client: WavespeedClient, service: Standin):
    """The finished ones are saved; the next run pays for the missing one only."""
    service.fail("submit", None)
    service.fail("submit", status(400, "no"))
    with pytest.raises(RemoteBatchFailed) as caught:
        client.run(request(num_images=3))
    assert caught.value.finished == 2
    assert isinstance(caught.value.errors[0], RemoteRejected)
    batch = client.run(request(num_images=3))
    assert sorted(m["source"] for m in batch.metadata) == ["cache", "cache", "new"]
    assert service.paid == service.images_delivered == 3


def test_keep_successful(client: WavespeedClient, service: Standin):
    """On request the finished ones are returned and the failures listed."""
    service.fail("submit", status(400, "no"))
    batch = client.run(request(num_images=3, on_partial_failure="keep_successful"))
    assert (len(batch.images), len(batch.failures)) == (2, 1)


@pytest.mark.parametrize(
    ("fault", "error"), [("unauthorized", RemoteAuthError), ("no_credit", RemoteCreditError)]
)
def test_what_hits_all_stops_the_batch(
    fault: str, error: type, client: WavespeedClient, service: Standin
):
    """After a refusal that every job would meet, no other job is started."""
    service.fail("submit", fault, times=8)
    with pytest.raises((error, RemoteBatchFailed)):
        client.run(request(num_images=8, max_parallel=1))
    assert service.requests["submit"] <= 2


def test_random_seed_is_kept_until_delivered(client: WavespeedClient, service: Standin):
    """An unfinished run with seed -1 is collected by the next; a finished one draws anew."""
    service.fail("result", "500", times=6)
    with pytest.raises(Exception, match="no usable answer"):
        client.run(request(seed=-1))
    first = client.run(request(seed=-1)).metadata[0]
    assert (first["source"], service.paid) == ("resumed", 1)
    second = client.run(request(seed=-1)).metadata[0]
    assert (second["source"], service.paid) == ("new", 2)
    assert first["seed"] != second["seed"]


def test_force_rerun(client: WavespeedClient, service: Standin):
    """It pays again for what was delivered, and resumes what is pending."""
    client.run(request())
    client.run(request(force_rerun=True))
    assert service.paid == 2
    service.fail("result", "500", times=6)
    with pytest.raises(Exception, match="no usable answer"):
        client.run(request(seed=8))
    client.run(request(seed=8, force_rerun=True))
    assert service.paid == 3


def test_results_are_kept_for_a_week(service: Standin, tmp_path: Path):
    """Within 7 days the image comes from this machine; after that it is generated anew."""
    now = [1_800_000_000.0]
    service._now = lambda: now[0]
    client = client_for(service.url, tmp_path, waiting_clock(wall=lambda: now[0]))
    client.run(request())
    now[0] += 6.9 * 24 * 3600
    assert client.run(request()).metadata[0]["source"] == "cache"
    now[0] += 0.2 * 24 * 3600
    assert client.run(request()).metadata[0]["source"] == "new"
    assert service.paid == 2


def test_accounts_are_apart(service: Standin, tmp_path: Path):
    """Another key is another account, with predictions of its own."""
    service.key = None
    for key in ("first-key", "second-key"):
        client_for(service.url, tmp_path, api_key=key).run(request())
    assert service.paid == 2


@pytest.mark.parametrize("text", ["1024*768", "1024x768", " 1024 × 768 "])
def test_sizes(text: str):
    """Three ways to write a size."""
    assert parse_size(text) == (1024, 768)


@pytest.mark.parametrize("text", ["", "1024", "255*512", "512*1537", "9" * 99, "a*b"])
def test_bad_sizes(text: str):
    """Another form, or a side out of range."""
    with pytest.raises(RemoteInputError):
        parse_size(text)


@pytest.mark.parametrize(
    "changes",
    [
        {"photos": []},
        {"prompts": []},
        {"prompts": ["  "]},
        {"guidance_scale": 20.1},
        {"guidance_scale": float("nan")},
        {"seed": 2**31},
        {"seed": -2},
        {"output_format": "gif"},
        {"num_images": 17},
        {"width": 255},
        {"max_wait_s": 5},
        {"max_parallel": 0},
    ],
)
def test_bad_requests(changes: dict, client: WavespeedClient, service: Standin):
    """Inputs out of range are refused before anything is sent."""
    with pytest.raises(RemoteInputError):
        client.run(request(**changes))
    assert not service.requests


def test_ten_line_example(client: WavespeedClient):
    """The call of the README, with progress."""
    lines = []
    batch = client.generate(photo(), "a portrait", size="256*256", seed=3, progress=lines.append)
    assert batch.images[0].shape == (256, 256, 3)
    assert np.isfinite(batch.images[0]).all()
    assert lines[-1].done == lines[-1].total == 4
    assert not any("portrait" in line.text for line in lines)


def test_envelope_that_lies(client: WavespeedClient, service: Standin):
    """HTTP 200 with a refusal inside is a refusal."""
    service.fail("submit", envelope(400, "no"))
    with pytest.raises(RemoteRejected):
        client.run(request())


def test_request_repr_hides_the_prompt():
    """Neither photos nor prompts appear in a repr."""
    assert "canary" not in repr(Request([photo()], ["prompt-canary"]))


def test_absurd_quote(client: WavespeedClient, service: Standin):
    """A negative price is no quote, and does not get a run past its limit."""
    quote = {"discounted_price": -1.0, "price": -1.0}
    service.fail("price", envelope(200, data=quote), times=9)
    with pytest.raises(RemoteBudgetExceeded):
        client.run(request(max_cost_usd=0.01))
    assert service.paid == 0
