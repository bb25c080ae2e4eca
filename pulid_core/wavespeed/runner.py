"""One job from its row in the journal to the bytes of its image.

A Runner never sends the creating POST when the journal, this machine's files or the service's
list may hold the result already.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, repeat
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .api import (
    COMPLETED,
    CREDIT_CODES,
    ENDED,
    RUNNING,
    Answer,
    Api,
    Outcome,
    Passing,
    Prediction,
)
from .clock import Cancelled, Clock, Timing
from .credentials import without_query
from .errors import (
    MODEL,
    Billed,
    JournalError,
    RemoteAuthError,
    RemoteCancelled,
    RemoteCreditError,
    RemoteDownloadFailed,
    RemoteExpired,
    RemoteImageError,
    RemoteJobFailed,
    RemoteOutcomeUnknown,
    RemoteRateLimited,
    RemoteRejected,
    RemoteTimeout,
    RemoteUnavailable,
    UnsafeAddressError,
    WaveSpeedError,
)
from .images import decode_base64_output, decode_image
from .jobs import Job
from .journal import KEPT_S, OUTCOME_OPEN, PAID, Journal, Row, State
from .pacing import Pacer
from .store import ResultStore
from .transport import TransportError

LOGGER = logging.getLogger(__name__)

Report = Callable[[str, "str | None"], None]
"""Called with a stage in a few words, and the prediction id as soon as there is one."""
Source = Literal["new", "resumed", "cache", "adopted"]

ADOPTED_WARNING = (
    "The answer to the request was lost; the prediction was found in the account's list. If another "
    "program used the account in that minute, this may be its picture."
)


@dataclass(frozen=True)
class Delivery:
    """A finished job.

    Attributes:
        images: (H, W, 3) each, float32 in [0, 1]; normally one.
        source: "new": generated now; "resumed": found at the service; "cache": found on this
            machine; "adopted": found at the service by its time alone.
        facts: Every field of the service's answer, without signatures.
        total_s: Seconds this run took for it.
        warnings: What the user should know, in sentences.
    """

    prediction_id: str
    images: tuple[NDArray[np.float32], ...] = field(repr=False)
    source: Source
    facts: dict[str, Any] = field(default_factory=dict)
    total_s: float = 0.0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Order:
    """How a job is run.

    Attributes:
        max_wait_s: Longest wait from acceptance.
        force: Generate anew what was delivered before.
    """

    cancelled: Cancelled
    report: Report
    max_wait_s: float = 600
    base64_output: bool = False
    sync_mode: bool = False
    force: bool = False


@dataclass(frozen=True)
class Runner:
    """Everything a job needs; one for all jobs of an account."""

    api: Api
    journal: Journal
    store: ResultStore
    pacer: Pacer
    account: str
    clock: Clock
    timing: Timing

    def is_new(self, job: Job, *, force: bool) -> bool:
        """Whether running the job may create, and bill, a prediction as far as is known."""
        row = self.journal.find(job.key)
        is_old = row is not None and self.api.server_time() - row.submitted_at > KEPT_S
        return row is None or is_old or not _is_live(row, force)

    def run(self, job: Job, order: Order) -> Delivery:
        """See a job through; the same job elsewhere is waited for, not run twice.

        Raises:
            WaveSpeedError: Which one says what happened and what was billed.
        """
        started = self.clock.monotonic()
        with self.journal.locks.hold(f"job:{job.key}", self.clock, order.cancelled):
            delivery = self._run(job, order)
        order.report("done", delivery.prediction_id)
        return replace(delivery, total_s=self.clock.monotonic() - started)

    def collect(self, prediction_id: str, order: Order) -> Delivery:
        """Fetch a prediction by its id; never creates one.

        Raises:
            As `run`.
        """
        started = self.clock.monotonic()
        delivery = self._kept(prediction_id)
        if delivery is None:
            prediction = self._wait(Prediction(prediction_id), order, known=True)
            delivery, _ = self._fetch(prediction, order, "resumed")
        order.report("done", prediction_id)
        return replace(delivery, total_s=self.clock.monotonic() - started)

    def _run(self, job: Job, order: Order) -> Delivery:
        row = self.journal.find(job.key)
        if row and _is_live(row, order.force):
            try:
                return self._collect_row(job, row, order)
            except RemoteExpired:
                # The service's word, not this machine's clock, ends the week.
                if row.state is not State.DELIVERED:
                    raise
        if row and row.state in OUTCOME_OPEN:
            found = self._look_for(job, "its answer was lost", order)
            if found:
                return self._finish(job, found, order, _how_found(found))
        prediction, source = self._submit(job, order)
        return self._finish(job, prediction, order, source)

    def _collect_row(self, job: Job, row: Row, order: Order) -> Delivery:
        """The image of a prediction that is on record, from this machine or from the service."""
        prediction_id = row.prediction_id or ""
        source: Source = "adopted" if row.adopted else "resumed"
        kept = self._kept(prediction_id)
        return kept or self._finish(job, Prediction(prediction_id), order, source)

    def _finish(self, job: Job, prediction: Prediction, order: Order, source: Source) -> Delivery:
        """Wait for a prediction and fetch its image, keeping the row in step."""
        try:
            prediction = self._wait(prediction, order, known=source == "resumed")
            self._move(job, State.COMPLETED, prediction.id)
            delivery, kept = self._fetch(prediction, order, source)
        except (RemoteJobFailed, RemoteCreditError, RemoteExpired) as error:
            code = getattr(error, "code", None)
            self._move(job, State.FAILED, error.prediction_id, code)
            if code == UNREADABLE_MEDIA:
                self.journal.forget_upload(job.photo.digest, self.account)
            raise
        if kept:
            self._move(job, State.DOWNLOADED, prediction.id)
        return delivery

    def _move(
        self,
        job: Job,
        state: State,
        prediction_id: str | None = None,
        code: int | None = None,
    ) -> None:
        """Note a state after payment. When it cannot be noted, the row before it is still safe.

        The id goes along: the disk may have been full when the prediction was accepted.
        """
        try:
            self.journal.move(job.key, state, prediction_id, code)
        except JournalError as error:
            LOGGER.warning("A WaveSpeed job is %s, which is not on record: %s", state.value, error)

    # Creating a prediction

    def _submit(self, job: Job, order: Order) -> tuple[Prediction, Source]:
        """Get a new prediction, or the lost one that turns out to exist."""
        self.journal.reserve(job.key, self.account)
        address = self._upload(job, order)
        durable = self.journal.durable
        connects = iter(self.timing.connect_retry_s if durable else ())
        resends = iter(range(self.timing.rate_limit_resends if durable else 0))
        while True:
            answer = self._post(job, address, order)
            if answer.outcome is Outcome.ACCEPTED and answer.prediction:
                return answer.prediction, "new"
            if answer.outcome is Outcome.UNKNOWN:
                cause = answer.message if not answer.status else f"status {answer.status}"
                found = self._find_lost(job, self.api.clean(cause), order)
                return found, _how_found(found)
            self.journal.move(job.key, State.REJECTED, code=answer.status)
            order.report("waiting", None)
            self.clock.wait(self._pause_s(job, answer, connects, resends), order.cancelled)

    def _pause_s(
        self, job: Job, answer: Answer, connects: Iterator[float], resends: Iterator[int]
    ) -> float:
        """Seconds before a request that created nothing may be sent again.

        Raises:
            WaveSpeedError: It may not.
        """
        if answer.outcome is Outcome.REJECTED:
            raise self._refusal(job, answer)
        if answer.outcome is Outcome.RATE_LIMITED:
            self.pacer.slow_down()
            if next(resends, None) is None:
                raise RemoteRateLimited
            return answer.retry_after_s or self.timing.rate_limit_s + 4 * self.clock.random()
        pause_s = next(connects, None) if answer.outcome is Outcome.NOT_SENT else None
        if pause_s is None:
            raise self.api.unreachable(answer.message)
        return pause_s

    def _upload(self, job: Job, order: Order) -> str:
        """The photo's address; each photo is uploaded once, whoever needs it first."""
        digest = job.photo.digest
        with self.journal.locks.hold(f"upload:{digest}", self.clock, order.cancelled):
            address = self.journal.uploaded_url(digest, self.account)
            if address is None:
                order.report("uploading", None)
                address = self.api.upload(job.photo, order.cancelled)
                self.journal.note_upload(digest, self.account, address)
        return address

    def _post(self, job: Job, address: str, order: Order) -> Answer:
        """Send the creating POST, with its row on disk before and its id straight after.

        One POST at a time leaves this machine: that makes the service's list, minus the journal,
        exactly the submissions whose answers were lost.
        """
        inputs = {**job.inputs(), "image": address}
        inputs |= {"enable_base64_output": True} if order.base64_output else {}
        inputs |= {"enable_sync_mode": True} if order.sync_mode else {}
        order.report("waiting", None)
        turn = self.pacer.wait_turn(order.cancelled)
        with self.journal.locks.hold(f"submit:{self.account}", self.clock, order.cancelled):
            if order.cancelled():
                raise RemoteCancelled
            order.report("submitting", None)
            self.journal.submitting(job.key, self.api.server_time())
            answer = self.api.submit(inputs)
            self.pacer.answered(turn)
            if answer.outcome is Outcome.ACCEPTED and answer.prediction:
                self._note_accepted(job, answer.prediction.id)
        return answer

    def _note_accepted(self, job: Job, prediction_id: str, *, adopted: bool = False) -> None:
        LOGGER.info("WaveSpeed prediction %s accepted", prediction_id)
        try:
            self.journal.accepted(job.key, prediction_id, adopted=adopted)
        except JournalError as error:
            # The row still says `submitting`, so that a later run looks for this prediction.
            LOGGER.warning("WaveSpeed prediction %s is not on record: %s", prediction_id, error)

    def _refusal(self, job: Job, answer: Answer) -> WaveSpeedError:
        sent = (
            f"Sent: size {job.size}, guidance_scale {job.guidance_scale}, seed {job.seed}, "
            f"output_format {job.output_format}, a prompt of {len(job.prompt)} characters, a photo "
            f"of {job.photo.width} x {job.photo.height} pixels."
        )
        return self.api.submit_refusal(answer, sent)

    # Finding a prediction whose answer was lost

    def _find_lost(self, job: Job, cause: str, order: Order) -> Prediction:
        self._move(job, State.UNKNOWN)
        found = self._look_for(job, cause, order)
        if found is None:
            raise RemoteOutcomeUnknown(cause)
        return found

    def _look_for(self, job: Job, cause: str, order: Order) -> Prediction | None:
        """The prediction of a lost answer, now on record; None when the service has none.

        Raises:
            RemoteOutcomeUnknown: Several could be it, or the service's list cannot be read.
        """
        row = self.journal.find(job.key)
        if row is None:
            return None
        order.report("looking for it", None)
        candidates: list[Prediction] = []
        age_s = max(0.0, self.api.server_time() - row.submitted_at)
        for look_s in [look_s for look_s in self.timing.reconcile_s if look_s > age_s] or [age_s]:
            self.clock.wait(look_s - age_s, order.cancelled)
            age_s = look_s
            with self.journal.locks.hold(f"submit:{self.account}", self.clock, order.cancelled):
                candidates = self._candidates(job, row, cause, order.cancelled)
                if len(candidates) == 1:
                    found = candidates[0]
                    is_guess = _how_found(found) == "adopted"
                    self._note_accepted(job, found.id, adopted=is_guess)
                    return found
        if candidates and not order.force:
            raise RemoteOutcomeUnknown(cause, [candidate.id for candidate in candidates])
        return None

    def _candidates(self, job: Job, row: Row, cause: str, cancelled: Cancelled) -> list[Prediction]:
        """Predictions that nobody on this machine owns and that may be this row's."""
        after_s = row.submitted_at - self.timing.reconcile_before_s
        before_s = row.submitted_at + self.timing.reconcile_after_s
        try:
            listed = self.api.predictions(after_s, before_s, cancelled)
        except (RemoteUnavailable, RemoteRejected, RemoteAuthError, RemoteCreditError) as error:
            raise RemoteOutcomeUnknown(f"{cause}; the list of predictions: {error}") from None
        found = [item for item in listed if not self.journal.is_known(item.id)]
        same = [item for item in found if self._is_same(job, item)]
        if same:
            # Asked for with one photo, prompt and seed, any of them is the picture.
            return same[:1] if len({_photo_address(item) for item in same}) == 1 else same
        untold = [item for item in found if not item.inputs]
        untold.sort(key=lambda item: item.created_s or row.submitted_at)
        rivals = [
            other
            for other in self.journal.unsettled(self.account)
            if after_s <= other.submitted_at <= before_s
        ]
        # POSTs leave one by one: as many strangers as lost answers means the same order.
        if len(untold) == len(rivals):
            return [
                item for item, rival in zip(untold, rivals, strict=True) if rival.key == row.key
            ]
        return [item for item in untold if _closest(item, rivals) == row.key]

    def _is_same(self, job: Job, item: Prediction) -> bool:
        """Whether a listed prediction was asked for with a job's inputs, as far as it tells."""
        if not item.inputs or not job.matches(item.inputs):
            return False
        photo = self.journal.photo_at(_photo_address(item), self.account)
        return photo is None or photo == job.photo.digest

    # Waiting for a prediction and fetching its image

    def _wait(self, prediction: Prediction, order: Order, *, known: bool) -> Prediction:
        """Look at a prediction until it is completed.

        Args:
            known: It was accepted in an earlier run, so that the first look is now.

        Raises:
            RemoteJobFailed, RemoteCreditError: It ended without an image.
            RemoteExpired: The service does not have it any more.
            RemoteTimeout: It still runs.
        """
        if prediction.status == COMPLETED and prediction.outputs:
            return prediction
        started = self.clock.monotonic()
        delays_s = chain(self.timing.poll_s, repeat(self.timing.poll_s[-1]))
        state = prediction.status or "created"
        while True:
            waited_s = self.clock.monotonic() - started
            if not known:
                self.clock.wait(
                    self._poll_delay_s(delays_s, state, waited_s, order), order.cancelled
                )
            known = False
            order.report(state, prediction.id)
            looked_at_s = self.clock.monotonic() - started
            found = self._look(prediction.id, order, looked_at_s)
            if found and found.status == COMPLETED:
                return found
            if found and found.status in ENDED:
                raise _failure(found, self.api)
            if found and found.status not in RUNNING | {state}:
                LOGGER.warning("WaveSpeed prediction %s is in an unknown state", prediction.id)
            state = found.status if found else state
            if looked_at_s >= order.max_wait_s:
                raise RemoteTimeout(prediction.id, self.api.clean(state)[:20], looked_at_s)

    def _poll_delay_s(
        self, delays_s: Iterator[float], state: str, waited_s: float, order: Order
    ) -> float:
        queued = state == "created" and waited_s > self.timing.queued_after_s
        delay_s = self.timing.queued_poll_s if queued else next(delays_s)
        return min(self.clock.jitter(delay_s), max(0.0, order.max_wait_s - waited_s))

    def _look(self, prediction_id: str, order: Order, waited_s: float) -> Prediction | None:
        """The present state; None when the service does not know the prediction yet."""
        within_s = max(order.max_wait_s - waited_s, self.timing.last_look_s)
        try:
            return self.api.prediction(
                prediction_id, order.cancelled, large=order.base64_output, within_s=within_s
            )
        except RemoteExpired:
            if waited_s >= self.timing.not_found_grace_s:
                raise
            return None

    def _fetch(self, prediction: Prediction, order: Order, source: Source) -> tuple[Delivery, bool]:
        """The images of a completed prediction, and whether this machine keeps them.

        Raises:
            RemoteDownloadFailed: Not within the allowed attempts.
            RemoteImageError: A file that is not an image within the limits.
        """
        for wait_s in self.timing.empty_outputs_s:
            if prediction.outputs:
                break
            self.clock.wait(wait_s, order.cancelled)
            prediction = self.api.prediction(prediction.id, order.cancelled)
        if not prediction.outputs:
            raise RemoteDownloadFailed(prediction.id, "it is completed without outputs")
        order.report("downloading", prediction.id)
        files, images = [], []
        for index in range(len(prediction.outputs)):
            data, image = self._fetch_one(prediction, index, order)
            files.append(data)
            images.append(image)
        facts = describe(prediction, self.api)
        kept = self.store.save(prediction.id, files, facts)
        warnings = _warnings(prediction, source)
        return Delivery(prediction.id, tuple(images), source, facts, 0.0, warnings), kept

    def _fetch_one(
        self, prediction: Prediction, index: int, order: Order
    ) -> tuple[bytes, NDArray[np.float32]]:
        cause = ""
        for wait_s in (*self.timing.download_retry_s, None):
            try:
                data = self._bytes(prediction.outputs[index], order.cancelled)
                return data, decode_image(data)
            except (Passing, TransportError) as error:
                cause = error.cause
            except UnsafeAddressError as error:
                raise RemoteDownloadFailed(prediction.id, str(error)) from None
            except RemoteImageError as error:
                if not error.damaged or wait_s is None:
                    raise RemoteImageError(error.reason, prediction.id) from None
            if wait_s is not None:
                self.clock.wait(self.clock.jitter(wait_s), order.cancelled)
                # An address may have expired: the prediction names a fresh one.
                fresh = self.api.prediction(prediction.id, order.cancelled)
                prediction = fresh if len(fresh.outputs) > index else prediction
        raise RemoteDownloadFailed(prediction.id, cause)

    def _bytes(self, output: str, cancelled: Cancelled) -> bytes:
        """The bytes of an output, which is an address or the image itself."""
        if not output.startswith(("http:", "https:")):
            data = decode_base64_output(output)
            if data is None:
                raise UnsafeAddressError("Refused an output that is neither https nor base64.")
            return data
        reply = self.api.download(output, cancelled)
        if reply.status != 200:
            raise Passing(f"the file host answered {reply.status}")
        return reply.body

    def _kept(self, prediction_id: str) -> Delivery | None:
        """A result that this machine still has, whole."""
        files, facts = self.store.load(prediction_id)
        try:
            images = tuple(map(decode_image, files))
        except RemoteImageError:
            return None
        return Delivery(prediction_id, images, "cache", facts) if images else None


