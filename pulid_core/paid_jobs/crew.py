"""Threads that work on named jobs, and the one that watches them.

No pool and not asyncio's own threads: Python's end waits for a pool's threads before they can know
of it, and asyncio's end for those it lent.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from ..errors import RemoteError
from .clock import Cancelled, Clock
from .errors import PaidJobError, RemoteCancelled

SUPERVISION_S = 0.1
QUARTERS = 4
STAGES_DONE = {"uploading": 0, "submitting": 1, "created": 2, "processing": 2, "downloading": 3}

Result = TypeVar("Result")
Report = Callable[[str, "str | None"], None]
"""Called with a stage in a few words, and the prediction id as soon as there is one."""


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        text: One line for people, without the time; no prompt in it.
        done: Quarters of jobs that are done, 0 to `total`.
        total: Four per job.
        elapsed_s: Seconds since the run began, or None for a line that no time belongs to.
    """

    text: str
    done: int
    total: int
    elapsed_s: float | None = None

    @property
    def line(self) -> str:
        """The text with the time."""
        return self.text if self.elapsed_s is None else f"{self.text} · {self.elapsed_s:.0f} s"


OnProgress = Callable[[Progress], None]


class Crew(Generic[Result]):
    """Threads that work on named jobs, and the one that watches them."""

    def __init__(
        self,
        names: Sequence[str],
        at_once: int,
        work: Callable[[str, Report, Cancelled], Result],
        clock: Clock,
    ):
        self.results: dict[str, Result] = {}
        self.errors: dict[str, RemoteError] = {}
        self._names = names
        self._at_once = at_once
        self._work = work
        self._clock = clock
        self._stop = threading.Event()
        self._is_daemon = threading.current_thread().daemon
        self._stages: dict[str, tuple[str, str | None]] = {}

    def supervise(self, progress: OnProgress | None, cancelled: Cancelled) -> None:
        """Return when every job has a result or an error.

        Raises:
            RemoteCancelled: `cancelled` said so. Threads stop by themselves, the one with a POST
                on the way after it has noted the prediction.
        """
        futures: dict[Future[Result], str] = {Future(): name for name in self._names}
        waiting = deque(futures.items())
        try:
            for _ in range(min(self._at_once, len(waiting))):
                threading.Thread(target=self._work_off, args=[waiting], name="wavespeed").start()
            started = self._clock.monotonic()
            while futures:
                done, _ = wait(futures, timeout=SUPERVISION_S, return_when=FIRST_COMPLETED)
                for future in done:
                    self._note(futures.pop(future), future, futures)
                if cancelled() or self._is_stopped():
                    raise RemoteCancelled
                if progress:
                    progress(self._progress(self._clock.monotonic() - started))
        finally:
            self._stop.set()

    def _work_off(self, waiting: deque[tuple[Future[Result], str]]) -> None:
        """Do what is waiting, until nothing is or everything stops."""
        while not self._is_stopped():
            try:
                future, name = waiting.popleft()
            except IndexError:
                return
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(
                        self._work(name, partial(self._report, name), self._is_stopped)
                    )
                except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
                    future.set_exception(error)

    def _report(self, name: str, stage: str, prediction_id: str | None) -> None:
        self._stages[name] = stage, prediction_id

    def _is_stopped(self) -> bool:
        """Whether to stop: asked to, or Python ends and takes the watching thread with it."""
        # A daemon's death is nothing that it could be told: it simply runs no further.
        is_dying = self._is_daemon and not threading.main_thread().is_alive()
        return is_dying or self._stop.is_set()

    def _note(self, name: str, future: Future[Result], waiting: dict[Future[Result], str]) -> None:
        try:
            self.results[name] = future.result()
        except RemoteError as error:
            self.errors[name] = error
            if isinstance(error, PaidJobError) and error.stops_batch and not error.prediction_id:
                # The jobs that have not started would fail alike. A refused question about one
                # prediction says nothing about the others.
                for other in [other for other in waiting if other.cancel()]:
                    self.errors[waiting.pop(other)] = error

    def _progress(self, elapsed_s: float) -> Progress:
        finished = len(self.results) + len(self.errors)
        done = QUARTERS * finished
        line = [f"{finished}/{len(self._names)}"]
        # The threads add stages meanwhile.
        for name, (stage, prediction_id) in list(self._stages.items()):
            if name in self.results or name in self.errors:
                continue
            done += STAGES_DONE.get(stage, 0)
            line = [line[0], stage, *([f"id …{prediction_id[-4:]}"] if prediction_id else [])]
        return Progress(" · ".join(line), done, QUARTERS * len(self._names), elapsed_s)
