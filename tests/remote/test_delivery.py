"""From an accepted prediction to the image: whatever happens on the way, it is paid once."""

from __future__ import annotations

from pathlib import Path

import pytest
from pulid_pack.pulid_core.wavespeed import WavespeedClient
from pulid_pack.pulid_core.wavespeed.errors import (
    Billed,
    PaidJobError,
    RemoteAuthError,
    RemoteCreditError,
    RemoteDownloadFailed,
    RemoteExpired,
    RemoteImageError,
    RemoteInputError,
    RemoteJobFailed,
    RemoteTimeout,
    RemoteUnavailable,
)
from wavespeed_faults import Fault, bomb_png, envelope, patch, status
from wavespeed_standin import Standin
from wavespeed_testing import client_for, request, waiting_clock

PASSING = [
    "reset_before",
    "hang_before",
    "408",
    "500",
    "503",
    "rate_limit",
    "rate_limit_7s",
    "invalid_json",
    "cut",
    "no_id",
    "unknown_state",
    "not_found",
    envelope(500, "hiccup"),
]


def books(service: Standin) -> tuple[int, int, int]:
    return service.paid, service.images_delivered, service.requests["submit"]


@pytest.mark.parametrize("fault", PASSING)
def test_polling_survives(fault: str | Fault, client: WavespeedClient, service: Standin):
    """A passing failure of a look at the prediction changes nothing."""
    service.fail("result", fault, times=2)
    assert len(client.run(request()).images) == 1
    assert books(service) == (1, 1, 1)


def test_polling_gives_up_and_resumes(client: WavespeedClient, service: Standin):
    """Six failures in a row end the run; the next one collects what was paid."""
    service.fail("result", "500", times=6)
    with pytest.raises(RemoteUnavailable) as caught:
        client.run(request())
    assert caught.value.billed is Billed.YES
    assert caught.value.prediction_id in service.jobs
    assert client.run(request()).metadata[0]["source"] == "resumed"
    assert books(service) == (1, 1, 1)


def test_key_refused_while_polling(client: WavespeedClient, service: Standin):
    """A key that is refused after payment keeps the prediction for the next run."""
    service.fail("result", "unauthorized")
    with pytest.raises(RemoteAuthError) as caught:
        client.run(request())
    assert caught.value.billed is Billed.YES
    client.run(request())
    assert books(service) == (1, 1, 1)


@pytest.mark.parametrize("state", ["failed", "cancelled", "timeout", "deleted"])
def test_terminal_states(state: str, client: WavespeedClient, service: Standin):
    """A prediction that ends without an image is not run anew by itself."""
    service.fail_next_prediction(state, 5000, "the worker fell over")
    with pytest.raises(RemoteJobFailed) as caught:
        client.run(request())
    assert caught.value.status == state
    assert caught.value.prediction_id in service.jobs
    assert books(service) == (0, 0, 1)
    client.run(request())
    assert books(service) == (1, 1, 2)


@pytest.mark.parametrize(
    ("code", "words", "error", "billed"),
    [
        (1200, "moderation", RemoteJobFailed, Billed.MAYBE),
        (1400, "missing", RemoteJobFailed, Billed.NO),
        (1401, "invalid", RemoteJobFailed, Billed.NO),
        (1403, "execution", RemoteJobFailed, Billed.REFUNDED),
        (1407, "credits", RemoteCreditError, Billed.NO),
        (5003, "insufficient credits", RemoteJobFailed, Billed.REFUNDED),
        (5003, "unavailable", RemoteJobFailed, Billed.REFUNDED),
    ],
)
def test_task_codes(
    code: int,
    words: str,
    error: type[PaidJobError],
    billed: Billed,
    client: WavespeedClient,
    service: Standin,
):
    """Each task code has its error, which knows who pays."""
    service.fail_next_prediction("failed", code, words)
    service.fail("billings", "not_found")
    with pytest.raises(error) as caught:
        client.run(request())
    assert caught.value.billed is billed
    assert caught.value.prediction_id


@pytest.mark.parametrize(("refunded", "text"), [(True, "not billed"), (False, "billed")])
def test_what_a_failure_really_cost(refunded, text, client: WavespeedClient, service: Standin):
    """The service's own account says what a failed prediction cost, where it is asked."""
    service.fail_next_prediction("failed", 5000, "worker")
    service.refunds_failed = refunded
    with pytest.raises(RemoteJobFailed) as caught:
        client.run(request())
    assert f", {text} by WaveSpeed's account: $0.0" in str(caught.value)
    assert caught.value.billed is (Billed.NO if refunded else Billed.YES)


