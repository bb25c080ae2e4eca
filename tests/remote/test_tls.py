"""The checks hold over real TLS too, and a bad certificate means that nothing was sent."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from pulid_pack.pulid_core.paid_jobs.transport import Limits, Sent, TransportError
from wavespeed_testing import trusting

QUICK = Limits(connect_s=2, read_s=2, total_s=2)


class Answering(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    openssl = shutil.which("openssl")
    if not openssl:
        pytest.skip("openssl makes the certificate")
    path = tmp_path / "both.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(path), "-out", str(tmp_path / "certificate.pem")]
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subprocess.run([*command, *subject, *files], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + (tmp_path / "certificate.pem").read_bytes())
    return path


@pytest.fixture
def url(certificate: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_valid_certificate(url: str, certificate: Path, monkeypatch):
    """A certificate that the machine trusts lets the request through."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.parent / "certificate.pem"))
    transport = trusting(url)
    assert transport.send("GET", f"{url}/x", limits=QUICK).json() == {}


def test_invalid_certificate(url: str):
    """A certificate that it does not trust ends the request before it is sent."""
    with pytest.raises(TransportError) as caught:
        trusting(url).send("GET", f"{url}/x", limits=QUICK)
    assert caught.value.sent is Sent.NEVER_WILL
