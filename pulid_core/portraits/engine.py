"""Portraits to painters through Dask: a scheduler and one worker per painter, all in this process."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple, Protocol, cast

import distributed
from distributed.core import Status

from .errors import PainterLostError, PortraitError
from .table import Portrait

TRIES = 3
PLUGIN = "painter"


class Painter(Protocol):
    """Who paints: a ComfyUI server, or a service."""

    name: str
    at_once: int

    def paint(self, portrait: Portrait, stopped: Callable[[], bool]) -> bytes:
        """Give the file of a portrait; see `ComfyUI.paint`."""
        ...

    def memory_bytes(self) -> int | None:
        """What its models take now, where that can be known."""
        ...


class Outcome(NamedTuple):
    """What became of one portrait at one painter."""

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


class _Scheduler(_NoService, distributed.Scheduler):
    pass


class _Worker(_NoService, distributed.Worker):
    pass


class _Seat(distributed.WorkerPlugin):
    """Puts a painter where its worker's tasks find it."""

    name = PLUGIN

    def __init__(self, painter: Painter):
        self.painter = painter


def paint(portrait: Portrait) -> Outcome:
    """The task: runs in a thread of a worker, and stops when that closes."""
    worker = distributed.get_worker()
    painter = cast(_Seat, worker.plugins[PLUGIN]).painter
    begin = time.monotonic()
    try:
        file = painter.paint(portrait, lambda: worker.status != Status.running)
        seconds = time.monotonic() - begin
        return Outcome(painter.name, file, seconds=seconds, memory_bytes=painter.memory_bytes())
    except PainterLostError as error:
        return Outcome(painter.name, error=str(error), is_lost=True)
    except (PortraitError, OSError) as error:
        return Outcome(painter.name, error=str(error))


def paint_all(
    portraits: Sequence[Portrait], painters: Sequence[Painter], tries: int = TRIES
) -> Generator[tuple[Portrait, Outcome]]:
    """Paint everything, and yield what came of each portrait as soon as it is known.

    A portrait of a lost painter goes to the others, and so does one that failed. When those are lost, too,
    the rest is not yielded.

    Args:
        portraits: Each once.
        painters: With different names.
        tries: How often a portrait may fail.
    """
    cluster = distributed.SpecCluster(
        scheduler={"cls": _Scheduler, "options": {"protocol": "inproc://", "dashboard": False}},
        workers={painter.name: _worker(painter) for painter in painters},
        silence_logs=logging.ERROR,  # pyright: ignore[reportArgumentType] - so typed by its default
    )
    with cluster, distributed.Client(cluster) as client:
        yield from _outcomes(client, portraits, {painter.name for painter in painters}, tries)


def _worker(painter: Painter) -> dict[str, Any]:
    quiet = {"memory_limit": 0, "dashboard": False}
    seat = {"name": painter.name, "nthreads": painter.at_once, "plugins": [_Seat(painter)]}
    return {"cls": _Worker, "options": seat | quiet}


def _outcomes(
    client: distributed.Client, portraits: Sequence[Portrait], names: set[str], tries: int
) -> Generator[tuple[Portrait, Outcome]]:
    failures: Counter[Portrait] = Counter()
    asked = {portrait.digest: portrait for portrait in portraits}  # by the key of the task
    waiting_for = dict.fromkeys(asked, frozenset(names))
    coming = distributed.as_completed(
        client.map(paint, portraits, key=list(asked)), with_results=True
    )
    for future, outcome in coming:
        portrait = asked[future.key]
        del waiting_for[future.key]
        failures[portrait] += bool(outcome.error) and not outcome.is_lost
        is_over = not outcome.error or failures[portrait] == tries
        is_news = outcome.is_lost and outcome.painter in names
        if is_over or is_news:
            yield portrait, outcome
        if is_news:
            names.remove(outcome.painter)
            client.retire_workers(names=[outcome.painter])
        if not is_over and names:
            key = f"{portrait.digest} {len(asked)}"
            asked[key], waiting_for[key] = portrait, frozenset(names - {outcome.painter} or names)
            coming.add(client.submit(paint, portrait, key=key, workers=sorted(waiting_for[key])))
        if not any(names & others for others in waiting_for.values()):
            return  # all that would paint the rest are lost
