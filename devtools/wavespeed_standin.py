"""A local stand-in for WaveSpeed's API v3, able to fail in every way the real one can.

By hand:      python devtools/wavespeed_standin.py --port 8188
In a test:    with Standin() as service: ... service.url, service.fail("submit", "reset_after")

It keeps its own books: `paid` predictions, `delivered` files, requests by endpoint. Control from
another process: GET /_standin/books, POST /_standin/fail {"endpoint": ..., "fault": ..., "times": n}.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import io
import itertools
import json
import struct
import threading
import time
import zlib
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import formatdate
from pathlib import Path
from typing import Any

from aiohttp import web
from PIL import Image

MODEL = "wavespeed-ai/flux-pulid"
PRICE_USD = 0.02
SIGNATURE = "signature-canary-5f1b"
KEPT_S = 7 * 24 * 3600
COMFY_PACK = Path(__file__).with_name("pack_wavespeed_standin")
"""Beside the pack in ComfyUI's custom_nodes, it turns the remote nodes to a stand-in."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


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


@dataclass
class Job:
    """A prediction as the service keeps it."""

    id: str
    inputs: dict[str, Any]
    created_s: float
    failure: tuple[str, int, str] | None = None
    """Final state, code and message of a prediction that will not complete."""


class Standin:
    """The service and its books; a context manager that serves from a thread.

    Args:
        now: Its clock, seconds since 1970.
        key: The only key it takes; None takes any.
        images_per_min: Answer 429 beyond that; None never does.
        list_inputs: Tell in the list what each prediction was asked for; the documents do not.
    """

    on_wait: Callable[[], None] = staticmethod(lambda: None)
    """Called again and again while an answer keeps its client waiting: its clock may pass."""

    def __init__(
        self,
        *,
        now: Callable[[], float] = time.time,
        key: str | None = None,
        images_per_min: int | None = None,
        generation_s: float = 0.0,
        list_inputs: bool = False,
        binary_upload: bool = True,
        balance_usd: float = 100.0,
        sync_wait_s: float = 1.0,
        port: int = 0,
        host: str = "127.0.0.1",
    ):
        self.key = key
        self.generation_s = generation_s
        self.images_per_min = images_per_min
        self.list_inputs = list_inputs
        self.binary_upload = binary_upload
        self.balance_usd = balance_usd
        self.sync_wait_s = sync_wait_s
        self.hang_s = 30.0
        self.jobs: dict[str, Job] = {}
        self.uploads: dict[str, bytes] = {}
        self.requests: Counter[str] = Counter()
        self.delivered: Counter[str] = Counter()
        self.seen_headers: list[tuple[str, dict[str, str]]] = []
        self.failures: deque[tuple[str, int, str]] = deque()
        self.prices_usd: dict[str, float] = {}
        self.refunds_failed = True
        self.date: Callable[[], str | None] = lambda: formatdate(self._now(), usegmt=True)
        self.rewrite_inputs: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda inputs: (
            inputs
        )
        self.url = ""
        self._now = now
        self._faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._window: deque[float] = deque()
        self._ids = itertools.count(1)
        self._host, self._port = host, port
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._ready = threading.Event()
        self._stop = asyncio.Event()

    # The books

    @property
    def paid(self) -> int:
        """Predictions that were created and not refunded."""
        return sum(1 for job in self.jobs.values() if job.failure is None)

    @property
    def paid_twice(self) -> int:
        """Predictions beyond the first for the same inputs."""
        inputs = (json.dumps(job.inputs, sort_keys=True) for job in self.jobs.values())
        return sum(count - 1 for count in Counter(inputs).values())

    @property
    def images_delivered(self) -> int:
        """Different predictions whose file was sent whole at least once."""
        return len(self.delivered)

    def fail(self, endpoint: str, fault: str | Fault | None, times: int = 1) -> None:
        """Fail the next requests to an endpoint; None lets one pass."""
        chosen = FAULTS[fault] if isinstance(fault, str) else fault
        with self._lock:
            self._faults[endpoint].extend([chosen or Fault("pass", True)] * times)

    def environment(self) -> dict[str, str]:
        """What a ComfyUI with COMFY_PACK needs; a key of the user's own does not reach it."""
        return {
            "WAVESPEED_STANDIN_URL": self.url,
            "WAVESPEED_API_KEY": self.key or "",
            "WAVESPEED_IMAGES_PER_MIN": "1000",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def fail_next_prediction(self, state: str, code: int, message: str) -> None:
        """Let the next prediction end without an image."""
        self.failures.append((state, code, message))

    # Serving

    def __enter__(self) -> Standin:
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
        api = "/api/v3"
        routes: list[tuple[str, str, str, Handler]] = [
            ("POST", f"{api}/{MODEL}", "submit", self._submit),
            ("GET", f"{api}/predictions/{{id}}/result", "result", self._result),
            ("POST", f"{api}/predictions", "list", self._list),
            ("POST", f"{api}/media/upload/binary", "upload", self._upload),
            ("POST", f"{api}/media/uploads", "ticket", self._ticket),
            ("PUT", "/bucket/{name}", "put", self._put),
            ("GET", f"{api}/balance", "balance", self._balance),
            ("DELETE", f"{api}/predictions/{{id}}", "cancel", self._cancel),
            ("POST", f"{api}/billings/search", "billings", self._billings),
            ("POST", f"{api}/model/price", "price", self._price),
            ("GET", "/cdn/{name}", "file", self._file),
            ("GET", "/uploads/{name}", "photo", self._photo),
            ("GET", "/_standin/books", "", self._books),
            ("POST", "/_standin/fail", "", self._fail),
        ]
        for method, path, endpoint, handler in routes:
            app.router.add_route(method, path, self._faulty(endpoint, handler))
        app.router.add_route("*", "/{rest:.*}", self._faulty("other", self._unknown))
        return app

    def _faulty(self, endpoint: str, handler: Handler) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            self.requests[endpoint] += 1
            self.seen_headers.append((endpoint, dict(request.headers)))
            if endpoint not in ("", "file", "photo", "put") and not self._authorised(request):
                return self._reply(401, "invalid key")
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

    def _authorised(self, request: web.Request) -> bool:
        given = request.headers.get("Authorization", "")
        return given == f"Bearer {self.key}" if self.key else given.startswith("Bearer ")

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
    def _reply(code: int, message: str, data: Any = None, **headers: str) -> web.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.json_response(
            {"code": code, "message": message, "data": data}, status=code, headers=named
        )

    # The endpoints

    async def _unknown(self, request: web.Request) -> web.Response:
        return self._reply(404, "no such model or path")

    async def _submit(self, request: web.Request) -> web.Response:
        inputs = await request.json()
        refusal = self._refusal(inputs)
        if refusal:
            return refusal
        job = Job(f"pred{next(self._ids):08d}", inputs, self._now())
        if self.failures:
            job.failure = self.failures.popleft()
        elif inputs["image"].rsplit("/", 1)[-1] not in self.uploads:
            job.failure = ("failed", 1402, "media not reachable")
        if job.failure is None:
            self.balance_usd -= self._price_usd(inputs)
        self.jobs[job.id] = job
        if not inputs.get("enable_sync_mode"):
            return self._reply(200, "success", self._describe(job, created=True))
        end = time.monotonic() + self.sync_wait_s
        while self._state(job) != "completed":
            if time.monotonic() > end:
                data = self._describe(job) | {"code": 5004, "error": "Sync mode timed out."}
                return self._reply(200, "success", data)
            await asyncio.sleep(0.02)
        return self._reply(200, "success", self._describe(job))

    def _refusal(self, inputs: dict[str, Any]) -> web.Response | None:
        sides = str(inputs.get("size", "1024*1024")).split("*")
        if not inputs.get("prompt") or not inputs.get("image"):
            return self._reply(400, "prompt and image are required")
        if len(sides) != 2 or not all(s.isdigit() and 256 <= int(s) <= 1536 for s in sides):
            return self._reply(400, "size out of range")
        if self.balance_usd < PRICE_USD:
            return self._reply(402, "insufficient credits")
        if self.images_per_min is not None:
            now = self._now()
            while self._window and self._window[0] <= now - 60:
                self._window.popleft()
            if len(self._window) >= self.images_per_min:
                return self._reply(429, "rate limit, resets every minute")
            self._window.append(now)
        return None

    def _state(self, job: Job) -> str:
        age_s = self._now() - job.created_s
        if age_s < self.generation_s / 4:
            return "created"
        if age_s < self.generation_s:
            return "processing"
        return job.failure[0] if job.failure else "completed"

    def _describe(self, job: Job, *, created: bool = False) -> dict[str, Any]:
        state = "created" if created else self._state(job)
        done = state == "completed"
        ended = job.failure is not None and state == job.failure[0]
        data: dict[str, Any] = {
            "id": job.id,
            "model": MODEL,
            "outputs": [self._output(job)] if done else [],
            "urls": {"get": f"{self.url}/api/v3/predictions/{job.id}/result"},
            "has_nsfw_contents": [False] if done else [],
            "status": state,
            "created_at": self._iso(job.created_s),
            "error": job.failure[2] if ended and job.failure else "",
            "timings": {"inference": 1234 if done else 0},
        }
        if ended and job.failure:
            data["code"] = job.failure[1]
        return data

    @staticmethod
    def _iso(seconds: float) -> str:
        moment = datetime.fromtimestamp(seconds, timezone.utc)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _output(self, job: Job) -> str:
        if job.inputs.get("enable_base64_output"):
            self.delivered[job.id] += 1
            return base64.b64encode(self._render(job)).decode()
        extension = job.inputs.get("output_format", "jpeg")
        return f"{self.url}/cdn/{job.id}.{extension}?Signature={SIGNATURE}"

    def _render(self, job: Job) -> bytes:
        """The uploaded photo at the requested size, tinted by prompt and seed."""
        width, height = map(int, job.inputs.get("size", "1024*1024").split("*"))
        digest = hashlib.sha256(f"{job.inputs['prompt']}{job.inputs.get('seed')}".encode()).digest()
        photo = self.uploads[job.inputs["image"].rsplit("/", 1)[-1]]
        with Image.open(io.BytesIO(photo)) as opened:
            picture = opened.convert("RGB").resize((width, height))
        picture = Image.blend(picture, Image.new("RGB", picture.size, tuple(digest[:3])), 0.4)
        buffer = io.BytesIO()
        picture.save(buffer, job.inputs.get("output_format", "jpeg").upper())
        return buffer.getvalue()

    async def _result(self, request: web.Request) -> web.Response:
        job = self.jobs.get(request.match_info["id"])
        if job is None or self._now() - job.created_s > KEPT_S:
            return self._reply(404, "prediction not found")
        return self._reply(200, "success", self._describe(job))

    async def _list(self, request: web.Request) -> web.Response:
        query = await request.json()
        items = []
        for job in self.jobs.values():
            after, before = map(query.get, ("created_after", "created_before"))
            if after and job.created_s < datetime.fromisoformat(after[:-1] + "+00:00").timestamp():
                continue
            if (
                before
                and job.created_s > datetime.fromisoformat(before[:-1] + "+00:00").timestamp()
            ):
                continue
            item = self._describe(job)
            if self.list_inputs:
                item["inputs"] = self.rewrite_inputs(dict(job.inputs))
            items.append(item)
        size = min(int(query.get("page_size", 20)), 100)
        start = (int(query.get("page", 1)) - 1) * size
        page = items[::-1][start : start + size]
        return self._reply(200, "success", {"items": page, "total": len(items)})

    async def _upload(self, request: web.Request) -> web.Response:
        if not self.binary_upload:
            return self._reply(404, "no such path")
        part = await (await request.multipart()).next()
        if part is None or not hasattr(part, "read") or part.name != "file":
            return self._reply(400, "file is required")
        return self._reply(200, "success", self._store(bytes(await part.read())))

    def _store(self, data: bytes, name: str = "") -> dict[str, Any]:
        name = name or hashlib.sha256(data).hexdigest()[:24] + ".png"
        self.uploads[name] = data
        return {"type": "image", "download_url": f"{self.url}/uploads/{name}", "size": len(data)}

    async def _ticket(self, request: web.Request) -> web.Response:
        asked = await request.json()
        name = f"ticket{len(self.uploads)}-{asked['filename']}"
        order = {
            "method": "PUT",
            "url": f"{self.url}/bucket/{name}?Signature={SIGNATURE}",
            "headers": {"X-Bucket": "photos"},
        }
        data = {"type": "image", "download_url": f"{self.url}/uploads/{name}", "upload": order}
        return self._reply(200, "success", data)

    async def _put(self, request: web.Request) -> web.Response:
        if request.headers.get("X-Bucket") != "photos" or "Authorization" in request.headers:
            return web.Response(status=400)
        self._store(await request.read(), request.match_info["name"])
        return web.Response()

    async def _balance(self, request: web.Request) -> web.Response:
        return self._reply(200, "success", {"balance": round(self.balance_usd, 2)})

    async def _price(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if asked.get("model_id") != MODEL:
            return self._reply(404, "no such model")
        price_usd = self._price_usd(asked.get("inputs", {}))
        data = {"price": price_usd, "discounted_price": price_usd, "currency": "USD"}
        return self._reply(200, "success", data)

    def _price_usd(self, inputs: dict[str, Any]) -> float:
        return self.prices_usd.get(inputs.get("size", ""), PRICE_USD)

    async def _billings(self, request: web.Request) -> web.Response:
        asked = await request.json()
        items = []
        for name in asked.get("prediction_uuids", []):
            job = self.jobs.get(name)
            if job:
                is_free = job.failure is not None and self.refunds_failed
                price_usd = 0.0 if is_free else self._price_usd(job.inputs)
                named = {"uuid": job.id, "status": self._state(job)}
                items.append({"price": price_usd, "prediction": named})
        return self._reply(200, "success", {"items": items, "total": len(items)})

    async def _cancel(self, request: web.Request) -> web.Response:
        job = self.jobs.get(request.match_info["id"])
        if job is None:
            return self._reply(404, "prediction not found")
        job.failure = ("deleted", 0, "cancelled by the user")
        job.created_s = self._now() - self.generation_s
        return self._reply(200, "success", {"id": job.id, "status": "deleted"})

    async def _photo(self, request: web.Request) -> web.Response:
        data = self.uploads.get(request.match_info["name"])
        return web.Response(body=data) if data else web.Response(status=404)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        job = self.jobs.get(request.match_info["name"].rsplit(".", 1)[0])
        if job is None or request.query.get("Signature") != SIGNATURE:
            return web.Response(status=403)
        response = web.Response(body=self._render(job))
        self.delivered[job.id] += 1
        return response

    async def _books(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "paid": self.paid,
                "paid_twice": self.paid_twice,
                "delivered": self.images_delivered,
                "balance_usd": round(self.balance_usd, 2),
                "requests": dict(self.requests),
            }
        )

    async def _fail(self, request: web.Request) -> web.Response:
        order = await request.json()
        self.fail(order["endpoint"], order["fault"], int(order.get("times", 1)))
        return web.json_response({})


def main() -> None:
    """Serve by hand until interrupted."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--port", type=int, default=8288)
    parser.add_argument("--images-per-min", type=int)
    parser.add_argument("--generation-s", type=float, default=3.0)
    options = parser.parse_args()
    service = Standin(
        port=options.port,
        images_per_min=options.images_per_min,
        generation_s=options.generation_s,
    )
    with service:
        print(f"WaveSpeed stand-in at {service.url}; Ctrl-C ends it", flush=True)  # noqa: T201
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print(f"paid {service.paid}, delivered {service.images_delivered}")  # noqa: T201


if __name__ == "__main__":
    main()
