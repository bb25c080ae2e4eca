"""What a refusal of the service means, as an error: of an order, and of a question about one."""

from __future__ import annotations

from typing import Any

from . import codes
from .errors import (
    Billed,
    PaidJobError,
    RemoteAuthError,
    RemoteCreditError,
    RemoteModelGone,
    RemoteRejected,
    RemoteUnavailable,
)


def refusal(status: int, reason: str, sent: str = "") -> PaidJobError:
    """The error for a refused request that is not about a paid prediction.

    Args:
        reason: The service's words, cleaned.
        sent: What was sent, for the user to compare; nothing secret.
    """
    if status in codes.NO_CREDIT:
        return RemoteCreditError(
            "Not enough WaveSpeed credit for this image. Top up at wavespeed.ai."
        )
    if status == 401:
        return RemoteAuthError(codes.KEY_REFUSED)
    if status == 403:
        return RemoteAuthError(f"Account suspended, or this key may not do this (403): {reason}")
    text = codes.REFUSALS.get(
        status, f"WaveSpeed rejected the inputs ({status}): {reason}. {sent}".strip()
    )
    return RemoteRejected(status, text)


def refused_order(status: int, reason: str, sent: str) -> PaidJobError:
    """The error for a refused creating POST; arguments as `refusal`."""
    if status in (404, 405, 410):
        return RemoteModelGone(status)
    return refusal(status, reason, sent)


def refused_question(status: int, reason: str, prediction_id: str) -> PaidJobError | None:
    """The error for a question about a paid prediction that the service does not answer."""
    about: dict[str, Any] = {"prediction_id": prediction_id, "billed": Billed.YES}
    if status == 401:
        return RemoteAuthError(f"{codes.KEY_REFUSED} The image is collected then.", **about)
    if status in codes.NO_CREDIT:
        return RemoteCreditError(
            "WaveSpeed does not show a paid image while the credit is used up "
            f"({status}). Top up at wavespeed.ai, then run again to collect it.",
            **about,
        )
    if status == 403:
        return RemoteAuthError(
            f"The account or this key may not see the paid image (403): {reason}. Mend that, then "
            "run again to collect it.",
            **about,
        )
    if status in codes.REFUSED_CODES:
        return RemoteUnavailable(f"it refuses the question ({status}): {reason}", prediction_id)
    return None
