"""Portraits to painters through Dask: a scheduler and one worker per painter, all in this process."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, cast

from distributed import Client, Scheduler, SpecCluster, Worker, as_completed, get_worker
from distributed.core import Status

from .errors import PainterLostError, PortraitError
from .table import Portrait

TRIES = 3


class Painter(Protocol):
    """Who paints: a ComfyUI server, or a service."""

    name: str
    at_once: int
    price_usd: float

    def paint(self, portrait: Portrait, stopped: Callable[[], bool]) -> bytes:
        """Give the file of a portrait; see `ComfyUI.paint`."""
        ...

    def memory_bytes(self) -> int | None:
        """What its models take now, where that can be known."""


class Outcome(NamedTuple):
    """What became of one portrait at one painter."""

    portrait: Portrait
    painter: str
    file: bytes = b""
    error: str = ""
    is_lost: bool = False
    """Whether the painter can paint nothing more."""
    seconds: float = 0.0
    memory_bytes: int | None = None
    """In use at the painter's machine after the picture."""


class _NoService:
    def start_http_server(self, *_: Any, **__: Any) -> None:
        """Open no port: Dask would serve its dashboard's data on all interfaces."""


class _Scheduler(_NoService, Scheduler):
    """Hands portraits out."""


class _Worker(_NoService, Worker):
    """Has its painter where the tasks find it."""

    is_lost = False

    def __init__(self, *place: Any, painter: Painter, **options: Any):
        self.painter = painter
        super().__init__(*place, **options)


def paint(portrait: Portrait) -> Outcome:
    """The task: runs in a thread of a worker, and stops when that closes."""
    worker = cast(_Worker, get_worker())
    painter, begin = worker.painter, time.monotonic()
    if worker.is_lost:  # what it was given before that was known goes back at once
        return Outcome(portrait, painter.name, error="It is lost.", is_lost=True)
    try:
        file = painter.paint(portrait, lambda: worker.status != Status.running)
    except (PainterLostError, PortraitError, OSError) as error:
        worker.is_lost = isinstance(error, PainterLostError)
        return Outcome(portrait, painter.name, error=str(error), is_lost=worker.is_lost)
    seconds = time.monotonic() - begin
    return Outcome(portrait, painter.name, file, "", False, seconds, painter.memory_bytes())


def paint_all(portraits: Sequence[Portrait], painters: Sequence[Painter]) -> Generator[Outcome]:
    """Paint everything, and yield what came of each portrait as soon as it is known.

    A portrait of a lost painter goes to the others, and so does one that failed, as often as TRIES says.
    When those are lost, too, the rest is not yielded.

    Args:
        portraits: Each once.
        painters: With different names.
    """
    quiet = {"dashboard": False, "memory_limit": 0}
    seats = {one.name: {"painter": one, "nthreads": one.at_once} | quiet for one in painters}
    cluster = SpecCluster(
        workers={name: {"cls": _Worker, "options": seat} for name, seat in seats.items()},
        scheduler={"cls": _Scheduler, "options": {"protocol": "inproc://", "dashboard": False}},
        silence_logs=logging.ERROR,  # pyright: ignore[reportArgumentType] - so typed by its default
    )
    with cluster, Client(cluster) as client:
        yield from _outcomes(client, portraits, set(seats))


def _outcomes(client: Client, portraits: Sequence[Portrait], names: set[str]) -> Iterator[Outcome]:
    failures: Counter[Portrait] = Counter()
    coming = as_completed(client.map(paint, portraits, pure=False), with_results=True)
    for _, outcome in coming:
        portrait, painter = outcome.portrait, outcome.painter
        failures[portrait] += bool(outcome.error) and not outcome.is_lost
        is_over = not outcome.error or failures[portrait] == TRIES
        if is_over or (outcome.is_lost and painter in names):
            yield outcome
        if outcome.is_lost:
            names.discard(painter)
        if not is_over and names:
            others = sorted(names - {painter} or names)
            coming.add(client.submit(paint, portrait, pure=False, workers=others))
