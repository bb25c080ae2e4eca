"""What can go wrong between this machine and WaveSpeedAI.

RemoteError (pulid_core.errors)
`-- WaveSpeedError            knows the prediction id, if there is one, and whether it was billed
    |-- RemoteAuthError       no key, a refused key, or a key without permission
    |-- RemoteCreditError     not enough credit for the job
    |-- RemoteRejected        the service refused the inputs; nothing was created
    |   `-- RemoteModelGone   the service no longer knows the model
    |-- RemoteRateLimited     still 429 after the allowed waits
    |-- RemoteUnavailable     the service cannot be reached, or answers nothing usable
    |-- RemoteOutcomeUnknown  the creating POST was sent and its answer was lost
    |-- RemoteJobFailed       the prediction ended without an image
    |-- RemoteTimeout         still running after the longest wait
    |-- RemoteExpired         the prediction is older than seven days, or deleted
    |-- RemoteDownloadFailed  the image is ready and could not be fetched
    |-- RemoteImageError      the delivered file is not an image within the limits
    |-- RemoteBudgetExceeded  the run would cost more than allowed
    |-- RemoteInputError      an input outside its range, found before anything was sent
    |-- RemoteCancelled       the caller asked to stop
    |-- RemoteBatchFailed     some jobs of a batch failed; the others are saved
    |-- UnsafeAddressError    an address that must not be spoken to
    `-- JournalError          the record of paid jobs cannot be written
"""

# ruff: noqa: N818 - the names say what happened

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import ClassVar

from ..errors import RemoteError

MODEL = "wavespeed-ai/flux-pulid"


class Billed(str, Enum):
    """Whether the account was charged, as far as this machine can know."""

    NO = "not billed"
    YES = "billed"
    MAYBE = "possibly billed"
    REFUNDED = "refunded within about 3 hours by WaveSpeed's policy"


class WaveSpeedError(RemoteError):
    """Base of every error of the remote half.

    Attributes:
        prediction_id: The prediction it is about, or None.
        billed: Whether that prediction was charged.
    """

    stops_batch: ClassVar[bool] = False
    """True when every further job of the same run would fail alike."""

    def __init__(self, text: str, *, prediction_id: str | None = None, billed: Billed = Billed.NO):
        self.prediction_id = prediction_id
        self.billed = billed
        about = f"prediction {prediction_id}, " if prediction_id else ""
        super().__init__(f"{text} ({about}{billed.value})")


class RemoteAuthError(WaveSpeedError):
    """No key, a refused key (401), or a key that may not do this (403).

    Attributes:
        status: The HTTP status, or None when no request was made.
    """

    stops_batch = True

    def __init__(
        self,
        text: str,
        *,
        status: int | None = None,
        prediction_id: str | None = None,
        billed: Billed = Billed.NO,
    ):
        self.status = status
        super().__init__(text, prediction_id=prediction_id, billed=billed)


class RemoteCreditError(WaveSpeedError):
    """The account has not enough credit."""

    stops_batch = True

    def __init__(self, *, prediction_id: str | None = None, billed: Billed = Billed.NO):
        super().__init__(
            "Not enough WaveSpeed credit for this image. Top up at wavespeed.ai.",
            prediction_id=prediction_id,
            billed=billed,
        )


class RemoteRejected(WaveSpeedError):
    """The service refused a request; nothing was created.

    Attributes:
        status: HTTP status or the code in the envelope.
        reason: The service's own words, cleaned.
    """

    def __init__(self, status: int, text: str, reason: str = ""):
        self.status = status
        self.reason = reason
        super().__init__(text)


class RemoteModelGone(RemoteRejected):
    """The service no longer knows the model."""

    stops_batch = True

    def __init__(self, status: int = 404):
        super().__init__(status, f"WaveSpeed does not know {MODEL} any more; update this pack.")


class RemoteRateLimited(WaveSpeedError):
    """Every allowed attempt was answered with 429."""

    def __init__(self) -> None:
        super().__init__(
            "Rate limit (429). New accounts may start 2 images a minute; lower the rate or wait."
        )


class RemoteUnavailable(WaveSpeedError):
    """The service could not be reached, or gave no usable answer.

    Attributes:
        cause: What happened, in a few words.
    """

    def __init__(
        self,
        cause: str,
        text: str,
        *,
        prediction_id: str | None = None,
        billed: Billed = Billed.NO,
    ):
        self.cause = cause
        super().__init__(text, prediction_id=prediction_id, billed=billed)


class RemoteOutcomeUnknown(WaveSpeedError):
    """The creating POST was sent and no answer says what became of it.

    Attributes:
        cause: What happened to the answer, in a few words.
        candidates: Predictions that may be the lost one.
    """

    def __init__(self, cause: str, candidates: Sequence[str] = ()):
        self.cause = cause
        self.candidates = tuple(candidates)
        found = (
            f"Several predictions could be it: {', '.join(candidates)}. Put the right one into "
            "prediction_id, or set force_rerun to pay for a new one."
            if candidates
            else "Run again: it is looked for first; see wavespeed.ai/predictions."
        )
        super().__init__(
            f"The request was sent but no usable answer came ({cause}). It may have been accepted "
            f"and billed. It was NOT sent again. {found}",
            billed=Billed.MAYBE,
        )


