"""Errors that know whether somebody paid, and those of the record and the network.

RemoteError (pulid_core.errors)
`-- PaidJobError            knows the job's id at the service, and whether it was billed
    |-- RemoteCancelled     the caller asked to stop
    |-- UnsafeAddressError  an address that must not be spoken to
    `-- JournalError        the record of paid jobs cannot be kept, or not be trusted
"""

# ruff: noqa: N818 - the names say what happened

from __future__ import annotations

from enum import Enum
from typing import ClassVar

from ..errors import RemoteError


class Billed(str, Enum):
    """Whether the account was charged, as far as this machine can know."""

    NO = "not billed"
    YES = "billed"
    MAYBE = "possibly billed"
    REFUNDED = "refunded within about 3 hours by WaveSpeed's policy"


class PaidJobError(RemoteError):
    """Base of every error about a request that may cost money.

    Attributes:
        text: What happened, without the brackets that name the prediction and the bill.
        prediction_id: The prediction it is about, or None.
        billed: Whether that prediction was charged.
    """

    stops_batch: ClassVar[bool] = False
    """True when every further job of the same run would fail alike."""

    def __init__(
        self,
        text: str,
        *,
        prediction_id: str | None = None,
        billed: Billed = Billed.NO,
        bill: str = "",
    ):
        self.text = text
        self.prediction_id = prediction_id
        self.billed = billed
        about = f"prediction {prediction_id}, " if prediction_id else ""
        super().__init__(f"{text} ({about}{bill or billed.value})")


class RemoteCancelled(PaidJobError):
    """The caller asked to stop.

    Attributes:
        pending: Predictions that are paid, or will be, and were not fetched.
    """

    def __init__(self, pending: int = 0):
        self.pending = pending
        text = (
            f"Stopped waiting. {pending} image(s) are already being generated or ready, and billed; "
            "run again with the same inputs to collect them free of charge."
            if pending
            else "Stopped. Nothing is being generated."
        )
        super().__init__(text, billed=Billed.YES if pending else Billed.NO)


class UnsafeAddressError(PaidJobError):
    """An address that must not be spoken to: not https, not public, or malformed."""


class JournalError(PaidJobError):
    """The record of paid jobs cannot be read, written, locked or trusted."""