UNREADABLE_MEDIA = 1402


def _is_live(row: Row, force: bool) -> bool:
    """Whether a row stands for a paid image; by force a delivered one does not count."""
    is_paid = row.state in PAID and row.prediction_id is not None
    return is_paid and not (force and row.state is State.DELIVERED)


def _photo_address(item: Prediction) -> str:
    """The address of the photo that a listed prediction was asked for with; empty if untold."""
    return str((item.inputs or {}).get("image", ""))


def _how_found(prediction: Prediction) -> Source:
    """Its inputs prove whose a found prediction is; without them it is taken by its time."""
    return "resumed" if prediction.inputs else "adopted"


def _closest(item: Prediction, rivals: Sequence[Row]) -> str:
    """The key of the row whose POST is closest in time to a prediction."""
    if not rivals:
        return ""
    created_s = item.created_s
    if created_s is None:
        return rivals[0].key
    return min(rivals, key=lambda rival: abs(rival.submitted_at - created_s)).key


def _warnings(prediction: Prediction, source: Source) -> tuple[str, ...]:
    warnings = []
    if source == "adopted":
        warnings.append(ADOPTED_WARNING)
    if any(prediction.has_nsfw_contents):
        warnings.append("WaveSpeed marks the image as not safe for work.")
    if prediction.model and prediction.model != MODEL:
        warnings.append(f"The prediction was made by another model than {MODEL}.")
    return tuple(warnings)


