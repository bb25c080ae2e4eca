"""A local stand-in for WaveSpeed's API v3, able to fail in every way the real one can.

By hand:      python devtools/wavespeed_standin.py --port 8188
In a test:    with Standin() as service: ... service.url, service.fail("submit", "reset_after")

It keeps its own books: `paid` predictions, `delivered` files, requests by endpoint; from another
process: GET /_standin/books.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import io
import itertools
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import formatdate
from pathlib import Path
from typing import Any

from aiohttp import web
from PIL import Image
from wavespeed_faults import FaultyServer, Route

MODEL = "wavespeed-ai/flux-pulid"
PRICE_USD = 0.02
SIGNATURE = "signature-canary-5f1b"
KEPT_S = 7 * 24 * 3600
COMFY_PACK = Path(__file__).with_name("pack_wavespeed_standin")
"""Beside the pack in ComfyUI's custom_nodes, it turns the remote nodes to a stand-in."""


@dataclass
class Job:
    """A prediction as the service keeps it."""

    id: str
    inputs: dict[str, Any]
    created_s: float
    failure: tuple[str, int, str] | None = None
    """Final state, code and message of a prediction that will not complete."""


class Standin(FaultyServer):
    """The service and its books.

    Args:
        now: Its clock, seconds since 1970.
        key: The only key it takes; None takes any.
        images_per_min: Answer 429 beyond that; None never does.
        list_inputs: Tell in the list what each prediction was asked for; the documents do not.
    """

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
    ):
        super().__init__(port)
        self.key = key
        self.generation_s = generation_s
        self.images_per_min = images_per_min
        self.list_inputs = list_inputs
        self.binary_upload = binary_upload
        self.balance_usd = balance_usd
        self.sync_wait_s = sync_wait_s
        self.jobs: dict[str, Job] = {}
        self.uploads: dict[str, bytes] = {}
        self.delivered: Counter[str] = Counter()
        self.failures: deque[tuple[str, int, str]] = deque()
        self.prices_usd: dict[str, float] = {}
        self.refunds_failed = True
        self.rewrite_inputs: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda inputs: (
            inputs
        )
        self._now = now
        self.date = lambda: formatdate(self._now(), usegmt=True)
        self._window: deque[float] = deque()
        self._ids = itertools.count(1)

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

    def routes(self) -> list[Route]:
        """Every endpoint."""
        api = "/api/v3"
        return [
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
        ]

    def is_authorised(self, endpoint: str, given: str) -> bool:
        """Whether a request may pass."""
        if endpoint in ("", "file", "photo", "put"):
            return True
        return given == f"Bearer {self.key}" if self.key else given.startswith("Bearer ")

    # The endpoints

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
            return self.reply(200, "success", self._describe(job, created=True))
        end = time.monotonic() + self.sync_wait_s
        while self._state(job) != "completed":
            if time.monotonic() > end:
                data = self._describe(job) | {"code": 5004, "error": "Sync mode timed out."}
                return self.reply(200, "success", data)
            await asyncio.sleep(0.02)
        return self.reply(200, "success", self._describe(job))

    def _refusal(self, inputs: dict[str, Any]) -> web.Response | None:
        sides = str(inputs.get("size", "1024*1024")).split("*")
        if not inputs.get("prompt") or not inputs.get("image"):
            return self.reply(400, "prompt and image are required")
        if len(sides) != 2 or not all(s.isdigit() and 256 <= int(s) <= 1536 for s in sides):
            return self.reply(400, "size out of range")
        if self.balance_usd < PRICE_USD:
            return self.reply(402, "insufficient credits")
        if self.images_per_min is not None:
            now = self._now()
            while self._window and self._window[0] <= now - 60:
                self._window.popleft()
            if len(self._window) >= self.images_per_min:
                return self.reply(429, "rate limit, resets every minute")
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
            return self.reply(404, "prediction not found")
        return self.reply(200, "success", self._describe(job))

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
        return self.reply(200, "success", {"items": page, "total": len(items)})

    async def _upload(self, request: web.Request) -> web.Response:
        if not self.binary_upload:
            return self.reply(404, "no such path")
        part = await (await request.multipart()).next()
        if part is None or not hasattr(part, "read") or part.name != "file":
            return self.reply(400, "file is required")
        return self.reply(200, "success", self._store(bytes(await part.read())))

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
        return self.reply(200, "success", data)

    async def _put(self, request: web.Request) -> web.Response:
        if request.headers.get("X-Bucket") != "photos" or "Authorization" in request.headers:
            return web.Response(status=400)
        self._store(await request.read(), request.match_info["name"])
        return web.Response()

    async def _balance(self, request: web.Request) -> web.Response:
        return self.reply(200, "success", {"balance": round(self.balance_usd, 2)})

    async def _price(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if asked.get("model_id") != MODEL:
            return self.reply(404, "no such model")
        price_usd = self._price_usd(asked.get("inputs", {}))
        data = {"price": price_usd, "discounted_price": price_usd, "currency": "USD"}
        return self.reply(200, "success", data)

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
        return self.reply(200, "success", {"items": items, "total": len(items)})

    async def _cancel(self, request: web.Request) -> web.Response:
        job = self.jobs.get(request.match_info["id"])
        if job is None:
            return self.reply(404, "prediction not found")
        job.failure = ("deleted", 0, "cancelled by the user")
        job.created_s = self._now() - self.generation_s
        return self.reply(200, "success", {"id": job.id, "status": "deleted"})

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
