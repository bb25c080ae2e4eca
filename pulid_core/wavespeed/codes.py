"""The service's states, statuses and task codes, what they mean, and what to tell the user.

Sources: wavespeed.ai/docs/error-codes, the clients' tables, and what other programs report (1406,
1407). A status or code that is not listed says nothing about a payment.
"""

from __future__ import annotations

from ..paid_jobs.errors import Billed

COMPLETED = "completed"
ENDED = frozenset({"failed", "cancelled", "timeout", "deleted"})

OK = 200
RATE_LIMITED = 429
NO_CREDIT = frozenset({402, 1407})
UNKNOWN_THERE = frozenset({404, 410})
UNREADABLE_PHOTO = 1402
MODERATED = 1200

REFUSED_STATUS = frozenset({400, 401, 402, 403, 404, 405, 410, 413, 415, 422})
"""HTTP statuses of a complete answer that says no. A redirect says nothing."""
REFUSED_CODES = REFUSED_STATUS | {1200, 1400, 1401, 1402, 1407}
"""And what an envelope says with HTTP status 200."""

KEY_REFUSED = (
    "WaveSpeed refused the API key (401). Copy it again from wavespeed.ai/accesskey; new keys may need "
    "a top-up."
)
REFUSALS = {
    MODERATED: "Refused by content moderation. Change prompt or photo.",
    UNREADABLE_PHOTO: "WaveSpeed could not read the uploaded photo (1402). Run again: it is uploaded "
    "anew.",
    413: "The reference image is too large for WaveSpeed (413). Use a smaller photo.",
}
"""Texts of refusals that say more than the service's words."""

TASK_BILLED = {MODERATED: Billed.MAYBE, 1400: Billed.NO, 1401: Billed.NO, 1407: Billed.NO}
"""Who pays for a failed task, by its code; others are refunded by the service's policy."""