def _failure(prediction: Prediction, api: Api) -> WaveSpeedError:
    """The error for a prediction that ended without an image."""
    reason, code, task_id = api.clean(prediction.error), prediction.code, prediction.id
    if code in CREDIT_CODES or "insufficient" in reason.lower():
        return RemoteCreditError(prediction_id=task_id)
    if prediction.status != "failed":
        text = f"WaveSpeed ended the task as {prediction.status}: {reason}"
        billed = Billed.MAYBE
    elif code == 1200:
        text, billed = "Refused by content moderation. Change prompt or photo.", Billed.MAYBE
    elif code in (1400, 1401):
        text, billed = f"WaveSpeed rejected the inputs ({code}): {reason}", Billed.NO
    elif code == UNREADABLE_MEDIA:
        text = "WaveSpeed could not read the uploaded photo (1402). Run again: it is uploaded anew."
        billed = Billed.REFUNDED
    else:
        text, billed = f"Generation failed at WaveSpeed ({code}): {reason}", Billed.REFUNDED
    return RemoteJobFailed(
        task_id, reason, text=text, code=code, status=prediction.status, billed=billed
    )


def describe(prediction: Prediction, api: Api) -> dict[str, Any]:
    """Every field of the service's answer, for the metadata: no signatures, no image data."""
    return {
        "id": prediction.id,
        "model": api.clean(prediction.model),
        "outputs": [
            without_query(output) if output.startswith("http") else f"base64, {len(output)} long"
            for output in prediction.outputs
        ],
        "urls": {name: without_query(url) for name, url in prediction.urls.items()},
        "has_nsfw_contents": list(prediction.has_nsfw_contents),
        "status": api.clean(prediction.status),
        "created_at": api.clean(prediction.created_at),
        "error": api.clean(prediction.error),
        "timings": {"inference": prediction.inference_ms},
    }
