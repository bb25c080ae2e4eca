"""WaveSpeed's API v3, one method per endpoint, every answer checked and typed.

Requests that change nothing are repeated on passing failures. The creating POST is sent once per
call of `Api.submit`; what its answer means is the table in `outcome`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from enum import Enum
from typing import Any, TypeVar

from .clock import Cancelled, Clock, Timing, never
from .credentials import ApiKey, clean_message
from .errors import (
    MODEL,
    Billed,
    RemoteAuthError,
    RemoteCreditError,
    RemoteExpired,
    RemoteModelGone,
    RemoteRejected,
    RemoteUnavailable,
    UnsafeAddressError,
    WaveSpeedError,
)
from .images import DELIVERY_MAX_BYTES, EncodedPhoto
from .transport import Limits, Reply, Sent, Transport, TransportError

BASE_URL = "https://api.wavespeed.ai"

Result = TypeVar("Result")

_ID = re.compile(r"[A-Za-z0-9_-]{8,128}")
_CREDIT = re.compile(r"(?i)insufficient|not enough (credit|balance)")

_QUERY = Limits()
_BASE64 = Limits(body_bytes=2 * DELIVERY_MAX_BYTES)
_SUBMIT = Limits(read_s=60)
_SYNC = Limits(read_s=120, total_s=180, body_bytes=2 * DELIVERY_MAX_BYTES)
_UPLOAD = Limits(read_s=120)
_DOWNLOAD = Limits(body_bytes=DELIVERY_MAX_BYTES)


@dataclass(frozen=True)
class ApiLimits:
    """Bounds of each kind of request."""

    query: Limits = _QUERY
    base64: Limits = _BASE64
    submit: Limits = _SUBMIT
    sync: Limits = _SYNC
    upload: Limits = _UPLOAD
    download: Limits = _DOWNLOAD


RUNNING = frozenset({"created", "processing"})
ENDED = frozenset({"failed", "cancelled", "timeout", "deleted"})
COMPLETED = "completed"

CREDIT_CODES = frozenset({402, 1407})
_REJECTED_STATUS = frozenset({400, 401, 402, 403, 404, 405, 413, 415, 422, *range(300, 400)})
_REJECTED_CODES = _REJECTED_STATUS | {1200, 1400, 1401, 1402, 1407}


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
        outputs: Addresses of the images, or the images in base64.
        inference_ms: Milliseconds of computation, or None.
        code: The service's task code, or None.
        inputs: What the prediction was asked for, where the service tells.
    """

    id: str
    model: str = ""
    status: str = ""
    outputs: tuple[str, ...] = field(default=(), repr=False)
    urls: Mapping[str, str] = field(default_factory=dict, repr=False)
    has_nsfw_contents: tuple[bool, ...] = ()
    created_at: str = ""
    error: str = field(default="", repr=False)
    inference_ms: int | None = None
    code: int | None = None
    inputs: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def created_s(self) -> float | None:
        """When it was created, seconds since 1970, or None when the service does not say."""
        try:
            return datetime.fromisoformat(self.created_at.replace("Z", "+00:00")).timestamp()
        except (ValueError, OverflowError):
            return None


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


_UNANSWERED = {
    Sent.NO: Outcome.NOT_SENT,
    Sent.NEVER_WILL: Outcome.UNREACHABLE,
    Sent.MAYBE: Outcome.UNKNOWN,
}


class Passing(Exception):  # noqa: N818 - never leaves this package
    """A failure that may be gone a little later.

    Attributes:
        wait_s: Seconds the service asked to wait, or None.
    """

    def __init__(self, cause: str, wait_s: float | None = None):
        self.cause = cause
        self.wait_s = wait_s
        super().__init__(cause)