class RemoteJobFailed(WaveSpeedError):
    """The prediction ended without an image.

    Attributes:
        task_id: The prediction.
        reason: The service's own words, cleaned.
        code: The service's task code, or None.
        status: The final state.
    """

    def __init__(
        self,
        task_id: str,
        reason: str,
        *,
        text: str,
        code: int | None = None,
        status: str = "failed",
        billed: Billed = Billed.REFUNDED,
    ):
        self.task_id = task_id
        self.reason = reason
        self.code = code
        self.status = status
        super().__init__(text, prediction_id=task_id, billed=billed)


class RemoteTimeout(WaveSpeedError):
    """The prediction is still running after the longest wait.

    Attributes:
        task_id: The prediction.
        waited_s: Seconds since it was accepted.
    """

    def __init__(self, task_id: str, state: str, waited_s: float):
        self.task_id = task_id
        self.waited_s = waited_s
        super().__init__(
            f"Still {state} after {waited_s:.0f} s. Not cancelled. Run again (or put the id into "
            "prediction_id) to collect it.",
            prediction_id=task_id,
            billed=Billed.YES,
        )


class RemoteExpired(WaveSpeedError):
    """The service no longer has the prediction."""

    def __init__(self, prediction_id: str):
        super().__init__(
            f"Prediction {prediction_id} is older than 7 days or deleted. "
            "Running again generates a new image.",
            prediction_id=prediction_id,
            billed=Billed.YES,
        )


class RemoteDownloadFailed(WaveSpeedError):
    """The image exists at the service and could not be fetched.

    Attributes:
        cause: What happened, in a few words.
    """

    def __init__(self, prediction_id: str, cause: str):
        self.cause = cause
        super().__init__(
            f"The image is ready but could not be downloaded: {cause}. Run again, free of charge, "
            "within 7 days.",
            prediction_id=prediction_id,
            billed=Billed.YES,
        )


class RemoteImageError(WaveSpeedError):
    """The delivered file is not a PNG, JPEG or WebP within the limits.

    Attributes:
        reason: Which limit, with both values.
        damaged: True when another download may give the whole file.
    """

    def __init__(self, reason: str, prediction_id: str | None = None, *, damaged: bool = False):
        self.reason = reason
        self.damaged = damaged
        super().__init__(
            f"WaveSpeed delivered a file that is not a PNG, JPEG or WebP within limits ({reason}).",
            prediction_id=prediction_id,
            billed=Billed.YES,
        )


class RemoteBudgetExceeded(WaveSpeedError):
    """The run would cost more than the caller allows.

    Attributes:
        cost_usd: What the run would cost.
        limit_usd: What the caller allows.
    """

    def __init__(self, count: int, cost_usd: float, limit_usd: float):
        self.cost_usd = cost_usd
        self.limit_usd = limit_usd
        super().__init__(
            f"This run would cost about ${cost_usd:.2f} for {count} image(s), above "
            f"max_cost_usd=${limit_usd:.2f}. Nothing was sent."
        )


class RemoteInputError(WaveSpeedError):
    """An input outside its range; found on this machine, before anything was sent."""


class RemoteCancelled(WaveSpeedError):
    """The caller asked to stop.

    Attributes:
        pending: Predictions that are being generated and will be billed.
    """

    def __init__(self, pending: int = 0):
        self.pending = pending
        text = (
            f"Stopped waiting. {pending} image(s) are already being generated and will be billed; "
            "run again with the same inputs to collect them free of charge."
            if pending
            else "Stopped. Nothing is being generated."
        )
        super().__init__(text, billed=Billed.YES if pending else Billed.NO)


class RemoteBatchFailed(WaveSpeedError):
    """Some jobs of a batch failed; the others are saved on this machine.

    Attributes:
        errors: One error per failed job, in job order.
        finished: How many jobs are saved.
    """

    def __init__(self, errors: Sequence[RemoteError], finished: int):
        self.errors = tuple(errors)
        self.finished = finished
        billed = {getattr(error, "billed", Billed.NO) for error in errors}
        super().__init__(
            f"{finished} of {finished + len(errors)} images finished and are saved; run again: "
            f"only the missing {len(errors)} are looked for, or billed. First error: {errors[0]}",
            billed=billed.pop() if len(billed) == 1 else Billed.MAYBE,
        )


class UnsafeAddressError(WaveSpeedError):
    """An address that must not be spoken to: not https, not public, or malformed."""


class JournalError(WaveSpeedError):
    """The record of paid jobs cannot be read or written."""
