"""One job from its row in the record to the bytes of its image.

A Runner never sends the creating POST when the record, this machine's files or the service's list
may hold the result already, nor one whose price was not checked.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property

from ..paid_jobs.clock import Cancelled, Clock
from ..paid_jobs.journal import KEPT_S, OUTCOME_OPEN, PAID, Journal, Row, State, try_to_note
from ..paid_jobs.pacing import Pacer
from . import codes
from .answers import Answer, Outcome, Prediction
from .api import Api
from .delivery import Delivery, Fetcher, Source, ended_error
from .errors import (
    PaidJobError,
    RemoteCancelled,
    RemoteDownloadFailed,
    RemoteExpired,
    RemoteImageError,
    RemoteOutcomeUnknown,
    RemoteRateLimited,
    RemoteTimeout,
    RemoteUnavailable,
)
from .jobs import Job, RunOptions
from .recovery import Found, Recovery
from .refusals import refused_order
from .timing import Timing
from .uploads import uploaded
from .waiting import Waiting

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Runner:
    """Everything a job needs; one for all jobs of an account."""

    api: Api
    journal: Journal
    fetcher: Fetcher
    pacer: Pacer
    account: str
    clock: Clock
    timing: Timing

    @cached_property
    def _waiting(self) -> Waiting:
        return Waiting(self.api, self.journal, self.clock, self.timing)

    @cached_property
    def _recovery(self) -> Recovery:
        return Recovery(self.api, self.journal, self.account, self.clock, self.timing)

    def orders(self, job: Job, *, force: bool) -> bool | None:
        """Whether running the job orders, and bills, a prediction: yes, no, or None for perhaps."""
        row = self.journal.find(job.key)
        if row is None or not (_is_paid(row) or row.state in OUTCOME_OPEN):
            return True
        if force:
            return True if row.state is State.DELIVERED else None
        is_old = self.clock.wall() - row.submitted_at > KEPT_S
        return None if is_old or not _is_paid(row) else False

    def run(self, job: Job, options: RunOptions) -> Delivery:
        """See a job through; the same job elsewhere is waited for, not run twice.

        Raises:
            PaidJobError: Which one says what happened and what was billed.
        """
        started = self.clock.monotonic()
        with self.journal.locks.hold(f"job:{job.key}", self.clock, options.cancelled):
            return self._done(self._run(job, options), started, options)

    def collect(self, prediction_id: str, options: RunOptions) -> Delivery:
        """Fetch a prediction by its id; never creates one.

        Raises:
            As `run`.
        """
        started = self.clock.monotonic()
        delivery = self.fetcher.kept(prediction_id)
        if delivery is None:
            prediction = self._waiting.until_ended(Prediction(prediction_id), options, None, None)
            if prediction.status in codes.ENDED:
                raise ended_error(prediction, self.api)
            options.report("downloading", prediction_id)
            delivery, _ = self.fetcher.fetch(prediction, "resumed", options.cancelled)
        return self._done(delivery, started, options)

    def _done(self, delivery: Delivery, started: float, options: RunOptions) -> Delivery:
        options.report("done", delivery.prediction_id)
        return replace(delivery, total_s=self.clock.monotonic() - started)

    def _run(self, job: Job, options: RunOptions) -> Delivery:
        row = self.journal.find(job.key)
        if row and row.state in OUTCOME_OPEN:
            row = self._settle(job, options)
        if row and _is_paid(row) and not (options.force and row.state is State.DELIVERED):
            try:
                return self._collect_row(job, row, options)
            except PaidJobError as error:
                if not self._gives_up(error, row, options.force):
                    raise
        prediction, source = self._order(job, options)
        return self._finish(job, prediction, options, source)

    def _gives_up(self, error: PaidJobError, row: Row, force: bool) -> bool:
        """Whether an image that was paid is ordered anew, because it cannot be had any more.

        What was delivered before is, once its 7 days are over; else only the user decides that.
        """
        if isinstance(error, RemoteExpired) and error.is_over:
            return force or row.state is State.DELIVERED
        if isinstance(error, RemoteTimeout):
            return force and self.clock.wall() - row.submitted_at > self.timing.stuck_after_s
        unusable = (RemoteExpired, RemoteDownloadFailed, RemoteImageError, RemoteUnavailable)
        return force and isinstance(error, unusable)

    def _collect_row(self, job: Job, row: Row, options: RunOptions) -> Delivery:
        """The image of a prediction that is on record, from this machine or from the service."""
        prediction_id = row.prediction_id or ""
        kept = self.fetcher.kept(prediction_id)
        source: Source = "adopted" if row.adopted else "resumed"
        return kept or self._finish(job, Prediction(prediction_id), options, source, row)

    def _finish(
        self,
        job: Job,
        prediction: Prediction,
        options: RunOptions,
        source: Source,
        row: Row | None = None,
    ) -> Delivery:
        """Wait for a prediction and fetch its image, keeping the row in step.

        Only the task's own state, or the end of its 7 days, closes the row: a question that is
        refused says nothing about what was paid.
        """
        try:
            prediction = self._waiting.until_ended(prediction, options, job.request.size, row)
        except RemoteExpired as error:
            if error.is_over:
                self._move(job, State.FAILED, prediction.id)
            raise
        if prediction.status in codes.ENDED:
            self._move(job, State.FAILED, prediction.id, prediction.code)
            self._forget_unreadable(job, prediction.code)
            raise ended_error(prediction, self.api)
        self._move(job, State.COMPLETED, prediction.id)
        options.report("downloading", prediction.id)
        delivery, is_kept = self.fetcher.fetch(prediction, source, options.cancelled)
        if is_kept:
            self._move(job, State.DOWNLOADED, prediction.id)
        return delivery

    def _move(
        self, job: Job, state: State, prediction_id: str | None = None, code: int | None = None
    ) -> None:
        """Note a state after payment; the id goes along, as the disk may have been full before."""
        try_to_note(lambda: self.journal.move(job.key, state, prediction_id, code))

    def _forget_unreadable(self, job: Job, code: int | None) -> None:
        if code == codes.UNREADABLE_PHOTO:
            try_to_note(lambda: self.journal.forget_upload(job.photo.digest, self.account))

    # Creating a prediction

    def _order(self, job: Job, options: RunOptions) -> tuple[Prediction, Source]:
        """Get a new prediction, or the lost one that turns out to exist."""
        self._reserve(job, options)
        address = self._upload(job, options)
        connects = iter(self.timing.connect_retry_s)
        resends = iter(range(self.timing.rate_limit_resends))
        while True:
            options.report("waiting", None)
            turn = self.pacer.wait_turn(options.cancelled)
            with self._submissions(options.cancelled):
                self._recovery.settle_others(job, options.cancelled)
                answer = self._post(job, address, options)
                self.pacer.answered(turn)
                if answer.outcome is Outcome.ACCEPTED and answer.prediction:
                    return answer.prediction, "new"
                if answer.outcome is Outcome.UNKNOWN:
                    return self._find_lost(job, answer, options)
            self._forget_unreadable(job, answer.status)
            options.report("waiting", None)
            self.clock.wait(self._pause_s(job, answer, connects, resends), options.cancelled)

    def _reserve(self, job: Job, options: RunOptions) -> None:
        """Make the job's row that of a new order, forgetting what it was before."""
        if options.over_budget:
            raise options.over_budget
        self.journal.reserve(job.key, self.account)

    def _submissions(self, cancelled: Cancelled) -> AbstractContextManager[None]:
        """The account's lock: one POST at a time, and a lost one is looked for before the next."""
        return self.journal.locks.hold(f"submit:{self.account}", self.clock, cancelled)

    def _pause_s(
        self, job: Job, answer: Answer, connects: Iterator[float], resends: Iterator[int]
    ) -> float:
        """Seconds before a request that created nothing may be sent again.

        Raises:
            PaidJobError: It may not.
        """
        if answer.outcome is Outcome.REJECTED:
            told = {**job.inputs(), "prompt": f"of {len(job.prompt)} characters"}
            told["photo"] = "of {} x {} pixels".format(*job.photo.picture.size)
            sent = f"Sent: {', '.join(f'{name} {value}' for name, value in told.items())}."
            raise refused_order(answer.status, self.api.clean(answer.message), sent)
        if answer.outcome is Outcome.RATE_LIMITED:
            self.pacer.slow_down()
            if next(resends, None) is None:
                raise RemoteRateLimited
            return answer.retry_after_s or self.timing.rate_limit_s + 4 * self.clock.random()
        pause_s = next(connects, None) if answer.outcome is Outcome.NOT_SENT else None
        if pause_s is None:
            raise RemoteUnavailable(answer.message)
        return pause_s

    def _upload(self, job: Job, options: RunOptions) -> str:
        """The photo's address; each photo is uploaded once, whoever needs it first."""
        name = f"upload:{job.photo.digest}"
        with self.journal.locks.hold(name, self.clock, options.cancelled):
            return uploaded(self.api, self.journal, self.account, job.photo, options)

    def _post(self, job: Job, address: str, options: RunOptions) -> Answer:
        """Send the creating POST, with its row on disk before and its outcome straight after.

        Both while the lock is held: who has it next takes a row without an outcome for a crash.
        """
        inputs = {**job.inputs(), "image": address}
        inputs |= {"enable_base64_output": True} if job.request.base64_output else {}
        inputs |= {"enable_sync_mode": True} if job.request.sync_mode else {}
        if options.cancelled():
            raise RemoteCancelled
        options.report("submitting", None)
        self.journal.submitting(job.key, self.api.transport.server_time)
        answer = self.api.submit(inputs)
        if answer.outcome is Outcome.ACCEPTED and answer.prediction:
            prediction_id = answer.prediction.id
            LOGGER.info("WaveSpeed prediction %s accepted", prediction_id)
            # Where this fails the row still says `submitting`, and a later run looks for it.
            try_to_note(lambda: self.journal.accepted(job.key, prediction_id))
        elif answer.outcome is Outcome.UNKNOWN:
            try_to_note(lambda: self.journal.lost(job.key))
        else:
            self._move(job, State.REJECTED, code=answer.status)
        return answer

    # Finding a prediction whose answer was lost

    def _find_lost(self, job: Job, answer: Answer, options: RunOptions) -> Found:
        """The prediction of the POST that was just lost."""
        cause = self.api.clean(f"status {answer.status}" if answer.status else answer.message)
        options.report("looking for it", None)
        row = self.journal.find(job.key)
        found = row and self._recovery.find(job, row, cause, options.cancelled)
        if not found:
            raise RemoteOutcomeUnknown(cause)
        return found

    def _settle(self, job: Job, options: RunOptions) -> Row | None:
        """The row of a lost POST once it is open no more: paid, or free for a new order.

        Only who holds the lock may change such a row: another run may have found the prediction
        while this one waited, and what was read before is no ground for an order.
        """
        options.report("looking for it", None)
        with self._submissions(options.cancelled):
            self.journal.close_crashed(self.account)
            row = self.journal.find(job.key)
            if row and row.state in OUTCOME_OPEN and not self._is_found(job, row, options):
                self._reserve(job, options)
            return self.journal.find(job.key)

    def _is_found(self, job: Job, row: Row, options: RunOptions) -> bool:
        """Whether a lost prediction was found; one that cannot be is given up only by the user."""
        try:
            found = self._recovery.find(job, row, "its answer was lost", options.cancelled)
        except RemoteOutcomeUnknown:
            if not options.force:
                raise
            return False
        return found is not None


def _is_paid(row: Row) -> bool:
    """Whether a row stands for a paid image."""
    return row.state in PAID and row.prediction_id is not None
