"""WaveSpeed's API v3, one method per endpoint.

Requests that change nothing are repeated on passing failures. The creating POST is sent once per
call of `Api.submit`; what its answer means is the table in `answers.outcome`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ..paid_jobs.clock import Cancelled, Clock, never
from ..paid_jobs.crew import Result
from ..paid_jobs.exchange import Limits
from ..paid_jobs.transport import Reply, Sent, Transport, TransportError, wait_asked_s
from . import codes
from .answers import (
    Answer,
    Outcome,
    Prediction,
    items_of,
    message_of,
    number,
    outcome,
    parse_prediction,
    record,
    status_of,
)
from .credentials import ApiKey, clean_message, hide_prompts, without_query
from .errors import MODEL, RemoteUnavailable, UnsafeAddressError
from .images import DELIVERY_MAX_BYTES
from .refusals import refusal, refused_question
from .timing import Timing

BASE_URL = "https://api.wavespeed.ai"
PAGE, MAX_PAGES = 100, 10

Window = tuple[float, float]
"""From and to, seconds since 1970."""


@dataclass(frozen=True)
class ApiLimits:
    """Bounds of each kind of request; a result may hold images in base64."""

    query: Limits = Limits()  # noqa: RUF009 - frozen
    result: Limits = Limits(body_bytes=2 * DELIVERY_MAX_BYTES)  # noqa: RUF009
    submit: Limits = Limits(read_s=60, total_s=30)  # noqa: RUF009
    sync: Limits = Limits(read_s=120, body_bytes=2 * DELIVERY_MAX_BYTES)  # noqa: RUF009
    upload: Limits = Limits(read_s=120)  # noqa: RUF009
    download: Limits = Limits(body_bytes=DELIVERY_MAX_BYTES)  # noqa: RUF009


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


class UnknownThere(Exception):  # noqa: N818 - never leaves this package
    """The service says that it has no such prediction (404, 410)."""


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
        self._private = private
        self.transport = transport
        self._root = base_url.rstrip("/") + "/api/v3"
        self._clock = clock or Clock()
        self._timing = timing or Timing()
        self.limits = limits or ApiLimits()

    def clean(self, text: str, length: int = 300, *, is_address: bool = False) -> str:
        """A foreign text without the key, prompts, signatures and control characters, cut."""
        text = hide_prompts(self._key.hide(text), self._private)
        return clean_message(text, length, is_address=is_address)

    def clean_address(self, url: str) -> str:
        """The address of a picture, cleaned likewise, without what may be a signature."""
        return self.clean(without_query(url), is_address=" " not in url)

    def submit(self, inputs: Mapping[str, Any]) -> Answer:
        """Send the creating POST, once, on a connection of its own."""
        limits = self.limits.sync if inputs.get("enable_sync_mode") else self.limits.submit
        try:
            reply = self._send("POST", f"/{MODEL}", limits=limits, fresh=True, json=dict(inputs))
        except TransportError as error:
            return Answer(_UNANSWERED[error.sent], message=error.cause)
        except UnsafeAddressError as error:
            return Answer(Outcome.UNREACHABLE, message=error.text)
        return outcome(reply)

    def prediction(
        self, prediction_id: str, cancelled: Cancelled = never, *, within_s: float = math.inf
    ) -> Prediction:
        """The present state of a prediction.

        Args:
            within_s: Give up instead of beginning another attempt later than that.

        Raises:
            UnknownThere: The service says that it does not have it.
            RemoteAuthError, RemoteCreditError, RemoteUnavailable: The question was refused, or had no
                usable answer after every repetition. Neither says anything about the prediction.
        """

        def look() -> Prediction:
            path = f"/predictions/{prediction_id}/result"
            reply = self._ask("GET", path, limits=self.limits.result, cancelled=cancelled)
            status, envelope = status_of(reply), reply.json() or {}
            found = parse_prediction(envelope.get("data"))
            if found is not None and found.id == prediction_id and found.status:
                return found
            if reply.json() is not None and status in codes.UNKNOWN_THERE:
                raise UnknownThere
            refusal = refused_question(status, self.clean(message_of(envelope)), prediction_id)
            if refusal and reply.json() is not None:
                raise refusal
            raise Passing(_unusable(status, "the answer does not describe the prediction"))

        return self.patiently(look, cancelled, prediction_id, within_s)

    def predictions(
        self, windows: Sequence[Window], cancelled: Cancelled = never, *, by_service: bool = True
    ) -> list[Prediction]:
        """The predictions of this model that were created in any of several windows of time.

        Args:
            by_service: Let the service choose by time. Which form of a time it reads is not sure; a
                list that is empty is no proof before it was had without.

        Raises:
            PaidJobError: The list cannot be had.
        """
        found: dict[str, Prediction] = {}
        for window in windows if by_service else [None]:
            names = ("created_after", "created_before")
            times = dict(zip(names, map(_iso, window), strict=True)) if window else {}
            for page in range(1, MAX_PAGES + 1):
                query = {"page": page, "page_size": PAGE, "model": MODEL, **times}
                items = self.patiently(lambda query=query: self._list(query, cancelled), cancelled)
                found |= {item.id: item for item in filter(None, map(parse_prediction, items))}
                if len(items) < PAGE:
                    break
        # The filters are the service's; what it sends is checked here once more.
        return [
            item
            for item in found.values()
            if item.model.split(":")[0] in ("", MODEL)
            and any(
                after_s <= (item.created_s or after_s) <= before_s for after_s, before_s in windows
            )
        ]

    def _list(self, query: dict[str, Any], cancelled: Cancelled) -> list[Any]:
        items = items_of(self.envelope("POST", "/predictions", cancelled=cancelled, json=query))
        if items is None:
            raise Passing("the answer is not a list of predictions")
        return items

    def balance_usd(self, cancelled: Cancelled = never, *, patient: bool = True) -> float:
        """The credit of the account, US dollars.

        Raises:
            RemoteAuthError: The key was refused.
            RemoteUnavailable: No usable answer after every repetition, or at once.
        """

        def look() -> float:
            envelope = self.envelope("GET", "/balance", cancelled=cancelled)
            return _amount(envelope, "balance", least=-1e9)

        return self.patiently(look, cancelled, within_s=math.inf if patient else 0)

    def price_usd(self, inputs: Mapping[str, Any], cancelled: Cancelled = never) -> float:
        """The price of one image with these inputs, US dollars, discount included.

        Raises:
            As `balance_usd`.
        """
        query = {"model_id": MODEL, "inputs": dict(inputs)}

        def look() -> float:
            envelope = self.envelope("POST", "/model/price", cancelled=cancelled, json=query)
            return _amount(envelope, "discounted_price", "price", "unit_price")

        return self.patiently(look, cancelled)

    def bills_usd(
        self, prediction_ids: Sequence[str], cancelled: Cancelled = never
    ) -> dict[str, float]:
        """What predictions really cost, US dollars, as far as the service says; asked once.

        Raises:
            PaidJobError: The service does not say.
        """
        query = {"page": 1, "page_size": 100, "prediction_uuids": list(prediction_ids)[:100]}

        def look() -> list[Any]:
            return (
                items_of(self.envelope("POST", "/billings/search", cancelled=cancelled, json=query))
                or []
            )

        bills: dict[str, float] = {}
        for item in self.patiently(look, cancelled, within_s=0):
            name = record(record(item).get("prediction")).get("uuid")
            price = number(record(item).get("price"), least=-1e9)
            if price is not None and isinstance(name, str) and name in prediction_ids:
                # An older page shows millionths of a dollar.
                bills[name] = bills.get(name, 0.0) + (price if abs(price) < 100 else price / 1e6)
        return bills

    def cancel(self, prediction_id: str) -> None:
        """Ask the service to stop a prediction, as its page delete-task documents; once.

        Raises:
            PaidJobError: It does not take the request.
        """
        path = f"/predictions/{prediction_id}"
        self.patiently(lambda: self.envelope("DELETE", path), never, within_s=0)

    def download(self, url: str, cancelled: Cancelled = never) -> Reply:
        """Fetch an output, once, without the key.

        Raises:
            TransportError: There is no whole answer within the limits.
            UnsafeAddressError: The address must not be spoken to.
        """
        return self.transport.download(url, limits=self.limits.download, cancelled=cancelled)

    def _ask(self, method: str, path: str, *, limits: Limits | None = None, **rest: Any) -> Reply:
        """A whole answer to a request that changes nothing.

        Raises:
            Passing: Worth another try.
            RemoteUnavailable: Not worth another try.
        """
        try:
            reply = self._send(method, path, limits=limits or self.limits.query, **rest)
        except TransportError as error:
            if error.sent is Sent.NEVER_WILL:
                raise RemoteUnavailable(error.cause) from None
            raise Passing(error.cause) from None
        if status_of(reply) == codes.RATE_LIMITED:
            raise Passing("rate limit (429)", wait_asked_s(reply) or self._timing.rate_limit_s)
        return reply

    def envelope(self, method: str, path: str, **rest: Any) -> dict[str, Any]:
        """The envelope of a good answer.

        Raises:
            As `_ask`.
            RemoteAuthError, RemoteCreditError, RemoteRejected: The service refuses.
        """
        reply = self._ask(method, path, **rest)
        status, envelope = status_of(reply), reply.json()
        if status in codes.REFUSED_CODES:
            raise refusal(status, self.clean(message_of(envelope or {})))
        if status != codes.OK or envelope is None:
            raise Passing(_unusable(status, "the answer is not JSON"))
        return envelope

    def _send(self, method: str, path: str, *, limits: Limits, **rest: Any) -> Reply:
        return self.transport.send(method, self._root + path, limits=limits, auth=self._key, **rest)

    def patiently(
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
        raise RemoteUnavailable(cause, prediction_id)


def _unusable(status: int, otherwise: str) -> str:
    return f"status {status}" if status != codes.OK else otherwise


def _amount(envelope: Mapping[str, Any], *names: str, least: float = 0.0) -> float:
    """The first of the named numbers in an envelope's data that is not below `least`."""
    for name in names:
        amount = number(record(envelope.get("data")).get(name), least)
        if amount is not None and amount < 1e9:
            return amount
    raise Passing("the answer holds no amount")


def _iso(seconds: float) -> str:
    moment = datetime.fromtimestamp(min(max(seconds, 0.0), 253_000_000_000.0), timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
