"""The record of paid jobs when the disk, the clock or the process does not cooperate."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from pulid_pack.pulid_core.paid_jobs.journal import Journal, State
from pulid_pack.pulid_core.paid_jobs.store import ResultStore
from pulid_pack.pulid_core.wavespeed import Clock, WavespeedClient
from pulid_pack.pulid_core.wavespeed.errors import (
    JournalError,
    RemoteOutcomeUnknown,
    RemoteUnavailable,
)
from wavespeed_standin import Standin
from wavespeed_testing import client_for, request, waiting_clock


def test_not_writable(service: Standin, tmp_path: Path):
    """Without a folder to write nothing is sent, and the sentence says what to do."""
    blocked = tmp_path / "file"
    blocked.write_text("a file where the folder should be")
    client = client_for(service.url, blocked)
    for _ in range(2):
        with pytest.raises(JournalError, match="Make room there, or allow writing"):
            client.run(request())
    assert not service.requests


def full_after(journal: Journal, change: str) -> None:
    """Let one kind of change meet a full disk."""

    def refuse(*_: object, **__: object) -> None:
        raise JournalError("The WaveSpeed journal cannot be written: disk is full.")

    setattr(journal, change, refuse)


@pytest.mark.parametrize("change", ["reserve", "submitting"])
def test_full_before_the_post(change: str, client: WavespeedClient, service: Standin):
    """A POST that cannot be recorded is not sent."""
    full_after(client.journal, change)
    with pytest.raises(JournalError):
        client.run(request())
    assert (service.paid, service.requests["submit"]) == (0, 0)


@pytest.mark.parametrize("change", ["accepted", "move"])
def test_full_after_the_post(change: str, service: Standin, tmp_path: Path):
    """What cannot be recorded after payment is delivered, and found again by the next run."""
    client = client_for(service.url, tmp_path)
    full_after(client.journal, change)
    assert len(client.run(request()).images) == 1
    assert len(client_for(service.url, tmp_path).run(request()).images) == 1
    assert (service.paid, service.requests["submit"]) == (1, 1)


def test_really_full_disk(service: Standin, tmp_path: Path):
    """With no room for any file the process ends with an error and nothing was sent."""
    script = textwrap.dedent(
        f"""
        import resource, signal, sys
        import registration
        from pathlib import Path
        from wavespeed_testing import client_for, request
        from pulid_pack.pulid_core.wavespeed.errors import JournalError
        client = client_for({service.url!r}, Path({str(tmp_path)!r}))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
        try:
            client.run(request())
        except JournalError as error:
            sys.exit(7)
        """
    )
    if sys.platform == "win32":
        pytest.skip("file size limits are POSIX")
    devtools = Path(__file__).resolve().parents[2] / "devtools"
    ended = subprocess.run([sys.executable, "-c", script], cwd=devtools, timeout=60)
    assert ended.returncode == 7
    assert service.requests["submit"] == 0


def test_results_that_do_not_fit(client: WavespeedClient, service: Standin):
    """An image that cannot be kept is delivered all the same, and can be collected again."""
    client.state_dir.mkdir()
    (client.state_dir / "results").write_text("a file where the folder should be")
    client.run(request())
    assert client.run(request()).metadata[0]["source"] == "resumed"
    assert service.paid == 1


@pytest.mark.parametrize("error_s", [-86400, -600, 600, 86400])
def test_wrong_system_time(error_s: float, service: Standin, tmp_path: Path):
    """A clock that is wrong by hours does not hide a lost prediction: the service's time counts."""
    clock = waiting_clock(wall=lambda: time.time() + error_s)
    client = client_for(service.url, tmp_path, clock)
    service.fail("submit", "500_after")
    client.run(request())
    assert (service.paid, service.images_delivered, service.requests["submit"]) == (1, 1, 1)


@pytest.mark.parametrize("jump_s", [-7200, 7200])
def test_clock_jump_while_waiting(jump_s: float, service: Standin, tmp_path: Path):
    """A jump of the system time between POST and look-up neither hangs nor pays twice."""
    jump = [0.0]
    clock = waiting_clock(wall=lambda: time.time() + jump[0])
    client = client_for(service.url, tmp_path, clock)
    service.fail("submit", "reset_after")
    service.fail("list", "503", times=6)
    with pytest.raises(RemoteOutcomeUnknown):
        client.run(request())
    jump[0] = jump_s
    client.run(request())
    assert (service.paid, service.images_delivered, service.requests["submit"]) == (1, 1, 1)


