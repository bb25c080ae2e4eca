"""Whatever the service answers: an image or a typed error, soon, and never a second POST."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pulid_pack.pulid_core.paid_jobs.transport import Reply
from pulid_pack.pulid_core.wavespeed.answers import Outcome, outcome, parse_prediction
from pulid_pack.pulid_core.wavespeed.errors import RemoteError
from pulid_pack.pulid_core.wavespeed.images import decode_image
from wavespeed_faults import Fault
from wavespeed_standin import Standin
from wavespeed_testing import client_for, fast_clock, request

IDS = st.sampled_from(["pred00000001", "x", "", "a/../b", None, 7, "é" * 9])
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20))
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
DATA = st.fixed_dictionaries(
    {},
    optional={
        "id": IDS,
        "status": st.sampled_from(["created", "completed", "failed", "deleted"]) | JSON,
        "outputs": JSON | st.lists(st.sampled_from(["http://", "file:///x", "aGVsbG8=", "\0"])),
        "urls": JSON,
        "has_nsfw_contents": JSON,
        "created_at": JSON,
        "error": JSON,
        "timings": JSON,
        "code": JSON,
        "model": JSON,
    },
)
ENVELOPES = st.fixed_dictionaries(
    {},
    optional={
        "code": st.sampled_from([200, 400, 429, 1200, 5004]) | JSON,
        "message": JSON,
        "data": DATA | JSON,
    },
)
BODIES = st.one_of(ENVELOPES.map(lambda value: json.dumps(value).encode()), st.binary(max_size=200))
STATUS = st.sampled_from([200, 201, 204, 302, 400, 401, 404, 408, 418, 429, 500, 503, 504])
REPLIES = st.builds(lambda status, body: Reply(status, {}, body), STATUS, BODIES)

REFUSALS = {Outcome.REJECTED, Outcome.RATE_LIMITED}


@pytest.fixture(scope="module")
def service() -> Iterator[Standin]:
    with Standin() as standin:
        yield standin


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(REPLIES)
def test_outcome_is_total_and_careful(reply: Reply):
    """Every reply has an outcome; server trouble is never taken for a refusal."""
    answer = outcome(reply)
    if reply.status >= 500 or reply.status in (408, 418):
        assert answer.outcome in (Outcome.UNKNOWN, Outcome.ACCEPTED)
    if answer.outcome is Outcome.ACCEPTED:
        assert answer.prediction is not None
        assert parse_prediction(json.loads(reply.body)["data"]) == answer.prediction
    if reply.status in (400, 401, 404):  # an id always wins
        assert answer.outcome in (Outcome.REJECTED, Outcome.ACCEPTED)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_an_image_or_an_error(data: bytes):
    """Decoding ends in a picture or in one kind of error."""
    for magic in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\x10\0\0\0WEBPVP8 "):
        try:
            assert decode_image(magic + data).ndim == 3
        except RemoteError:
            continue


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    endpoint=st.sampled_from(["submit", "result", "list", "upload", "price"]),
    status=STATUS,
    body=BODIES,
)
def test_whole_runs(endpoint: str, status: int, body: bytes, service: Standin):
    """A run against fuzzed answers ends in an image or a typed error, with at most one POST."""
    service._faults.clear()
    service.requests.clear()
    service.fail(endpoint, Fault("reply", endpoint == "submit", status, {}, body), times=30)
    if endpoint == "list":
        service.fail("submit", "500_after")
    with TemporaryDirectory() as folder:
        client = client_for(service.url, Path(folder), fast_clock(2000))
        with contextlib.suppress(RemoteError):
            client.run(request(max_wait_s=30))
    limited = status == 429 or b"429" in body
    assert service.requests["submit"] <= (3 if limited else 1)
