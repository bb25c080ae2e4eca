"""Waiting for a prediction: when to look at it, and what a look means."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from itertools import chain, repeat

from ..paid_jobs.clock import Clock
from ..paid_jobs.journal import KEPT_S, Journal, Row, try_to_note
from . import codes
from .answers import Prediction
from .api import Api, UnknownThere
from .errors import JournalError, PaidJobError, RemoteCancelled, RemoteExpired, RemoteTimeout
from .jobs import RunOptions
from .timing import Timing

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Waiting:
    """Looks at predictions, the first time when they may be ready."""

    api: Api
    journal: Journal
    clock: Clock
    timing: Timing

    def until_ended(
        self, prediction: Prediction, options: RunOptions, size: str | None, row: Row | None
    ) -> Prediction:
        """Look at a prediction until it has ended one way or the other.

        Args:
            size: For how long such pictures usually take.
            row: Of a prediction that was accepted in an earlier run, so that the first look is now.

        Raises:
            RemoteExpired: The service does not have it.
            RemoteTimeout: It still runs.
            RemoteCancelled: The caller asked to stop.
        """
        if prediction.status == codes.COMPLETED and prediction.outputs:
            return prediction
        try:
            return self._look_on(prediction, options, size, row)
        except RemoteCancelled:
            if options.cancel_at_service:
                self._cancel_at_service(prediction.id)
            raise

    def _look_on(
        self, prediction: Prediction, options: RunOptions, size: str | None, row: Row | None
    ) -> Prediction:
        started = self.clock.monotonic()
        known = row is not None or size is None
        waits = chain(repeat(0.0, int(known)), self.timing.looks(self._durations(size)))
        state, waited_s = prediction.status or "created", 0.0
        while True:
            is_queued = state == "created" and waited_s > self.timing.slow_after_s
            wait_s = self.timing.queued_look_s if is_queued else next(waits)
            left_s = max(0.0, options.max_wait_s - waited_s)
            self.clock.wait(min(wait_s, left_s), options.cancelled)
            looked_at_s = self.clock.monotonic() - started
            options.report(self.api.clean(state, 40), prediction.id)
            found = self._look(prediction.id, options, looked_at_s, row, known)
            if found and found.status in codes.ENDED | {codes.COMPLETED}:
                if size and not known and found.inference_ms:
                    took_s = found.inference_ms / 1000
                    try_to_note(partial(self.journal.note_duration, size, took_s))
                return found
            state = found.status if found else state
            if looked_at_s >= options.max_wait_s:
                raise RemoteTimeout(prediction.id, self.api.clean(state, 20), looked_at_s)
            waited_s = self.clock.monotonic() - started

    def _look(
        self, prediction_id: str, options: RunOptions, waited_s: float, row: Row | None, known: bool
    ) -> Prediction | None:
        """The present state; None when the service does not know the prediction yet."""
        within_s = max(options.max_wait_s - waited_s, self.timing.last_look_s)
        try:
            return self.api.prediction(prediction_id, options.cancelled, within_s=within_s)
        except UnknownThere:
            if known or waited_s >= self.timing.not_found_grace_s:
                raise RemoteExpired(prediction_id, is_over=self._is_over(row)) from None
            return None

    def _is_over(self, row: Row | None) -> bool:
        """Whether a prediction's 7 days are over, by this machine's clock and by the service's."""
        served_now = self.api.transport.server_time
        if row is None or served_now is None or (row.served_at is None and row.place):
            return False
        own_s = self.clock.wall() - row.submitted_at
        return min(own_s, served_now - (row.served_at or row.submitted_at)) > KEPT_S

    def _durations(self, size: str | None) -> list[float]:
        try:
            return self.journal.durations(size) if size else []
        except JournalError:
            return []

    def _cancel_at_service(self, prediction_id: str) -> None:
        try:
            self.api.cancel(prediction_id)
            LOGGER.info("WaveSpeed was asked to cancel prediction %s", prediction_id)
        except PaidJobError as error:
            LOGGER.warning("WaveSpeed prediction %s is not cancelled: %s", prediction_id, error)
