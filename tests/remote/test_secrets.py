"""The key, prompts and signatures stay out of every text that this machine writes or shows."""

from __future__ import annotations

import logging
import os
import pickle
import traceback
from pathlib import Path

import pytest
from pulid_pack.pulid_core.errors import PulidError
from pulid_pack.pulid_core.wavespeed import WavespeedClient
from pulid_pack.pulid_core.wavespeed.credentials import ApiKey, clean_message, find_key
from pulid_pack.pulid_core.wavespeed.errors import RemoteAuthError
from wavespeed_faults import envelope, patch, status
from wavespeed_standin import SIGNATURE, Standin
from wavespeed_testing import KEY, client_for, request

PROMPT = "prompt-canary"
ECHO = f"Bearer {KEY} key={KEY} {PROMPT} in the rain https://cdn.example/x?Signature={SIGNATURE}"

FAULTS = [
    ("submit", status(400, ECHO)),
    ("submit", status(403, ECHO)),
    ("submit", envelope(1200, ECHO)),
    ("submit", "500"),
    ("submit", "hang_after"),
    ("submit", "reset_after"),
    ("submit", "rate_limit"),
    ("upload", status(400, ECHO)),
    ("upload", "reset_before"),
    ("result", status(403, ECHO)),
    ("result", "invalid_json"),
    ("file", "expired_url"),
    ("file", "to_loopback"),
    ("file", "wrong_magic"),
    ("list", "503"),
]


def written(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(("endpoint", "fault"), FAULTS)
def test_canaries(endpoint: str, fault, service: Standin, tmp_path: Path, caplog):
    """A run with every kind of failure, at the most talkative log level."""
    caplog.set_level(logging.DEBUG)
    client = client_for(service.url, tmp_path / "state")
    service.fail(endpoint, fault, times=6)
    texts = []
    try:
        batch = client.run(request(num_images=2, on_partial_failure="keep_successful"))
        texts += [repr(batch), str(batch.metadata), str(batch.failures)]
    except PulidError as error:
        texts += [str(error), repr(error), repr(vars(error)), traceback.format_exc()]
    texts += [caplog.text, repr(client), repr(vars(client))]
    seen = "\n".join(texts)
    files = written(tmp_path)
    for secret in (KEY, PROMPT, SIGNATURE):
        assert secret not in seen
        assert secret.encode() not in files


def test_ended_task_words_are_cleaned(client: WavespeedClient, service: Standin):
    """What a failed task says is shown without secrets."""
    service.fail_next_prediction("failed", 5000, ECHO)
    with pytest.raises(PulidError) as caught:
        client.run(request())
    for secret in (KEY, SIGNATURE, PROMPT):
        assert secret not in str(caught.value)


def test_the_photos_address_is_not_repeated(client: WavespeedClient, service: Standin):
    """Whoever has it can see the photo: not in an error, nor in metadata that is shared."""
    client.run(request())
    (photo,) = service.uploads
    words = f"cannot read {service.url}/uploads/{photo}"
    service.fail("submit", status(400, words))
    service.fail("result", patch(status="failed", error=words))
    for seed in (8, 9):
        with pytest.raises(PulidError, match="cannot read http") as caught:
            client.run(request(seed=seed))
        assert photo not in str(caught.value)
    told = patch(
        error=words, model=words, created_at=words, urls={words: words, "get": "http://a/b"}
    )
    service.fail("result", told)
    facts = client.run(request(seed=10)).metadata[0]
    assert photo not in str(facts)
    assert facts["urls"]["get"] == "http://a/b"
    assert "/cdn/" in facts["url"]


def test_files_are_for_the_owner(client: WavespeedClient):
    """Journal and results are readable by their owner only."""
    client.run(request())
    assert (client.state_dir.stat().st_mode & 0o077) == 0
    for path in client.state_dir.rglob("*"):
        if path.suffix != ".lock":
            assert path.stat().st_mode & 0o077 == 0, path


def test_netrc_cannot_replace_the_key(
    client: WavespeedClient, service: Standin, tmp_path, monkeypatch
):
    """A password for the host in ~/.netrc is neither used for the service nor for its files."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password netrc-canary\n")
    monkeypatch.setenv("NETRC", str(netrc))
    client.run(request())
    for endpoint, headers in service.seen_headers:
        expected = f"Bearer {KEY}" if endpoint != "file" else None
        assert headers.get("Authorization") == expected, endpoint


def test_key_lookup(tmp_path: Path, caplog):
    """The environment first, then the file; a file that others can read is warned about."""
    with pytest.raises(RemoteAuthError, match="WAVESPEED_API_KEY"):
        find_key(tmp_path, {})
    path = tmp_path / "api_key"
    path.write_text(' "Bearer from-file"\n')
    path.chmod(0o600)
    assert find_key(tmp_path, {}).to_bytes() == b"from-file"
    assert not caplog.records
    if os.name == "posix":
        path.chmod(0o644)
        find_key(tmp_path, {})
        assert "chmod 600" in caplog.text
    assert find_key(tmp_path, {"WAVESPEED_API_KEY": "from-env"}).to_bytes() == b"from-env"


def test_what_is_no_key_file(tmp_path: Path):
    """A pipe, which would never end, and what is too long for a key are not read."""
    path = tmp_path / "api_key"
    path.write_text("k" * 20_000)
    with pytest.raises(RemoteAuthError, match="No WaveSpeed API key"):
        find_key(tmp_path, {})
    if hasattr(os, "mkfifo"):
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(RemoteAuthError, match="No WaveSpeed API key"):
            find_key(tmp_path, {})


def test_key_files_of_windows(tmp_path: Path):
    """Notepad's UTF-8 may begin with a mark; what PowerShell's > writes is told, without the key."""
    path = tmp_path / "api_key"
    path.write_text("file-canary\r\n", encoding="utf-8-sig")
    path.chmod(0o600)
    assert find_key(tmp_path, {}).to_bytes() == b"file-canary"
    path.write_text("file-canary\r\n", encoding="utf-16")
    with pytest.raises(RemoteAuthError, match="again as UTF-8") as caught:
        find_key(tmp_path, {})
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "text", ["", "  ", "a b", "käse-canary", "canary\r\nX-Evil: 1", "ca\0nary"]
)
def test_malformed_keys(text: str):
    """A key that would break a header is refused, without showing it."""
    with pytest.raises(RemoteAuthError) as caught:
        ApiKey(text)
    assert "canary" not in str(caught.value)


def test_key_object_is_opaque():
    """It has no text form and is not pickled."""
    key = ApiKey(KEY)
    assert KEY not in f"{key!r} {key}"
    with pytest.raises(TypeError):
        pickle.dumps(key)


def test_clean_message():
    """Control characters, tokens and URL queries go; the length is bounded."""
    text = clean_message("a\x1b[31m\r\nbearer tok-1 https://x.y/z?sig=2 " + "x" * 999)
    assert len(text) == 300
    assert not {"tok-1", "sig=2", "\x1b", "\n"} & {part for part in text.split() if part}
    assert "tok-1" not in text
    assert "sig" not in text
