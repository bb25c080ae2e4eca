"""What the service answers, checked and typed; never an error, whatever it sends."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any

from ..paid_jobs.journal import KEPT_S
from ..paid_jobs.transport import Reply, wait_asked_s
from .codes import OK, RATE_LIMITED, REFUSED_CODES, REFUSED_STATUS
from .images import DELIVERY_MAX_FILES

_ID = re.compile(r"[A-Za-z0-9_-]{8,128}")
_MOMENT = re.compile(
    r"([12]\d{3}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,6})\d*)?\s*(Z|z|[+-]\d\d:?\d\d)?"
)
"""ISO times with any number of digits, of which Python 3.10 reads three or six only."""


class Outcome(Enum):
    """What became of a creating POST."""

    ACCEPTED = "a prediction exists and its id is known"
    REJECTED = "refused; nothing was created"
    RATE_LIMITED = "refused for now; nothing was created"
    NOT_SENT = "never left this machine; a second try may"
    UNREACHABLE = "never left this machine; a second try would not either"
    UNKNOWN = "nobody can say"


@dataclass(frozen=True)
class Prediction:
    """A prediction as the service describes it.

    Attributes:
        outputs: Addresses of the images, or the images in base64; at most 8.
        dropped: How many outputs there were beyond.
        inference_ms: Milliseconds of computation, or None.
        code: The service's task code, or None.
        inputs: What the prediction was asked for, where the service tells.
    """

    id: str
    model: str = ""
    status: str = ""
    outputs: tuple[str, ...] = field(default=(), repr=False)
    dropped: int = 0
    urls: Mapping[str, str] = field(default_factory=dict, repr=False)
    has_nsfw_contents: tuple[bool, ...] = ()
    created_at: str = ""
    error: str = field(default="", repr=False)
    inference_ms: float | None = None
    code: int | None = None
    inputs: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def created_s(self) -> float | None:
        """When it was created, seconds since 1970, or None when the service does not say."""
        moment = parse_moment(self.created_at)
        return moment and moment.timestamp()


@dataclass(frozen=True)
class Answer:
    """What is known after a creating POST.

    Attributes:
        status: The HTTP status, or the envelope's code where that is worse; 0 without an answer.
        message: The service's own words, not cleaned; without an answer what happened instead.
        retry_after_s: Seconds the service asked to wait, or None.
    """

    outcome: Outcome
    status: int = 0
    prediction: Prediction | None = None
    message: str = field(default="", repr=False)
    retry_after_s: float | None = None


def is_prediction_id(text: object) -> bool:
    """Whether a text may stand in a path as a prediction id."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def status_of(reply: Reply) -> int:
    """The HTTP status of an answer, or the envelope's code where that is worse."""
    code = integer((reply.json() or {}).get("code"))
    return code if 200 <= reply.status < 300 and code is not None and code != OK else reply.status


def outcome(reply: Reply) -> Answer:
    """What a whole answer to the creating POST means; whatever is not listed is unknown.

    An id always wins: there is a prediction, whatever the status says.
    """
    envelope = reply.json() or {}
    prediction = parse_prediction(envelope.get("data"))
    status, message = status_of(reply), message_of(envelope)
    if prediction:
        return Answer(Outcome.ACCEPTED, status, prediction, message)
    if status == RATE_LIMITED:
        return Answer(Outcome.RATE_LIMITED, status, None, message, wait_asked_s(reply))
    if status in (REFUSED_STATUS if status == reply.status else REFUSED_CODES):
        return Answer(Outcome.REJECTED, status, None, message)
    return Answer(Outcome.UNKNOWN, status, None, message)


def parse_prediction(data: object) -> Prediction | None:
    """A prediction from the `data` of an envelope, or None when it has no usable id."""
    data = record(data)
    if not is_prediction_id(data.get("id")):
        return None
    outputs, nsfw = data.get("outputs"), data.get("has_nsfw_contents")
    inputs = data.get("inputs", data.get("input"))
    listed = outputs if isinstance(outputs, list) else []
    named = [text for text in listed if isinstance(text, str) and text]
    return Prediction(
        id=data["id"],
        model=_text(data.get("model")),
        status=_text(data.get("status")),
        outputs=tuple(named[:DELIVERY_MAX_FILES]),
        dropped=max(0, len(named) - DELIVERY_MAX_FILES),
        urls={str(k): _text(v) for k, v in record(data.get("urls")).items()},
        has_nsfw_contents=tuple(flag is True for flag in nsfw) if isinstance(nsfw, list) else (),
        created_at=_text(data.get("created_at")),
        error=_text(data.get("error")),
        inference_ms=number(
            record(data.get("timings")).get("inference", data.get("executionTime"))
        ),
        code=integer(data.get("code")),
        inputs=inputs if isinstance(inputs, dict) else None,
    )


def parse_moment(text: str) -> datetime | None:
    """A time of the service, which is UTC where it names no zone; None for anything else."""
    match = _MOMENT.match(text)
    if not match:
        return None
    day, time, fraction, zone = match.groups()
    zone = "+00:00" if zone in (None, "Z", "z") else f"{zone[:3]}:{zone[-2:]}"
    try:
        moment = datetime.fromisoformat(f"{day}T{time}.{(fraction or '').ljust(6, '0')}{zone}")
        moment.timestamp()
        return moment.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None


def expiry(created_at: str) -> str:
    """About when the service deletes a prediction, as an ISO time; empty when unknown."""
    moment = parse_moment(created_at)
    return (moment + timedelta(seconds=KEPT_S)).isoformat() if moment else ""


def message_of(envelope: Mapping[str, Any]) -> str:
    """The service's own words, wherever it put them."""
    for name in ("message", "error", "detail", "msg"):
        value = envelope.get(name)
        value = record(value).get("message", value)
        if isinstance(value, str) and value.strip():
            return value
    return ""


def items_of(envelope: Mapping[str, Any]) -> list[Any] | None:
    """The list in an envelope, wherever it stands; None when there is none."""
    data = envelope.get("data")
    items = record(data).get("items", record(data).get("predictions", data))
    return items if isinstance(items, list) else None


def record(value: object) -> dict[str, Any]:
    """A JSON object; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def number(value: object, least: float = 0.0) -> float | None:
    """A value as a number to count with, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if least <= value < 1e12 else None


def integer(value: object) -> int | None:
    """A value as an integer that fits anywhere, or None."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if abs(value) < 2**53 else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