def is_prediction_id(text: object) -> bool:
    """Whether a text may stand in a path as a prediction id."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def outcome(reply: Reply) -> Answer:
    """What an answer to the creating POST means; whatever is not listed is unknown."""
    envelope = reply.json() or {}
    prediction = parse_prediction(envelope.get("data"))
    code = _integer(envelope.get("code"))
    message = _message(envelope)
    status = reply.status
    if 200 <= status < 300 and code is not None and code != 200:
        status = code
    if prediction and reply.status not in _REJECTED_STATUS:
        return Answer(Outcome.ACCEPTED, status, prediction, message)
    if status == 429:
        return Answer(Outcome.RATE_LIMITED, status, None, message, _retry_after(reply))
    if status in (_REJECTED_STATUS if status == reply.status else _REJECTED_CODES):
        return Answer(Outcome.REJECTED, status, None, message)
    return Answer(Outcome.UNKNOWN, status, None, message)


def parse_prediction(data: object) -> Prediction | None:
    """A prediction from the `data` of an envelope, or None when it has no usable id."""
    if not isinstance(data, dict) or not is_prediction_id(data.get("id")):
        return None
    outputs, nsfw = data.get("outputs"), data.get("has_nsfw_contents")
    urls, timings = data.get("urls"), data.get("timings")
    inputs = data.get("inputs", data.get("input"))
    timing = timings.get("inference") if isinstance(timings, dict) else data.get("executionTime")
    return Prediction(
        id=data["id"],
        model=_text(data.get("model")),
        status=_text(data.get("status")),
        outputs=tuple(filter(None, map(_text, outputs))) if isinstance(outputs, list) else (),
        urls={str(k): _text(v) for k, v in urls.items()} if isinstance(urls, dict) else {},
        has_nsfw_contents=tuple(flag is True for flag in nsfw) if isinstance(nsfw, list) else (),
        created_at=_text(data.get("created_at")),
        error=_text(data.get("error")),
        inference_ms=_integer(timing),
        code=_integer(data.get("code")),
        inputs=inputs if isinstance(inputs, dict) else None,
    )


class Api:
    """The endpoints, for one key.

    Args:
        base_url: Only for a service run by hand; the policy of the transport must trust it.
        private: Texts that no message may repeat: the prompts.
    """

    def __init__(
        self,
        key: ApiKey,
        transport: Transport,
        *,
        base_url: str = BASE_URL,
        clock: Clock | None = None,
        timing: Timing | None = None,
        limits: ApiLimits | None = None,
        private: Sequence[str] = (),
    ):
        self._key = key
        self._private = tuple(filter(None, private))
        self._transport = transport
        self._root = base_url.rstrip("/") + "/api/v3"
        self._clock = clock or Clock()
        self._timing = timing or Timing()
        self._limits = limits or ApiLimits()

    def server_time(self) -> float:
        """The service's clock, seconds since 1970, as far as its answers told it."""
        return self._clock.wall() + self._transport.server_offset_s

    def clean(self, text: str) -> str:
        """A foreign text without the key, prompts, signatures and control characters."""
        for private in self._private:
            text = text.replace(private, "[prompt]")
        return clean_message(self._key.hide(text))

    def submit(self, inputs: Mapping[str, Any]) -> Answer:
        """Send the creating POST, once, on a connection of its own."""
        limits = self._limits.sync if inputs.get("enable_sync_mode") else self._limits.submit
        try:
            reply = self._send("POST", f"/{MODEL}", limits=limits, fresh=True, json=dict(inputs))
        except TransportError as error:
            return Answer(_UNANSWERED[error.sent], message=error.cause)
        except UnsafeAddressError as error:
            return Answer(Outcome.UNREACHABLE, message=str(error))
        return outcome(reply)

    def prediction(
        self,
        prediction_id: str,
        cancelled: Cancelled = never,
        *,
        large: bool = False,
        within_s: float = math.inf,
    ) -> Prediction:
        """The present state of a prediction.

        Args:
            large: The answer may hold images in base64.
            within_s: Give up instead of beginning another attempt later than that.

        Raises:
            RemoteExpired: The service does not know it.
            RemoteAuthError: The key was refused.
            RemoteUnavailable: No usable answer after every repetition.
        """
        if not is_prediction_id(prediction_id):
            raise RemoteRejected(400, "That is not a prediction id: 8 to 128 letters or digits.")
        limits = self._limits.base64 if large else self._limits.query

        def look() -> Prediction:
            path = f"/predictions/{prediction_id}/result"
            envelope = self._ask(
                "GET", path, limits=limits, cancelled=cancelled, prediction_id=prediction_id
            )
            found = parse_prediction(envelope.get("data"))
            if found is None or found.id != prediction_id:
                raise Passing("the answer does not describe the prediction")
            return found

        try:
            return self._patiently(look, cancelled, prediction_id, within_s)
        except RemoteRejected as error:
            if error.status == 404:
                raise RemoteExpired(prediction_id) from None
            raise

    def predictions(
        self, created_after_s: float, created_before_s: float, cancelled: Cancelled = never
    ) -> list[Prediction]:
        """The predictions of this model in a window of time, seconds since 1970.

        Raises:
            RemoteAuthError: The key was refused.
            RemoteUnavailable: No usable answer after every repetition.
        """
        found: list[Prediction] = []
        for page in range(1, 11):
            query = {
                "page": page,
                "page_size": 100,
                "model": MODEL,
                "created_after": _iso(created_after_s),
                "created_before": _iso(created_before_s),
            }
            items = self._patiently(lambda query=query: self._list(query, cancelled), cancelled)
            found += [item for item in map(parse_prediction, items) if item]
            if len(items) < 100:
                break
        # The filters are the service's; what it sends is checked here once more.
        return [
            item
            for item in found
            if item.model in ("", MODEL)
            and created_after_s <= (item.created_s or created_after_s) <= created_before_s
        ]

    def _list(self, query: dict[str, Any], cancelled: Cancelled) -> list[Any]:
        envelope = self._ask("POST", "/predictions", cancelled=cancelled, json=query)
        data = envelope.get("data")
        items = data.get("items", data.get("predictions")) if isinstance(data, dict) else data
        if not isinstance(items, list):
            raise Passing("the answer is not a list of predictions")
        return items

    def upload(self, photo: EncodedPhoto, cancelled: Cancelled = never) -> str:
        """Upload a photo; returns its address, which the service deletes after 7 days.

        Raises:
            RemoteAuthError: The key was refused.
            RemoteRejected: The service does not take the file.
            RemoteUnavailable: No usable answer after every repetition.
            UnsafeAddressError: The service names an address that must not be spoken to.
        """
        try:
            return self._patiently(lambda: self._upload_form(photo, cancelled), cancelled)
        except RemoteRejected as error:
            if error.status not in (404, 405, 410):
                raise
        return self._patiently(lambda: self._upload_by_ticket(photo, cancelled), cancelled)

    def _upload_form(self, photo: EncodedPhoto, cancelled: Cancelled) -> str:
        envelope = self._ask(
            "POST",
            "/media/upload/binary",
            limits=self._limits.upload,
            cancelled=cancelled,
            files={"file": (photo.filename, photo.data, photo.content_type)},
        )
        return self._checked_address(envelope.get("data"), "download_url")

    def _upload_by_ticket(self, photo: EncodedPhoto, cancelled: Cancelled) -> str:
        ticket = {
            "filename": photo.filename,
            "size": len(photo.data),
            "content_type": photo.content_type,
        }
        data = self._ask("POST", "/media/uploads", cancelled=cancelled, json=ticket).get("data")
        order = data.get("upload") if isinstance(data, dict) else None
        target = self._checked_address(order, "url")
        address = self._checked_address(data, "download_url")
        given = order.get("headers") if isinstance(order, dict) else None
        headers = {str(k): str(v) for k, v in given.items()} if isinstance(given, dict) else {}
        try:
            reply = self._transport.send(
                "PUT",
                target,
                limits=self._limits.upload,
                cancelled=cancelled,
                data=photo.data,
                headers=headers,
            )
        except TransportError as error:
            raise Passing(error.cause) from None
        if not 200 <= reply.status < 300:
            raise Passing(f"the upload was answered with {reply.status}")
        return address

    def _checked_address(self, data: object, name: str) -> str:
        address = data.get(name) if isinstance(data, dict) else None
        if not isinstance(address, str):
            raise Passing("the answer names no address")
        self._transport.policy.check_url(address)
        return address

    def balance_usd(self, cancelled: Cancelled = never) -> float:
        """The credit of the account, US dollars.

        Raises:
            RemoteAuthError: The key was refused.
            RemoteUnavailable: No usable answer after every repetition.
        """

        def look() -> float:
            return _amount(self._ask("GET", "/balance", cancelled=cancelled), "balance", least=-1e9)

        return self._patiently(look, cancelled)

    def price_usd(self, inputs: Mapping[str, Any], cancelled: Cancelled = never) -> float:
        """The price of one image with these inputs, US dollars, discount included.

        Raises:
            As `balance_usd`.
        """
        query = {"model_id": MODEL, "inputs": dict(inputs)}

        def look() -> float:
            envelope = self._ask("POST", "/model/price", cancelled=cancelled, json=query)
            return _amount(envelope, "discounted_price", "price", "unit_price")

        return self._patiently(look, cancelled)

    def download(self, url: str, cancelled: Cancelled = never) -> Reply:
        """Fetch an output, once, without the key.

        Raises:
            TransportError: There is no whole answer within the limits.
            UnsafeAddressError: The address must not be spoken to.
        """
        return self._transport.download(url, limits=self._limits.download, cancelled=cancelled)

    def _ask(
        self,
        method: str,
        path: str,
        *,
        limits: Limits | None = None,
        prediction_id: str | None = None,
        **rest: Any,
    ) -> dict[str, Any]:
        """The envelope of an answer to a request that changes nothing.

        Raises:
            Passing: Worth another try.
            RemoteAuthError, RemoteRejected: Not worth another try.
        """
        try:
            reply = self._send(method, path, limits=limits or self._limits.query, **rest)
        except TransportError as error:
            if error.sent is Sent.NEVER_WILL:
                raise self.unreachable(error.cause, prediction_id) from None
            raise Passing(error.cause) from None
        envelope = reply.json()
        code = _integer((envelope or {}).get("code"))
        status = code if reply.status == 200 and code is not None else reply.status
        if status == 429:
            raise Passing("rate limit (429)", _retry_after(reply) or self._timing.rate_limit_s)
        if status in _REJECTED_CODES or status == 410:
            raise self.refusal(status, _message(envelope or {}), prediction_id=prediction_id)
        if status != 200 or envelope is None:
            raise Passing(f"status {status}" if status != 200 else "the answer is not JSON")
        return envelope

    def _send(self, method: str, path: str, *, limits: Limits, **rest: Any) -> Reply:
        return self._transport.send(
            method, self._root + path, limits=limits, auth=self._key, **rest
        )

    def _patiently(
        self,
        attempt: Callable[[], Result],
        cancelled: Cancelled,
        prediction_id: str | None = None,
        within_s: float = math.inf,
    ) -> Result:
        """Repeat an attempt while it fails in passing, at most six times in all."""
        cause = ""
        end = self._clock.monotonic() + within_s
        for wait_s in (*self._timing.read_retry_s, None):
            try:
                return attempt()
            except Passing as failure:
                cause = failure.cause
                asked_s = failure.wait_s
            if wait_s is not None:
                pause_s = min(asked_s or wait_s, self._timing.retry_after_max_s)
                if self._clock.monotonic() + pause_s > end:
                    break
                self._clock.wait(self._clock.jitter(pause_s), cancelled)
        raise self.unreachable(cause, prediction_id)

    @staticmethod
    def unreachable(cause: str, prediction_id: str | None = None) -> RemoteUnavailable:
        """The error for a service that cannot be asked."""
        if prediction_id:
            return RemoteUnavailable(
                cause,
                f"WaveSpeed gives no usable answer about the prediction: {cause}. "
                "Run again to collect it.",
                prediction_id=prediction_id,
                billed=Billed.YES,
            )
        return RemoteUnavailable(
            cause, f"Cannot reach WaveSpeed: {cause}. Nothing was ordered; try again later."
        )

    def refusal(
        self,
        status: int,
        message: str,
        *,
        sent: str = "",
        prediction_id: str | None = None,
    ) -> WaveSpeedError:
        """The error for a refused request, by its status or code.

        Args:
            message: The service's words.
            sent: What was sent, for the user to compare; nothing secret.
            prediction_id: The paid prediction that was asked about, if it was one.
        """
        billed = Billed.YES if prediction_id else Billed.NO
        reason = self.clean(message)
        if status in CREDIT_CODES or _CREDIT.search(reason):
            return RemoteCreditError()
        if status == 401:
            return RemoteAuthError(
                "WaveSpeed refused the API key (401). Copy it again from wavespeed.ai/accesskey; "
                "new keys may need a top-up.",
                status=status,
                prediction_id=prediction_id,
                billed=billed,
            )
        if status == 403:
            return RemoteAuthError(
                f"Account suspended, or this key may not do this (403): {reason}",
                status=status,
                prediction_id=prediction_id,
                billed=billed,
            )
        texts = {
            1200: "Refused by content moderation. Change prompt or photo.",
            1402: "WaveSpeed could not read the uploaded photo (1402). Run again: it will be "
            "uploaded anew.",
            413: "The reference image is too large for WaveSpeed (413). Use a smaller photo.",
        }
        text = texts.get(status, f"WaveSpeed rejected the inputs ({status}): {reason}. {sent}")
        return RemoteRejected(status, text.strip(), reason)

    def submit_refusal(self, answer: Answer, sent: str) -> WaveSpeedError:
        """The error for a refused creating POST."""
        if answer.status in (404, 405):
            return RemoteModelGone(answer.status)
        return self.refusal(answer.status, answer.message, sent=sent)


def _message(envelope: Mapping[str, Any]) -> str:
    """The service's own words, wherever it put them."""
    for name in ("message", "error", "detail", "msg"):
        value = envelope.get(name)
        if isinstance(value, dict):
            value = value.get("message")
        if isinstance(value, str) and value.strip():
            return value
    return ""


def _retry_after(reply: Reply) -> float | None:
    """Seconds from a Retry-After header, 1 to 120, or None."""
    value = reply.headers.get("Retry-After", "").strip()
    return min(max(float(value), 1.0), 120.0) if value.isascii() and value.isdigit() else None


def _amount(envelope: Mapping[str, Any], *names: str, least: float = 0.0) -> float:
    """The first of the named numbers in an envelope's data that is not below `least`."""
    data = envelope.get("data")
    for name in names:
        value = data.get(name) if isinstance(data, dict) else None
        if isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value < 1e9:
            return float(value)
    raise Passing("the answer holds no amount")


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _iso(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
