"""A stand-in of Hugging Face in a thread: answers, redirects and fails like the hub."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "5f1b" * 10


class Hub:
    """Serves files; `faults` says what goes wrong with one of them.

    gated: 401 with the hub's own code. denied: 403. gone: 404. broken: 500. cut: the answer ends in
    the middle, and none comes after it. slow: it does not end. wrong: other bytes of the same size.
    short: fewer bytes. no hub: answers without the hub's headers. huge: says that it is an exabyte.
    """

    def __init__(self, files: dict[str, bytes]):
        self.files = files
        self.faults: dict[str, str] = {}
        self.served: Counter[str] = Counter()
        """Bytes of each file sent."""
        self.asked: list[tuple[str, str]] = []
        """Method and path of each request."""
        self.etags: dict[str, str] = {}
        """In place of a file's SHA-256."""
        self.tokens: list[str] = []
        """What the hub itself was told of the user's token."""
        self.tokens_at_storage: list[str] = []
        """What the storage, another host than the hub, was told of the user's token."""

    def __enter__(self) -> Hub:
        self._server = ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Bound", (_Handler,), {"hub": self})
        )
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub = self.hub
        hub.asked.append((self.command, self.path))
        storage, _, rest = self.path.lstrip("/").partition("/")
        if storage == "storage":
            hub.tokens_at_storage += filter(None, [self.headers.get("Authorization")])
            self._send_file(rest, hub.files[rest])
            return
        hub.tokens += filter(None, [self.headers.get("Authorization")])
        name = self.path.lstrip("/").replace(f"/resolve/{COMMIT}/", "/resolve/main/")
        fault = hub.faults.get(name)
        refusals = {"gated": 401, "denied": 403, "gone": 404, "broken": 500}
        if name not in hub.files or fault in refusals:
            self.send_response(refusals.get(fault or "", 404))
            code = {"gated": "GatedRepo", "gone": "EntryNotFound"}.get(fault or "")
            self._end({"X-Error-Code": code} if code else {})
        else:
            self._redirect(name, hub.files[name], fault)

    def _redirect(self, name: str, content: bytes, fault: str | None) -> None:
        self.send_response(200 if fault == "no hub" else 302)
        if fault == "no hub":
            self._end({"Content-Type": "text/html"})
            return
        digest = hashlib.sha256(content).hexdigest()
        self._end(
            {
                "Location": f"http://localhost:{self.hub.port}/storage/{name}",
                "X-Repo-Commit": COMMIT,
                "X-Linked-Size": str(10**18 if fault == "huge" else len(content)),
                "X-Linked-Etag": f'"{self.hub.etags.get(name, digest)}"',
                "ETag": '"of the redirect"',
            }
        )

    def _send_file(self, name: str, content: bytes) -> None:
        fault = self.hub.faults.get(name)
        if fault == "wrong":
            content = content[::-1]
        elif fault == "short":
            content = content[:-1]
        wanted = self.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        rest = content[start:]
        if (fault == "cut" and start) or start >= len(content):
            self.send_response(503 if fault else 416)
            self._end({})
            return
        self.send_response(206 if wanted else 200)
        headers = {"Content-Length": str(len(rest)), "Accept-Ranges": "bytes"}
        if wanted:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._end(headers)
        if fault in ("cut", "slow"):
            rest = rest[: len(rest) // 2]
        self.hub.served[name] += len(rest)
        self.wfile.write(rest)
        if fault == "slow":
            self.wfile.flush()
            time.sleep(60)

    def _end(self, headers: dict[str, str]) -> None:
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", "0")
        self.end_headers()