def test_unreadable_photo_is_uploaded_anew(client: WavespeedClient, service: Standin):
    """Code 1402 drops the remembered upload."""
    client.run(request(seed=1))
    service.uploads.clear()
    with pytest.raises(RemoteJobFailed):
        client.run(request(seed=2))
    client.run(request(seed=2))
    assert service.requests["upload"] == 2
    assert books(service) == (2, 2, 3)


def test_empty_outputs_that_fill(client: WavespeedClient, service: Standin):
    """A completed prediction may name its image a little later."""
    service.fail("result", "empty_outputs", times=2)
    client.run(request())
    assert books(service) == (1, 1, 1)


def test_empty_outputs_that_stay_empty(client: WavespeedClient, service: Standin):
    """A completed prediction without an image is an error, and is looked at again."""
    service.fail("result", "empty_outputs", times=3)
    with pytest.raises(RemoteDownloadFailed):
        client.run(request())
    client.run(request())
    assert books(service) == (1, 1, 1)


DOWNLOAD_PASSING = ["reset_before", "hang_before", "cut", "500", "expired_url", "not_found"]


@pytest.mark.parametrize("fault", [*DOWNLOAD_PASSING, "wrong_magic"])
def test_download_survives(fault: str, client: WavespeedClient, service: Standin):
    """A failed download is repeated with a fresh address."""
    service.fail("file", fault, times=3)
    client.run(request())
    assert books(service) == (1, 1, 1)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("wrong_magic", RemoteImageError),
        (Fault("reply", body=bomb_png()), RemoteImageError),
        ("oversize", RemoteDownloadFailed),
        ("drip", RemoteDownloadFailed),
        ("expired_url", RemoteDownloadFailed),
        ("to_loopback", RemoteDownloadFailed),
        ("to_metadata", RemoteDownloadFailed),
        ("to_plain_http", RemoteDownloadFailed),
        ("to_file", RemoteDownloadFailed),
    ],
)
def test_bad_file_is_an_error_and_free_to_collect(
    fault: str | Fault, error: type[PaidJobError], client: WavespeedClient, service: Standin
):
    """A file that cannot be taken is an error; the image is collected later, not paid again."""
    service.fail("file", fault, times=5)
    with pytest.raises(error) as caught:
        client.run(request())
    assert caught.value.billed is Billed.YES
    service._faults.clear()
    client.run(request())
    assert (service.paid, service.requests["submit"]) == (1, 1)


def test_redirect_within_the_rules_is_followed(client: WavespeedClient, service: Standin):
    """A redirect to an allowed address is followed, three times at most."""
    service.fail("file", Fault("reply", status=302, headers={"Location": "?Signature=wrong"}))
    service.fail("file", "reset_before")
    client.run(request())
    assert books(service) == (1, 1, 1)
    service.fail("file", Fault("reply", status=302, headers={"Location": "/cdn/loop"}), times=5)
    service.fail("file", Fault("reply", status=302, headers={"Location": "/cdn/loop"}), times=20)
    with pytest.raises(RemoteDownloadFailed, match="redirects"):
        client.run(request(seed=8))


def test_still_running(tmp_path: Path):
    """The longest wait ends the run, not the prediction; the next run collects it."""
    now = [1_800_000_000.0]
    with Standin(now=lambda: now[0], generation_s=500) as service:
        client = client_for(service.url, tmp_path)
        with pytest.raises(RemoteTimeout, match="after 60 s"):
            client.run(request(max_wait_s=60))
        now[0] += 600
        assert client.run(request()).metadata[0]["source"] == "resumed"
        assert books(service) == (1, 1, 1)


def test_expired(tmp_path: Path):
    """A prediction that the service forgot is an error; then a new one may be paid."""
    with Standin() as service:
        client = client_for(service.url, tmp_path)
        service.fail("result", "500", times=6)
        with pytest.raises(RemoteUnavailable):
            client.run(request())
        service.jobs.clear()
        for _ in range(3):
            with pytest.raises(RemoteExpired, match="force_rerun"):
                client.run(request())
        assert service.requests["submit"] == 1
        client.run(request(force_rerun=True))
        assert service.requests["submit"] == 2


