"""Behind a CONNECT proxy with its own certificate: whether a request was sent is seen, not guessed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pulid_pack.pulid_core.wavespeed import WavespeedClient
from pulid_pack.pulid_core.wavespeed.errors import Billed, RemoteUnavailable
from wavespeed_proxy import HOST, Proxy, make_certificate
from wavespeed_standin import Standin
from wavespeed_testing import client_for, request, trusting

SUBMIT = "POST /api/v3/wavespeed-ai/flux-pulid"
RESULT = "GET /api/v3/predictions/"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def proxy(service: Standin, certificate: Path, monkeypatch) -> Iterator[Proxy]:
    with Proxy(service.url, certificate) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.with_name("authority.pem")))
        yield proxy


@pytest.fixture
def client(service: Standin, proxy: Proxy, tmp_path: Path) -> WavespeedClient:
    return client_for(f"https://{HOST}", tmp_path / "state", transport=trusting(service.url))


def books(service: Standin) -> tuple[int, int, int]:
    return service.paid, service.images_delivered, service.requests["submit"]


def test_through_it(client: WavespeedClient, proxy: Proxy, service: Standin):
    """A picture comes through the tunnel."""
    assert client.run(request()).metadata[0]["source"] == "new"
    assert proxy.connects > 0
    assert books(service) == (1, 1, 1)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_lost_answer(how: str, client: WavespeedClient, proxy: Proxy, service: Standin):
    """A prediction whose answer the proxy lost is found, and never ordered again."""
    proxy.lost.append((SUBMIT, how))
    for _ in range(2):
        assert len(client.run(request()).images) == 1
    assert books(service) == (1, 1, 1)
    assert service.requests["list"] == 1


@pytest.mark.parametrize("how", ["close", "reset"])
def test_lost_poll(how: str, client: WavespeedClient, proxy: Proxy, service: Standin):
    """A look whose answer was lost is repeated like any other."""
    proxy.lost.extend([(RESULT, how)] * 3)
    assert client.run(request()).metadata[0]["source"] == "new"
    assert service.requests["result"] == 4


def test_refused_tunnel(client: WavespeedClient, proxy: Proxy, service: Standin):
    """Before the tunnel stands nothing was sent: it is tried again, without a look at the list."""
    client.run(request(seed=1))
    before = proxy.connects
    client.journal.note_fact("price x", 1)
    proxy.refusals = 2
    client.run(request(seed=2))
    assert proxy.connects >= before + 3
    assert service.requests["list"] == 0
    assert books(service) == (2, 2, 2)


def test_tunnel_that_stays_refused(client: WavespeedClient, proxy: Proxy, service: Standin):
    """It ends in one sentence that says that nothing was ordered."""
    client.run(request(seed=1))
    proxy.refusals = 99
    with pytest.raises(RemoteUnavailable, match="the proxy refused") as caught:
        client.run(request(seed=2))
    assert caught.value.billed is Billed.NO
    assert books(service) == (1, 1, 1)


@pytest.mark.parametrize(
    "host", ["127.1", "10.1", "0x7f.0.0.1", "0177.0.0.1", "127.0.0.1.", "router.lan"]
)
def test_private_names_never_reach_it(
    host: str, client: WavespeedClient, proxy: Proxy, service: Standin
):
    """A name that the proxy would resolve inside is refused before it hears of it."""
    service.url = f"https://{host}"
    with pytest.raises(Exception, match="Refused"):
        client.run(request())
    connects = proxy.connects
    assert service.requests["submit"] == 0
    assert connects <= 2  # the price and the upload, whose answer named the host
