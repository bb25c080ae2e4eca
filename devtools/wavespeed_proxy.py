"""A CONNECT proxy with a certificate of its own, as companies put between their people and the world.

It ends the encryption of api.wavespeed.ai, hands what comes to a stand-in, and can lose answers.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import struct
import subprocess
import threading
from collections import deque
from pathlib import Path
from urllib.parse import urlsplit

HOST = "api.wavespeed.ai"


def make_certificate(folder: Path, host: str = HOST) -> Path:
    """A certificate that is its own authority, in a file with its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        raise RuntimeError("openssl makes the certificate of the proxy, and is not there")
    key, certificate, both = (folder / f"{name}.pem" for name in ("key", "authority", "both"))
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subject = ["-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *subject, *files], check=True, capture_output=True)
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    return both


class Proxy:
    """A context manager that serves from threads.

    Attributes:
        refusals: How many of the next CONNECTs are answered with 502.
        lost: Per coming request: the start of its line whose answer is lost, and "close" or "reset".
        connects: How many tunnels were asked for.
    """

    def __init__(self, target_url: str, certificate: Path):
        self.refusals = 0
        self.connects = 0
        self.lost: deque[tuple[str, str]] = deque()
        self._target = urlsplit(target_url)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate)
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # wakes who accepts
        self._server.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            self._open.append(client)
            asked = b""
            while b"\r\n\r\n" not in asked:
                piece = client.recv(4096)
                if not piece:
                    return
                asked += piece
            self.connects += 1
            if self.refusals:
                self.refusals -= 1
                client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
                return
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with (
                self._tls.wrap_socket(client, server_side=True) as tunnel,
                socket.create_connection(
                    (self._target.hostname or "", self._target.port or 80)
                ) as up,
            ):
                self._open += [tunnel, up]
                self._relay(tunnel, up)

    def _relay(self, tunnel: ssl.SSLSocket, up: socket.socket) -> None:
        """Hand requests on one after another, until an answer is to be lost."""
        while request := _message(tunnel):
            up.sendall(request.replace(b"Connection: keep-alive", b"Connection: close", 1))
            answer = b""
            while piece := up.recv(65536):
                answer += piece
            if self.lost and request.startswith(self.lost[0][0].encode()):
                _, how = self.lost.popleft()
                if how == "reset":
                    tunnel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            tunnel.sendall(answer)
            return


def _message(connection: socket.socket) -> bytes:
    """One request, whole; its length is announced."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    while len(body) < length:
        piece = connection.recv(65536)
        if not piece:
            return b""
        body += piece
    return head + b"\r\n\r\n" + body
