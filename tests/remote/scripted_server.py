"""A server of plain sockets that answers byte for byte what a test wants."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable

Part = bytes | Callable[[], object]
Script = Callable[[], Iterable[Part]]
PAUSE_S = 0.01


class ScriptedServer:
    """Plays a script to every request: pieces of bytes, and conditions it waits for between them."""

    def __init__(self, script: Script):
        self.connections = 0
        self.requests = 0
        self._script = script
        self._server = socket.create_server(("127.0.0.1", 0))
        self._over = threading.Event()
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"

    def __enter__(self) -> ScriptedServer:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # wakes who accepts
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            while b"\r\n\r\n" in client.recv(65536):
                self.requests += 1
                for part in self._script():
                    if isinstance(part, bytes):
                        client.sendall(part)
                        continue
                    while not part():
                        if self._over.wait(PAUSE_S):
                            return