def test_really_expired(service: Standin, tmp_path: Path):
    """After 7 days by both clocks the service's word is taken; then a new one may be paid."""
    now = [1_800_000_000.0]
    service._now = lambda: now[0]
    client = client_for(service.url, tmp_path, waiting_clock(wall=lambda: now[0]))
    service.fail("result", "500", times=6)
    with pytest.raises(RemoteUnavailable):
        client.run(request())
    now[0] += 7.1 * 24 * 3600
    with pytest.raises(RemoteExpired, match="older than 7 days"):
        client.run(request())
    client.run(request())
    assert service.requests["submit"] == 2


def test_size_that_differs_is_resampled(client: WavespeedClient, service: Standin):
    """An image of another size is fitted to the batch after payment, with a warning."""
    render = service._render
    service._render = lambda job: render(type(job)(job.id, {**job.inputs, "size": "288*256"}, 0))
    batch = client.run(request())
    assert batch.images[0].shape == (320, 256, 3)
    assert batch.metadata[0]["size_actual"] == "288*256"
    assert batch.metadata[0]["warnings"]


def test_nsfw_flag_is_a_warning(client: WavespeedClient, service: Standin):
    """A flagged image is delivered."""
    service.fail("result", patch(has_nsfw_contents=[True]))
    metadata = client.run(request()).metadata[0]
    assert metadata["nsfw"] is True
    assert metadata["warnings"]


def test_collect_by_id(client: WavespeedClient, service: Standin, tmp_path: Path):
    """An id is enough to get the image, on any machine, without a submission."""
    (prediction_id,) = client.run(request()).prediction_ids
    batch = client_for(service.url, tmp_path / "elsewhere").collect([prediction_id, prediction_id])
    assert len(batch.images) == 2
    assert batch.metadata[0]["source"] == "resumed"
    assert service.requests["submit"] == 1


@pytest.mark.parametrize("text", ["", "short", "../../balance", "a" * 129, "pred/0001?x=1"])
def test_collect_refuses_what_is_no_id(text: str, client: WavespeedClient, service: Standin):
    """Nothing but a plain id enters a path."""
    with pytest.raises(RemoteInputError):
        client.collect([text])
    assert not service.requests


def test_collect_unknown_id(client: WavespeedClient):
    """An id that the service does not know is said to be gone."""
    with pytest.raises(RemoteExpired):
        client.collect(["pred99999999"])


def test_ticket_upload_is_the_fall_back(tmp_path: Path):
    """Without the documented upload the ticket route is taken, and its PUT carries no key."""
    with Standin(binary_upload=False) as service:
        client_for(service.url, tmp_path).run(request())
        assert books(service) == (1, 1, 1)
        assert service.requests["put"] == 1


@pytest.mark.parametrize("fault", ["500", "reset_after", "hang_before", "invalid_json", "cut"])
def test_upload_is_repeated(fault: str, client: WavespeedClient, service: Standin):
    """Uploads cost nothing and are repeated."""
    service.fail("upload", fault, times=2)
    client.run(request())
    assert books(service) == (1, 1, 1)


def test_upload_too_large(client: WavespeedClient, service: Standin):
    """A refused upload ends the run before anything is paid."""
    service.fail("upload", status(413, "too large"))
    with pytest.raises(PaidJobError, match="too large"):
        client.run(request())
    assert books(service) == (0, 0, 0)


def test_account(client: WavespeedClient, service: Standin):
    """The account shows whether a key is there, the balance and a quoted price."""
    account = client.account()
    assert account.balance_usd == 100
    assert (account.price_usd, account.quoted) == (0.02, True)


def test_account_without_a_key(service: Standin, tmp_path: Path):
    """Without a key nothing is asked."""
    account = client_for(service.url, tmp_path, api_key=None, environ={}).account()
    assert account.balance_usd is None
    assert not service.requests


def test_list_price_without_a_quote(client: WavespeedClient, service: Standin):
    """A price that cannot be quoted falls back to the page's."""
    service.fail("price", "500", times=6)
    estimate = client.estimate(request(num_images=3))
    assert (estimate.new, estimate.quoted) == (3, False)
    assert estimate.cost_usd == pytest.approx(0.06)


def test_rate_limited_polls_do_not_outlast_the_wait(service: Standin, tmp_path: Path):
    """A minute's pause after each 429 ends with the longest wait, and the image stays collectable."""
    client = client_for(service.url, tmp_path)
    service.fail("result", "rate_limit", times=6)
    with pytest.raises(PaidJobError) as caught:
        client.run(request(max_wait_s=30))
    assert service.requests["result"] == 1  # the first pause would be too long already
    assert caught.value.billed is Billed.YES
    assert caught.value.prediction_id
    service._faults.clear()
    client.run(request())
    assert (service.paid, service.images_delivered) == (1, 1)
