"""What can go wrong between this machine and WaveSpeedAI.

PaidJobError (pulid_core.paid_jobs.errors)
|-- RemoteAuthError       no key, a refused key, or a key without permission
|-- RemoteCreditError     not enough credit for the job
|-- RemoteRejected        the service refused the inputs; nothing was created
|   `-- RemoteModelGone   the service no longer knows the model
|-- RemoteRateLimited     still 429 after the allowed waits
|-- RemoteUnavailable     the service cannot be reached, or answers nothing usable
|-- RemoteOutcomeUnknown  the creating POST was sent and its answer was lost
|-- RemoteJobFailed       the prediction ended without an image
|-- RemoteTimeout         still running after the longest wait
|-- RemoteExpired         the service does not have the prediction (any more)
|-- RemoteDownloadFailed  the image is ready and could not be fetched
|-- RemoteImageError      the delivered file is not an image within the limits
|-- RemoteBudgetExceeded  the run would cost more than allowed
|-- RemoteInputError      an input outside its range, found before anything was sent
|-- RemoteBatchFailed     some jobs of a batch failed; the others are saved
|-- RemoteCancelled, UnsafeAddressError, JournalError (pulid_core.paid_jobs.errors)
"""

# ruff: noqa: N818 - the names say what happened

from __future__ import annotations

from collections.abc import Sequence

from ..errors import RemoteError
from ..paid_jobs.errors import (
    Billed,
    JournalError,
    PaidJobError,
    RemoteCancelled,
    UnsafeAddressError,
)

__all__ = ["Billed", "JournalError", "PaidJobError", "RemoteCancelled", "UnsafeAddressError"]

MODEL = "wavespeed-ai/flux-pulid"


class RemoteAuthError(PaidJobError):
    """No key, a refused key (401), or a key that may not do this (403)."""

    stops_batch = True


class RemoteCreditError(PaidJobError):
    """The account has not enough credit."""

    stops_batch = True


class RemoteRejected(PaidJobError):
    """The service refused a request; nothing was created.

    Attributes:
        status: HTTP status or the code in the envelope.
    """

    def __init__(self, status: int, text: str):
        self.status = status
        super().__init__(text)


class RemoteModelGone(RemoteRejected):
    """The service no longer knows the model."""

    stops_batch = True

    def __init__(self, status: int = 404):
        super().__init__(status, f"WaveSpeed does not know {MODEL} any more; update this pack.")


class RemoteRateLimited(PaidJobError):
    """Every allowed attempt was answered with 429."""

    def __init__(self) -> None:
        super().__init__(
            "Rate limit (429). New accounts may start 2 images a minute; lower the rate or wait."
        )


class RemoteUnavailable(PaidJobError):
    """The service could not be reached, or gave no usable answer."""

    def __init__(self, cause: str, prediction_id: str | None = None):
        if prediction_id:
            text = (
                f"WaveSpeed gives no usable answer about the prediction: {cause}. Run again to "
                "collect it; if it stays so, force_rerun pays for a new one."
            )
        else:
            text = f"Cannot reach WaveSpeed: {cause}. Nothing was ordered; try again later."
        billed = Billed.YES if prediction_id else Billed.NO
        super().__init__(text, prediction_id=prediction_id, billed=billed)


class RemoteOutcomeUnknown(PaidJobError):
    """The creating POST was sent and no answer says what became of it.

    Attributes:
        candidates: Predictions that may be the lost one.
    """

    def __init__(self, cause: str, candidates: Sequence[str] = ()):
        self.candidates = tuple(candidates)
        found = (
            f"Several predictions could be it: {', '.join(candidates)}. Look at them, free of charge, "
            "by their ids in prediction_id; or set force_rerun to pay for a new one."
            if candidates
            else "Run again: it is looked for first; see wavespeed.ai/predictions."
        )
        super().__init__(
            f"The request was sent but no usable answer came ({cause}). It may have been accepted "
            f"and billed. It was NOT sent again. {found}",
            billed=Billed.MAYBE,
        )


class RemoteJobFailed(PaidJobError):
    """The prediction ended without an image.

    Attributes:
        code: The service's task code, or None.
        status: The final state.
    """

    def __init__(
        self,
        text: str,
        prediction_id: str,
        *,
        status: str,
        code: int | None = None,
        billed: Billed = Billed.REFUNDED,
        bill: str = "",
    ):
        self.code = code
        self.status = status
        super().__init__(text, prediction_id=prediction_id, billed=billed, bill=bill)


class RemoteTimeout(PaidJobError):
    """The prediction is still running after the longest wait."""

    def __init__(self, prediction_id: str, state: str, waited_s: float):
        super().__init__(
            f"Still {state} after {waited_s:.0f} s. Not cancelled. Run again (or put the id into "
            "prediction_id) to collect it.",
            prediction_id=prediction_id,
            billed=Billed.YES,
        )


class RemoteExpired(PaidJobError):
    """The service does not have the prediction: after its 7 days, or before.

    Attributes:
        is_over: Whether its 7 days are over, by this machine's clock and by the service's.
    """

    def __init__(self, prediction_id: str, *, is_over: bool):
        self.is_over = is_over
        text = (
            f"Prediction {prediction_id} is older than 7 days, and WaveSpeed deleted it. Running again "
            "generates a new image."
            if is_over
            else f"WaveSpeed says that it has no prediction {prediction_id}, which it keeps for 7 days. "
            "Run again later to collect it, look for it at wavespeed.ai/predictions, or set force_rerun "
            "to pay for a new one."
        )
        super().__init__(text, prediction_id=prediction_id, billed=Billed.YES)


class RemoteDownloadFailed(PaidJobError):
    """The image exists at the service and could not be fetched."""

    def __init__(self, prediction_id: str, cause: str):
        super().__init__(
            f"The image is ready but could not be downloaded: {cause}. Run again, free of charge, "
            "within 7 days; if it stays so, force_rerun pays for a new one.",
            prediction_id=prediction_id,
            billed=Billed.YES,
        )


class RemoteImageError(PaidJobError):
    """The delivered file is not a PNG, JPEG or WebP within the limits.

    Attributes:
        reason: Which limit, with both values.
        damaged: True when another download may give the whole file.
    """

    def __init__(self, reason: str, prediction_id: str | None = None, *, damaged: bool = False):
        self.reason = reason
        self.damaged = damaged
        super().__init__(
            f"WaveSpeed delivered a file that is not a PNG, JPEG or WebP within limits ({reason}). Run "
            "again: it is downloaded anew, free of charge; if it stays so, force_rerun pays for a new "
            "one.",
            prediction_id=prediction_id,
            billed=Billed.YES,
        )


class RemoteBudgetExceeded(PaidJobError):
    """The run would cost more than the caller allows.

    Attributes:
        cost_usd: What the run would cost.
    """

    def __init__(self, count: int, cost_usd: float, limit_usd: float, *, found_none: bool = False):
        self.cost_usd = cost_usd
        lead = "The lost image was looked for and not found. " if found_none else ""
        super().__init__(
            f"{lead}This run would cost about ${cost_usd:.2f} for {count} image(s), above "
            f"max_cost_usd=${limit_usd:.2f}. Nothing was sent."
        )


class RemoteInputError(PaidJobError):
    """An input outside its range; found on this machine, before anything was sent."""


class RemoteBatchFailed(PaidJobError):
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
