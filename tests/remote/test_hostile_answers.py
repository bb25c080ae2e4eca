"""Whatever a server answers: bounded memory, one sentence of ours, nothing of theirs on the screen."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from pulid_pack.pulid_core.errors import PulidError
from pulid_pack.pulid_core.paid_jobs.exchange import Limits
from pulid_pack.pulid_core.paid_jobs.transport import Sent, TransportError
from pulid_pack.pulid_core.wavespeed import AddressPolicy, WavespeedClient
from pulid_pack.pulid_core.wavespeed.errors import RemoteImageError, UnsafeAddressError
from pulid_pack.tests.remote.scripted_server import ScriptedServer
from wavespeed_faults import Fault, bomb_png, patch, status
from wavespeed_standin import Standin
from wavespeed_testing import KEY, client_for, request, trusting

QUICK = Limits(connect_s=2, read_s=2, total_s=2)


def raw(head: str, body: bytes = b"{}") -> bytes:
    return f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode("latin-1") + body


BOMB = gzip.compress(gzip.compress(b"\0" * 100_000_000))
ANSWERS = {
    "compressed twice": raw(f"Content-Encoding: gzip, gzip\r\nContent-Length: {len(BOMB)}", BOMB),
    "compressed": raw("Content-Encoding: br\r\nContent-Length: 2"),
    "a length of 5000 digits": raw("Content-Length: " + "9" * 5000),
    "a length of superscripts": raw("Content-Length: \xb2"),
    "two lengths": raw("Content-Length: 2\r\nContent-Length: 3"),
    "a chunk of no number": raw("Transfer-Encoding: chunked", b"zz\r\n{}\r\n0\r\n\r\n"),
    "a chunk of many digits": raw("Transfer-Encoding: chunked", b"f" * 9000 + b"\r\n"),
    "many headers": raw("\r\n".join(f"X-{number}: 1" for number in range(300))),
    "a long header": raw("X-Long: " + "x" * 100_000),
    "no HTTP": b"SSH-2.0-OpenSSH\r\n",
    "nothing": b"",
    "a status of letters": b"HTTP/1.1 abc OK\r\n\r\n",
    "infinite": raw("Connection: close", b"x" * 3_000_000),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_or_one_error(name: str):
    """Within the memory of a small answer; whether it was sent is known."""

    def script():
        yield ANSWERS[name]
        raise OSError

    tracemalloc.start()
    with ScriptedServer(script) as server:
        transport = trusting(server.url)
        error = error_of(
            lambda: transport.send("POST", f"{server.url}/x", limits=QUICK, fresh=True)
        )
    assert error is None or (isinstance(error, TransportError) and error.sent is Sent.MAYBE)
    assert len(str(error)) < 60
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 12_000_000


GARBAGE = [
    status(200, Location="https://[bad/x"),
    Fault("reply", status=302, headers={"Location": "https://[bad/x"}),
    Fault("reply", headers={"Date": "Mon, 01 Jan 2024 00:00:00 +99999999999999999999"}),
    Fault("reply", headers={"Retry-After": "9" * 400}, status=429),
    Fault("reply", headers={"Retry-After": "²"}, status=429),
    Fault("reply", body=b"[" * 100_000),
    Fault("reply", body=json.dumps({"code": 10**400, "data": {"code": 10**400}}).encode()),
    patch(code=10**400, status="failed", error="x"),
    patch(timings={"inference": 10**400}, outputs={"a": 1}),
    patch(outputs=["http://[bad", "\ud800", 7, None], status="completed"),
    patch(created_at="9999-12-31T23:59:59-12:00", has_nsfw_contents=[{}, []]),
    patch(urls={"get": 5, "\x1b[31m": "\x00" * 999}, model=7, error=["x"], inputs=[1]),
]


ENDPOINTS = ("submit", "result", "list", "file", "upload", "price", "balance")
PLACES = [(ENDPOINTS[(n + k) % 7], n) for n in range(len(GARBAGE)) for k in range(3)]


@pytest.mark.parametrize(("endpoint", "number"), PLACES)
def test_a_run_ends_in_a_picture_or_one_sentence(endpoint, number, client, service: Standin):
    """Wherever the garbage comes; the next run is paid at most once more."""
    fault = GARBAGE[number]
    if fault.action == "patch" and endpoint == "file":
        fault = Fault("reply", body=json.dumps(fault.patch).encode())
    if endpoint == "list":
        service.fail("submit", "500_after")
    service.fail(endpoint, fault, times=30)
    error = error_of(lambda: client.run(request(max_wait_s=30)))
    assert error is None or isinstance(error, PulidError)
    assert len(str(error)) < 900
    assert str(error).isprintable()
    service._faults.clear()
    client.run(request(max_wait_s=30))
    # Only the task's own word that it failed lets a run order another one.
    has_failed = endpoint == "result" and fault.patch.get("status") == "failed"
    assert service.paid <= 1 + (endpoint == "submit" or has_failed)


def error_of(call: Callable[[], object]) -> Exception | None:
    try:
        call()
    except (PulidError, TransportError) as error:
        return error
    return None


def test_ticket_with_a_header_that_cannot_be_sent(tmp_path: Path):
    """An upload ticket with a euro sign is one sentence, and nothing is ordered."""
    with Standin(binary_upload=False) as service:
        service.fail(
            "ticket", patch(upload={"url": f"{service.url}/bucket/x", "headers": {"X": "€"}}), 9
        )
        with pytest.raises(PulidError, match="Cannot reach WaveSpeed"):
            client_for(service.url, tmp_path).run(request())
        assert service.paid == 0


@pytest.mark.parametrize("many", [12, 20_000])
def test_outputs_are_limited_in_number(many: int, client: WavespeedClient, service: Standin):
    """Eight are fetched, with a warning; nobody downloads twenty thousand."""
    service.generation_s = 0
    describe = service._describe

    def lying(job, **options):
        data = describe(job, **options)
        return data | {"outputs": data["outputs"] * many}

    service._describe = lying  # type: ignore[method-assign]
    batch = client.run(request())
    assert len(batch.images) == service.requests["file"] == 8
    assert any("further images" in warning for warning in batch.metadata[0]["warnings"])


def test_outputs_are_limited_in_pixels(client: WavespeedClient, service: Standin):
    """Together, from their headers, before any pixel is decoded."""
    service.fail("file", Fault("reply", body=bomb_png(3000)), times=9)
    describe = service._describe
    service._describe = lambda job, **options: (  # type: ignore[method-assign]
        (data := describe(job, **options)) | {"outputs": data["outputs"] * 8}
    )
    with pytest.raises(RemoteImageError, match="in all"):
        client.run(request())
    assert service.requests["file"] == 2


@pytest.mark.parametrize(
    "url",
    [
        *(
            f"https://{host}/x"
            for host in ("127.1", "10.1", "0x7f.0.0.1", "0177.0.0.1", "2130706433")
        ),
        *(
            f"https://{host}/x"
            for host in ("127.0.0.1.", "router.lan", "nas.home", "a.localdomain")
        ),
        *(
            f"https://{host}/x"
            for host in ("metadata.google.internal.", "printer.", "x.LAN", "0x7f000001")
        ),
        *(f"https://[{ip}]/x" for ip in ("64:ff9b::10.0.0.1", "::127.0.0.1", "::ffff:0:127.0.0.1")),
        *(
            f"https://[{ip}]/x"
            for ip in ("64:ff9b::7f00:1", "2002:0a00:0001::", "::ffff:169.254.169.254")
        ),
        *(f"https://[{ip}]/x" for ip in ("64:ff9b:1::a00:1", "fe80::1", "ff02::1")),
    ],
)
def test_private_addresses_however_they_are_written(url: str):
    """Numbers as resolvers read them, names of home networks, IPv4 inside of IPv6."""
    with pytest.raises(UnsafeAddressError):
        AddressPolicy().check_url(url)


@pytest.mark.parametrize(
    "url",
    ["https://[64:ff9b::8.8.8.8]/x", "https://[2606:4700::1111]/x", "https://d1.cloudfront.net/x"],
)
def test_public_addresses(url: str):
    """NAT64 leads to the public internet, too."""
    AddressPolicy().check_url(url)


ODD = f"odd\n\x1b[31m{KEY} prompt-canary in the rain [[click|https://evil.example]] " + "x" * 400


def test_foreign_words_are_cleaned_and_cut(client: WavespeedClient, service: Standin):
    """State, addresses, model, dates: on the screen, in metadata, in files."""
    service.fail("result", patch(status=ODD), times=2)
    service.fail(
        "result",
        patch(
            status="completed",
            model=ODD,
            created_at=ODD,
            error=ODD,
            urls={ODD: f"https://x.example/{ODD}"},
            outputs=[f"{service.url}/cdn/pred00000001.png?Signature=signature-canary-5f1b"],
        ),
    )
    texts: list[str] = []
    batch = client.run(request(), progress=lambda progress: texts.append(progress.line))
    assert max(map(len, texts)) < 120
    kept = b"".join(path.read_bytes() for path in client.store.folder.glob("*.json")).decode()
    for text in (*texts, json.dumps(batch.metadata), kept):
        for secret in (KEY, "prompt-canary", "\x1b", "\\u001b", "\n"):
            assert secret not in text
    assert max(len(value) for value in batch.metadata[0]["urls"].values()) <= 300


@pytest.mark.parametrize("prompt", ["a", "2", "20", "T0", "-"])
def test_a_short_prompt_eats_no_dates(prompt: str, client: WavespeedClient):
    """What a picture's record says stays readable."""
    facts = client.run(request(prompts=[prompt])).metadata[0]
    assert facts["url_expires"]
    assert "[prompt]" not in json.dumps(facts)


def test_results_that_hold_garbage(client: WavespeedClient, service: Standin):
    """A kept result with wrong types is fetched anew."""
    client.run(request())
    (path,) = client.store.folder.glob("*.json")
    for content in (
        '{"outputs": ["x"], "id": 5}',
        '{"outputs": {}}',
        "[]",
        '{"outputs": ["x"]}',
        "[" * 9999,
    ):
        path.write_text(content)
        assert client.run(request()).metadata[0]["source"] in ("resumed", "cache")
    assert service.paid == 1
