"""The outcome table: what each answer to the creating POST does to the purse and to the image."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from pulid_pack.pulid_core.paid_jobs.transport import Reply, Sent, TransportError
from pulid_pack.pulid_core.wavespeed import AddressPolicy, Transport, WavespeedClient
from pulid_pack.pulid_core.wavespeed.errors import (
    Billed,
    PaidJobError,
    RemoteAuthError,
    RemoteCreditError,
    RemoteModelGone,
    RemoteOutcomeUnknown,
    RemoteRateLimited,
    RemoteRejected,
    RemoteUnavailable,
    UnsafeAddressError,
)
from pulid_pack.pulid_core.wavespeed.images import encode_photo
from wavespeed_faults import Fault, envelope, patch, status
from wavespeed_standin import Standin
from wavespeed_testing import KEY, client_for, photo, request

SENT_AND_PROCESSED = [
    "reset_after",
    "hang_after",
    "cut",
    "invalid_json",
    "no_id",
    "408_after",
    "500_after",
    "502_after",
    "504_after",
]
SENT_AND_LOST = ["reset_before", "hang_before", "500", "503", "408", "redirect_307"]
REFUSED = [
    (status(400, "bad size"), RemoteRejected),
    ("unauthorized", RemoteAuthError),
    ("no_credit", RemoteCreditError),
    ("forbidden", RemoteAuthError),
    ("not_found", RemoteModelGone),
    (status(405), RemoteModelGone),
    (status(413), RemoteRejected),
    (status(415), RemoteRejected),
    (status(422), RemoteRejected),
    (envelope(1200, "moderation"), RemoteRejected),
    (envelope(1400, "missing"), RemoteRejected),
    (envelope(1401, "invalid"), RemoteRejected),
    (envelope(1402, "media"), RemoteRejected),
    (envelope(1407, "insufficient credits"), RemoteCreditError),
    (envelope(401, "key"), RemoteAuthError),
]


def books(service: Standin) -> tuple[int, int, int]:
    """Paid, delivered, and POSTs that asked for a prediction."""
    return service.paid, service.images_delivered, service.requests["submit"]


def test_accepted(client: WavespeedClient, service: Standin):
    """No fault, one prediction, one image."""
    batch = client.run(request())
    assert batch.metadata[0]["source"] == "new"
    assert books(service) == (1, 1, 1)


@pytest.mark.parametrize("fault", SENT_AND_PROCESSED)
def test_lost_answer_is_found_not_resent(fault: str, client: WavespeedClient, service: Standin):
    """A prediction whose answer was lost is found in the list; the POST leaves once."""
    service.fail("submit", fault)
    batch = client.run(request())
    assert len(batch.images) == 1
    assert books(service) == (1, 1, 1)


@pytest.mark.parametrize("fault", SENT_AND_PROCESSED)
def test_lost_answer_without_inputs_in_the_list(fault: str, tmp_path: Path):
    """A list that does not tell inputs gives the prediction by its time, with a warning."""
    with Standin(list_inputs=False) as service:
        service.fail("submit", fault)
        batch = client_for(service.url, tmp_path).run(request())
        assert batch.metadata[0]["source"] == "adopted"
        assert batch.metadata[0]["warnings"]
        assert books(service) == (1, 1, 1)


@pytest.mark.parametrize("fault", SENT_AND_LOST)
def test_unknown_outcome_is_an_error_then_a_new_try(
    fault: str, client: WavespeedClient, service: Standin
):
    """A POST that created nothing is not repeated by itself; the next run may."""
    service.fail("submit", fault)
    with pytest.raises(RemoteOutcomeUnknown) as caught:
        client.run(request())
    assert caught.value.billed is Billed.MAYBE
    assert books(service) == (0, 0, 1)
    client.run(request())
    assert books(service) == (1, 1, 2)


def test_unreadable_list_never_leads_to_a_second_post(client: WavespeedClient, service: Standin):
    """As long as nobody can say what became of the POST, no run sends another."""
    service.fail("submit", "500_after")
    service.fail("list", "503", times=12)
    for _ in range(2):
        with pytest.raises(RemoteOutcomeUnknown):
            client.run(request())
    assert books(service) == (1, 0, 1)
    client.run(request())
    assert books(service) == (1, 1, 1)


def test_strangers_in_the_list_are_not_taken(tmp_path: Path):
    """Two predictions that could both be the lost one: ask, and pay only when told to."""
    with Standin(list_inputs=False) as service:
        mine, other = (
            client_for(service.url, tmp_path / "a"),
            client_for(service.url, tmp_path / "b"),
        )
        service.fail("submit", "500_after")
        other.run(request(seed=1))
        service.fail("submit", "500_after")
        for _ in range(2):
            with pytest.raises(RemoteOutcomeUnknown) as caught:
                mine.run(request(seed=2))
            assert len(caught.value.candidates) == 2
        assert service.paid == 2
        mine.run(request(seed=2, force_rerun=True))
        assert service.paid == 3


@pytest.mark.parametrize(("fault", "error"), REFUSED)
def test_refused(
    fault: str | Fault,
    error: type[PaidJobError],
    client: WavespeedClient,
    service: Standin,
):
    """A refusal created nothing, says so, and the same inputs may be tried again."""
    service.fail("submit", fault)
    with pytest.raises(error) as caught:
        client.run(request())
    assert caught.value.billed is Billed.NO
    assert "not billed" in str(caught.value)
    assert books(service) == (0, 0, 1)
    client.run(request())
    assert books(service) == (1, 1, 2)


@pytest.mark.parametrize("fault", ["rate_limit", "rate_limit_7s", envelope(429, "slow down")])
def test_rate_limit_is_waited_for(fault: str | Fault, client: WavespeedClient, service: Standin):
    """429 creates nothing: after a wait the request is sent again."""
    service.fail("submit", fault, times=2)
    client.run(request())
    assert books(service) == (1, 1, 3)


def test_rate_limit_ends(client: WavespeedClient, service: Standin):
    """A third 429 is an error."""
    service.fail("submit", "rate_limit_7s", times=3)
    with pytest.raises(RemoteRateLimited):
        client.run(request())
    assert books(service) == (0, 0, 3)


@pytest.mark.parametrize("address", ["http://nowhere.invalid:80", "http://127.0.0.1:9"])
def test_not_sent(address: str, tmp_path: Path):
    """A name that does not resolve and a refused connection are told apart from a lost answer."""
    client = client_for(address, tmp_path)
    tag = client.journal.account_tag(KEY.encode())
    client.journal.note_upload(encode_photo(photo()).digest, tag, f"{address}/x.png", 60)
    with pytest.raises(RemoteUnavailable) as caught:
        client.run(request())
    assert caught.value.billed is Billed.NO


class Refusing(Transport):
    """Cannot connect the first three times that a prediction is asked for."""

    refusals = 0

    def send(self, method: str, url: str, **options) -> Reply:
        if url.endswith("flux-pulid") and self.refusals < 3:
            self.refusals += 1
            raise TransportError(Sent.NO, "the connection could not be made")
        return super().send(method, url, **options)


def test_not_sent_is_tried_again(service: Standin, tmp_path: Path):
    """A connection that could not be made three times is made the fourth time."""
    policy = AddressPolicy(trusted_origins=frozenset({service.url}))
    client_for(service.url, tmp_path, transport=Refusing(policy)).run(request())
    assert books(service) == (1, 1, 1)


@pytest.mark.parametrize(("sent", "attempts"), [(Sent.NEVER_WILL, 1), (Sent.NO, 4)])
def test_never_sent(sent: Sent, attempts: int, service: Standin, tmp_path: Path):
    """A bad certificate or a refusing proxy ends at once, a bad connection after four tries."""
    tried = []

    class Broken(Transport):
        def send(self, method: str, url: str, **options) -> Reply:
            if not url.endswith("flux-pulid"):
                return super().send(method, url, **options)
            tried.append(url)
            raise TransportError(sent, "the certificate is not valid")

    policy = AddressPolicy(trusted_origins=frozenset({service.url}))
    with pytest.raises(RemoteUnavailable) as caught:
        client_for(service.url, tmp_path, transport=Broken(policy)).run(request())
    assert caught.value.billed is Billed.NO
    assert len(tried) == attempts
    assert books(service) == (0, 0, 0)


@pytest.mark.parametrize("sync_fault", [None, "504_after", "hang_after"])
def test_sync_mode(sync_fault: str | None, client: WavespeedClient, service: Standin):
    """Sync mode gives the image, and its lost answers are looked for, not resent."""
    service.fail("submit", sync_fault)
    client.run(request(sync_mode=True))
    assert books(service) == (1, 1, 1)


def test_sync_mode_timed_out(tmp_path: Path):
    """5004 with an id: the prediction goes on, and is polled."""
    clock_s = [0.0]
    with Standin(
        now=lambda: 1_800_000_000 + clock_s[0], generation_s=60, sync_wait_s=0.1
    ) as service:
        client = client_for(service.url, tmp_path)
        threading.Timer(1.0, lambda: clock_s.__setitem__(0, 100.0)).start()
        client.run(request(sync_mode=True))
        assert books(service) == (1, 1, 1)
        assert service.requests["result"] > 1


def test_base64_output(client: WavespeedClient, service: Standin):
    """With the image inside the answer no file host is needed."""
    batch = client.run(request(base64_output=True))
    assert batch.images[0].shape == (320, 256, 3)
    assert batch.metadata[0]["outputs"][0].startswith("base64")
    assert service.requests["file"] == 0
    assert service.paid == 1


def test_wrong_model_is_a_warning(client: WavespeedClient, service: Standin):
    """A paid image by another model is delivered, with a warning."""
    service.fail("result", patch(model="wavespeed-ai/flux-krea-dev-lora"))
    batch = client.run(request())
    assert any("another model" in warning for warning in batch.metadata[0]["warnings"])
    assert books(service) == (1, 1, 1)


def test_429_with_an_id_is_accepted(client: WavespeedClient, service: Standin):
    """An answer that names a prediction means that there is one, whatever its status."""
    service.fail("submit", Fault("patch", True, 429))
    client.run(request())
    assert books(service) == (1, 1, 1)


def test_lost_answers_of_two_photos(service: Standin, tmp_path: Path):
    """Same prompt and seed, other photo, both answers lost: each photo gets its own picture."""
    client = client_for(service.url, tmp_path)
    service.fail("submit", "500_after", times=2)
    photos = [np.full((96, 80, 3), value, np.uint8) for value in (10, 240)]
    batch = client.run(request(photos=photos))
    assert books(service) == (2, 2, 2)
    assert batch.images[0].mean() < batch.images[1].mean()


def test_private_address_at_the_post(service: Standin, tmp_path: Path):
    """A name that is suddenly a private address: nothing was sent, and nothing is looked for."""

    class Rebound(Transport):
        def send(self, method: str, url: str, **options) -> Reply:
            if url.endswith("flux-pulid"):
                raise UnsafeAddressError("Refused an address inside a private network.")
            return super().send(method, url, **options)

    policy = AddressPolicy(trusted_origins=frozenset({service.url}))
    with pytest.raises(RemoteUnavailable) as caught:
        client_for(service.url, tmp_path, transport=Rebound(policy)).run(request())
    assert caught.value.billed is Billed.NO
    client_for(service.url, tmp_path).run(request())
    assert service.requests["list"] == 0
    assert books(service) == (1, 1, 1)
