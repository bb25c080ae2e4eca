"""Which addresses are spoken to, and what is believed of what comes back."""

from __future__ import annotations

import socket

import pytest
from pulid_pack.pulid_core.paid_jobs.transport import Limits, Sent, TransportError
from pulid_pack.pulid_core.wavespeed import AddressPolicy, Transport
from pulid_pack.pulid_core.wavespeed.credentials import ApiKey
from pulid_pack.pulid_core.wavespeed.errors import UnsafeAddressError
from wavespeed_faults import Fault
from wavespeed_standin import Standin
from wavespeed_testing import trusting

QUICK = Limits(connect_s=1, read_s=0.4, total_s=1)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/x",
        "https://example.com:8443/x",
        "https://user@example.com/x",
        "https://user:word@example.com/x",
        "https://example.com/x#fragment",
        "https://localhost/x",
        "https://router/x",
        "https://nas.local/x",
        "https://metadata.google.internal/x",
        "https://127.0.0.1/x",
        "https://[::1]/x",
        "https://[::ffff:10.0.0.1]/x",
        "https://10.1.2.3/x",
        "https://169.254.169.254/latest",
        "https://100.64.0.1/x",
        "https://[fd00::1]/x",
        "https://0.0.0.0/x",
        "https://example.com\\@127.0.0.1/x",
        "ftp://example.com/x",
        "file:///etc/passwd",
        "data:text/plain,x",
        "https://",
        "https://example.com:port/x",
        "//example.com/x",
    ],
)
def test_refused_addresses(url: str):
    """Only https, the usual port, and names or numbers that can be public."""
    with pytest.raises(UnsafeAddressError):
        AddressPolicy().check_url(url)


@pytest.mark.parametrize("url", ["https://cdn.wavespeed.ai/x.png?Signature=1", "https://1.1.1.1/x"])
def test_allowed_addresses(url: str):
    """Public hosts over https."""
    AddressPolicy().check_url(url)


def test_trust_is_for_one_origin():
    """Trusting a local service does not open its neighbours."""
    policy = AddressPolicy(frozenset({"http://127.0.0.1:8188"}))
    policy.check_url("http://127.0.0.1:8188/x")
    for url in ("http://127.0.0.1:8189/x", "https://127.0.0.1/x", "http://127.0.0.1:81880/x"):
        with pytest.raises(UnsafeAddressError):
            policy.check_url(url)


@pytest.mark.parametrize("ip", ["127.0.0.1", "169.254.169.254", "10.0.0.7", "::1"])
def test_name_that_resolves_inside(ip: str, monkeypatch):
    """A public name with a private address is refused before a byte is sent."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    answer = [(family, socket.SOCK_STREAM, 6, "", (ip, 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("it connected"))
    with pytest.raises(UnsafeAddressError):
        Transport().send("GET", "https://example.com/x", limits=QUICK)


def test_name_that_is_rebound(monkeypatch):
    """A name is asked for once: what is connected to is the address that was checked."""
    with Standin() as service:
        port = int(service.url.rsplit(":", 1)[1])
        resolve, calls = socket.getaddrinfo, []

        def rebinding(host, *arguments, **options):
            calls.append(host)
            ip = "93.184.216.34" if len(calls) == 1 else "127.0.0.1"
            return resolve(ip, port, type=socket.SOCK_STREAM)

        monkeypatch.setattr(socket, "getaddrinfo", rebinding)
        with pytest.raises(TransportError) as caught:
            Transport().send("GET", "https://example.com/x", limits=QUICK)
        assert caught.value.sent is Sent.NO
        assert len(calls) == 1
        assert not service.requests


def test_redirects_are_not_followed_by_themselves():
    """A redirect is a reply; its body is bounded like any other."""
    with Standin() as service:
        service.fail("balance", Fault("reply", status=302, headers={"Location": "/x"}))
        transport = trusting(service.url)
        reply = transport.send(
            "GET", f"{service.url}/api/v3/balance", limits=QUICK, auth=ApiKey("k")
        )
        assert reply.status == 302
        assert sum(service.requests.values()) == 1


def test_proxy_that_refuses_is_not_sent(monkeypatch):
    """A proxy that cannot be reached means that nothing left."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with pytest.raises(TransportError) as caught:
        Transport().send("GET", "https://example.com/x", limits=QUICK)
    assert caught.value.sent is Sent.NO
