"""One ComfyUI server as a painter, through the HTTP API that its own window uses."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from ..errors import quoted
from .errors import PainterLostError, PortraitError
from .graph import Graph
from .table import Portrait

POLL_S = 0.25
PATIENCE_S = 30.0
"""How long a server may be silent, as while it restarts, before its portrait goes to another."""
TIMEOUT_S = 20.0
MAX_ANSWER_BYTES = 2**28


class ComfyUI:
    """A server that paints one portrait after another.

    The prompt's id is made of what the portrait is, so what was painted while nobody looked is
    collected, and nothing is queued twice.

    Args:
        address: `http://host:port`, perhaps with `user:password@`.
        graph: The workflow to fill in.
        patience_s: Instead of PATIENCE_S.
    """

    at_once = 1

    def __init__(self, address: str, graph: Graph, patience_s: float = PATIENCE_S):
        self._url = (address if "://" in address else f"http://{address}").rstrip("/")
        self.name = urlsplit(self._url).netloc.rpartition("@")[2]
        self._graph, self.price_usd, self._patience_s = graph, graph.price_usd, patience_s
        self._session = requests.Session()
        self._session.stream = True
        self._session.trust_env = False  # a server that was named is asked without a proxy

    def paint(self, portrait: Portrait, stopped: Callable[[], bool]) -> bytes:
        """Paint a portrait, or collect it when it is painted already.

        Returns:
            The file that the server saved; nothing when `stopped` says so.

        Raises:
            PortraitError: The graph failed.
            PainterLostError: The server is gone, or cannot run this graph.
        """
        number = str(uuid.UUID(portrait.digest[:32]))
        while not stopped():
            # In this order: what leaves the queue is in the history at once.
            queue = self._json("GET", "queue")
            if not any(item[1] == number for part in queue.values() for item in part):
                if entry := self._json("GET", f"history/{number}").get(number):
                    return self._picture(entry, number)
                self._queue(portrait, number)
            time.sleep(POLL_S)
        return b""

    def memory_bytes(self) -> int | None:
        """What is in use on the server's first device, if it still answers."""
        with suppress(PainterLostError):
            devices = self._json("GET", "system_stats").get("devices") or [{}]
            return devices[0].get("vram_total", 0) - devices[0].get("vram_free", 0) or None

    def _queue(self, portrait: Portrait, number: str) -> None:
        photo = portrait.photo.read_bytes()
        name = f"{hashlib.sha256(photo).hexdigest()[:16]}{portrait.photo.suffix.lower()}"
        files, data = {"image": (name, photo)}, {"overwrite": "true"}
        person = self._json("POST", "upload/image", files=files, data=data)["name"]
        prompt = self._graph.filled(person=person, prompt=portrait.prompt, seed=portrait.seed)
        answer = self._json("POST", "prompt", json={"prompt": prompt, "prompt_id": number})
        if answer.get("node_errors") or answer.get("prompt_id") != number:
            nodes = (answer.get("node_errors") or {}).values()
            told = [f"{node['class_type']}: {node['errors'][0]['details']}" for node in nodes]
            error = answer.get("error") or {"message": "it is older than ComfyUI 0.16.3"}
            reason = quoted("; ".join(told) or error["message"])
            raise PainterLostError(f"{self.name} cannot run the graph: {reason}. Run it there.")

    def _picture(self, entry: dict[str, Any], number: str) -> bytes:
        status = entry.get("status") or {}
        shown = [image for node in entry["outputs"].values() for image in node.get("images", ())]
        shown.sort(key=lambda image: image["type"] != "output")  # what is saved before previews
        if status.get("status_str") == "success" and shown:
            return self._ask("GET", "view", params=shown[0])
        self._ask("POST", "history", json={"delete": [number]})  # a next try begins anew
        told = [data for kind, data in status.get("messages", ()) if kind == "execution_error"]
        reason = told[0].get("exception_message") if told else "it was stopped, or saved no picture"
        raise PortraitError(f"{self.name} painted nothing: {quoted(reason)}. Look at its window.")

    def _json(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        with suppress(ValueError):
            answer = json.loads(self._ask(method, path, **content))
            if isinstance(answer, dict):
                return answer
        raise PainterLostError(f"{self.name} does not answer as ComfyUI does. Check --servers.")

    def _ask(self, method: str, path: str, **content: Any) -> bytes:
        """Send a request until it is answered; each may be repeated without harm."""
        url, deadline = f"{self._url}/{path}", time.monotonic() + self._patience_s
        reason = ""
        while not reason or time.monotonic() < deadline:
            try:
                with self._session.request(method, url, timeout=TIMEOUT_S, **content) as answer:
                    if answer.ok or (path == "prompt" and answer.status_code == 400):
                        return answer.raw.read(MAX_ANSWER_BYTES, decode_content=True)
                reason = f"HTTP {answer.status_code}"
                if path in ("view", "upload/image") and 404 <= answer.status_code < 500:
                    raise PortraitError(f"{self.name} refuses /{path}: {reason}.")
            except (OSError, HTTPError) as error:  # the former are requests', the latter of a body
                reason = type(error).__name__
            time.sleep(POLL_S)
        raise PainterLostError(f"{self.name} does not answer /{path}: {reason}. Start it again.")