@pytest.mark.parametrize("jump_s", [-40 * 86400, 8 * 86400, 40 * 86400])
def test_clock_that_jumps_by_weeks(jump_s: float, service: Standin, tmp_path: Path):
    """A wrong date neither forgets a running prediction nor pays for a delivered one again."""
    service.fail("result", "500", times=6)
    with pytest.raises(RemoteUnavailable):
        client_for(service.url, tmp_path).run(request())
    clock = waiting_clock(wall=lambda: time.time() + jump_s)
    for _ in range(2):
        client_for(service.url, tmp_path, clock).run(request())
    assert (service.paid, service.images_delivered, service.requests["submit"]) == (1, 1, 1)


def test_rows_survive_a_restart(tmp_path: Path):
    """What one process wrote the next one reads, in the order of the POSTs."""
    journal = Journal(tmp_path)
    tag = journal.account_tag(b"k")
    for key in "cab":
        journal.reserve(key, tag)
        journal.submitting(key)
    again = Journal(tmp_path)
    assert again.account_tag(b"k") == tag
    assert again.account_tag(b"other") != tag
    assert [row.key for row in again.unsettled(tag)] == ["c", "a", "b"]
    again.accepted("a", "pred00000001")
    row = journal.find("a")
    assert row is not None
    assert row.state is State.ACCEPTED
    assert journal.is_known("pred00000001")
    assert not journal.is_known("pred00000002")


def test_signed_upload_addresses_are_not_kept(tmp_path: Path):
    """An address with a query is not written down."""
    journal = Journal(tmp_path)
    journal.note_upload("d", "a", "https://x.y/z?Signature=1", 60)
    assert journal.uploaded_url("d", "a", 60) is None
    journal.note_upload("d", "a", "https://x.y/z", 60)
    assert journal.uploaded_url("d", "a", 60) == "https://x.y/z"


def test_store_keeps_within_its_capacity(tmp_path: Path):
    """The least recently used results go first; the newest stays whatever its size."""
    now = [1_800_000_000.0]
    store = ResultStore(tmp_path, Clock(wall=lambda: now[0]), capacity=2500)
    facts = {"outputs": ["x"]}
    for place in range(3):
        now[0] += 10
        assert store.save(f"prediction{place}", [b"x" * 1000], facts)
        now[0] += 10
        store.load("prediction0")
    assert [bool(store.load(f"prediction{place}")[0]) for place in range(3)] == [True, False, True]
    store.save("prediction9", [b"x" * 9000], facts)
    assert store.load("prediction9")[0] == [b"x" * 9000]


def test_half_a_result_is_none(tmp_path: Path):
    """A result without all of its files is fetched again."""
    store = ResultStore(tmp_path)
    store.save("prediction", [b"a", b"b"], {"outputs": ["x", "y"]})
    (tmp_path / "prediction.1").unlink()
    assert store.load("prediction") == ([], {})


def test_a_job_that_is_not_on_record(tmp_path: Path):
    """A state that nothing takes is told."""
    with pytest.raises(JournalError, match="missing"):
        Journal(tmp_path).move("nobody", State.DELIVERED, "pred00000001")


def test_an_upload_is_used_for_a_while(tmp_path: Path):
    """Not before it was made, and not after its time."""
    now = [1e9]
    journal = Journal(tmp_path, Clock(wall=lambda: now[0]))
    assert journal.uploaded_url("digest", "account", 100) is None
    journal.note_upload("digest", "account", "https://host/photo.png", 100)
    assert journal.uploaded_url("digest", "account", 100) == "https://host/photo.png"
    assert journal.photo_at("https://host/photo.png", "account") == "digest"
    now[0] += 101
    assert journal.uploaded_url("digest", "account", 100) is None
    journal.note_upload("another", "account", "https://host/another.png", 100)
    assert journal.photo_at("https://host/photo.png", "account") == "digest"
