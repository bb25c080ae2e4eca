"""A server that can fail in every way, endpoint by endpoint.

    with Service() as service: ... service.url, service.fail("submit", "reset_after")

From another process: POST /_standin/fail {"endpoint": ..., "fault": ..., "times": n}.
"""

from __future__ import annotations

import asyncio
import json
import struct
import threading
import time
import zlib
from abc import ABC, abstractmethod
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from typing_extensions import Self

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Route = tuple[str, str, str, Handler]


@dataclass(frozen=True)
class Fault:
    """One way to fail one request.

    Attributes:
        action: "pass", "reply", "patch", "rewrite", "reset", "hang", "cut" or "drip".
        processed: Whether the request takes effect first.
        patch: Changes to the `data` of a processed answer.
        delay_s: Real seconds before the headers of the answer.
        ready: The headers wait until it says so.
    """

    action: str
    processed: bool = False
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    patch: dict[str, Any] = field(default_factory=dict)
    delay_s: float = 0.0
    ready: Callable[[], bool] = lambda: True


def status(code: int, message: str = "", *, processed: bool = False, **headers: str) -> Fault:
    body = json.dumps({"code": code, "message": message or f"status {code}"}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Fault("reply", processed, code, named, body)


def envelope(code: int, message: str = "", data: Any = None) -> Fault:
    body = json.dumps({"code": code, "message": message, "data": data}).encode()
    return Fault("reply", body=body)


def patch(**changes: Any) -> Fault:
    return Fault("patch", True, patch=changes)


def late(seconds: float) -> Fault:
    """A whole and honest answer whose headers take their time."""
    return Fault("pass", True, delay_s=seconds)


def held(ready: Callable[[], bool]) -> Fault:
    """A whole and honest answer that waits until something has happened."""
    return Fault("pass", True, ready=ready)


def accepted_but(code: int, **headers: str) -> Fault:
    """The request takes effect, and is answered with that status all the same, as it is."""
    return Fault("rewrite", True, code, headers)


def bomb_png(side: int = 9000) -> bytes:
    """A small file that says it has 81 million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * (side + 1) * side, 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


FAULTS: dict[str, Fault] = {
    "reset_before": Fault("reset"),
    "reset_after": Fault("reset", True),
    "hang_before": Fault("hang"),
    "hang_after": Fault("hang", True),
    "cut": Fault("cut", True),
    "drip": Fault("drip", True),
    "invalid_json": Fault("reply", True, body=b"<html>Bad gateway</html>"),
    "no_id": patch(id=None),
    "redirect_307": Fault("reply", status=307, headers={"Location": "/api/v3/elsewhere"}),
    "rate_limit": status(429, "Too many requests"),
    "rate_limit_7s": status(429, "Too many requests", Retry_After="7"),
    "408": status(408),
    "408_after": status(408, processed=True),
    "500": status(500),
    "500_after": status(500, processed=True),
    "502_after": status(502, processed=True),
    "503": status(503),
    "504_after": status(504, processed=True),
    "unauthorized": status(401, "invalid key"),
    "forbidden": status(403, "role lacks permission"),
    "no_credit": status(402, "insufficient credits"),
    "not_found": status(404, "not found"),
    "gone": status(410, "gone"),
    "unknown_state": patch(status="pondering"),
    "empty_outputs": patch(outputs=[]),
    "expired_url": status(403, "expired"),
    "wrong_magic": Fault("reply", body=b"MZ" + b"\0" * 5000),
    "oversize": Fault("reply", body=b"\x89PNG\r\n\x1a\n" + b"\0" * (33 * 1024 * 1024)),
    "to_loopback": Fault("reply", status=302, headers={"Location": "https://127.0.0.1/x.png"}),
    "to_metadata": Fault(
        "reply", status=302, headers={"Location": "https://169.254.169.254/latest/meta-data"}
    ),
    "to_plain_http": Fault("reply", status=302, headers={"Location": "http://example.com/x.png"}),
    "to_file": Fault("reply", status=302, headers={"Location": "file:///etc/passwd"}),
}


class FaultyServer(ABC):
    """Serves from a thread; a context manager.

    Attributes:
        hang_s: Real seconds until a hanging answer breaks off.
        requests: How many came, by endpoint.
        seen_headers: Of every request, with its endpoint.
        date: The header of that name.
    """

    on_wait: Callable[[], None] = staticmethod(lambda: None)
    """Called again and again while an answer keeps its client waiting: its clock may pass."""

    def __init__(self, port: int = 0, host: str = "127.0.0.1"):
        self.hang_s = 30.0
        self.requests: Counter[str] = Counter()
        self.seen_headers: list[tuple[str, dict[str, str]]] = []
        self.date: Callable[[], str | None] = lambda: None
        self.url = ""
        self._faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._host, self._port = host, port
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._ready = threading.Event()
        self._stop = asyncio.Event()

    @abstractmethod
    def routes(self) -> Sequence[Route]:
        """Every endpoint: method, path, name and handler."""

    @abstractmethod
    def is_authorised(self, endpoint: str, given: str) -> bool:
        """Whether a request with that Authorization header may pass."""

    def fail(self, endpoint: str, fault: str | Fault | None, times: int = 1) -> None:
        """Fail the next requests to an endpoint; None lets one pass."""
        chosen = FAULTS[fault] if isinstance(fault, str) else fault
        with self._lock:
            self._faults[endpoint].extend([chosen or Fault("pass", True)] * times)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the stand-in did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self.run())
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.close()

    async def run(self) -> None:
        """Serve until stopped."""
        runner = web.AppRunner(self._app(), shutdown_timeout=0.01, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, self._host, self._port)
        await site.start()
        port = runner.addresses[0][1]
        self.url = f"http://{self._host}:{port}"
        self._ready.set()
        await self._stop.wait()
        await asyncio.sleep(0.01)  # connections on their way in arrive, and can be closed
        await runner.cleanup()
        await asyncio.sleep(0.01)  # aborted connections are closed by the loop's next turns

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=300 * 1024 * 1024)
        for method, path, endpoint, handler in self.routes():
            app.router.add_route(method, path, self._faulty(endpoint, handler))
        app.router.add_route("POST", "/_standin/fail", self._fail)
        app.router.add_route("*", "/{rest:.*}", self._faulty("other", self._unknown))
        return app

    def _faulty(self, endpoint: str, handler: Handler) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            self.requests[endpoint] += 1
            self.seen_headers.append((endpoint, dict(request.headers)))
            if not self.is_authorised(endpoint, request.headers.get("Authorization", "")):
                return self.reply(401, "invalid key")
            with self._lock:
                queue = self._faults[endpoint]
                fault = queue.popleft() if queue else Fault("pass", True)
            reply = await handler(request) if fault.processed else web.Response()
            await asyncio.sleep(fault.delay_s)
            while not fault.ready():
                await asyncio.sleep(0.005)
            played = await self._play(fault, request, reply)
            date = self.date()
            if not played.prepared:
                played.headers.setdefault("Date", date or "")
            return played

        return handle

    async def _play(
        self, fault: Fault, request: web.Request, reply: web.StreamResponse
    ) -> web.StreamResponse:
        if fault.action == "pass":
            return reply
        if fault.action == "reply":
            return web.Response(status=fault.status, headers=fault.headers, body=fault.body)
        if fault.action == "patch" and isinstance(reply, web.Response):
            parsed = json.loads(reply.body)  # type: ignore[arg-type]
            parsed["data"] |= fault.patch
            return web.json_response(parsed, status=max(fault.status, reply.status))
        if fault.action == "rewrite" and isinstance(reply, web.Response):
            return web.Response(status=fault.status, headers=fault.headers, body=b"{}")
        if fault.action == "hang":
            await self._hang(request)
        if fault.action in ("cut", "drip"):
            return await self._badly(fault.action, request, reply)
        if request.transport:
            request.transport.abort()
        return web.Response()

    async def _hang(self, request: web.Request) -> None:
        end = time.monotonic() + self.hang_s
        while request.transport and not request.transport.is_closing() and time.monotonic() < end:
            self.on_wait()
            await asyncio.sleep(0.05)

    async def _badly(
        self, action: str, request: web.Request, reply: web.StreamResponse
    ) -> web.StreamResponse:
        """Send half of a body and hang up, or all of it a byte at a time."""
        body = bytes(getattr(reply, "body", b"") or b"")
        stream = web.StreamResponse(headers={"Content-Length": str(len(body))})
        await stream.prepare(request)
        if action == "cut":
            await stream.write(body[: len(body) // 2])
            if request.transport:
                request.transport.close()
            return stream
        for position in range(len(body)):
            if request.transport is None or request.transport.is_closing():
                break
            self.on_wait()
            await stream.write(body[position : position + 1])
            await asyncio.sleep(0.02)
        return stream

    @staticmethod
    def reply(code: int, message: str, data: Any = None, **headers: str) -> web.Response:
        """An answer as the service words it; its HTTP status and its code are the same."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.json_response(
            {"code": code, "message": message, "data": data}, status=code, headers=named
        )

    async def _unknown(self, request: web.Request) -> web.Response:
        return self.reply(404, "no such model or path")

    async def _fail(self, request: web.Request) -> web.Response:
        order = await request.json()
        self.fail(order["endpoint"], order["fault"], int(order.get("times", 1)))
        return web.json_response({})
