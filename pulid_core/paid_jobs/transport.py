"""HTTP with limits: https to public addresses only, bounded time, bounded size, no redirects.

A request either gives a Reply or raises TransportError, which says whether the request can have
reached the service: not what the failure is called, but whether its first byte left. That one fact
decides if a paid request may be sent again.
"""

from __future__ import annotations

import json
import logging
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urljoin

import requests
import urllib3
from requests.auth import AuthBase

from .addresses import PUBLIC_ONLY, AddressPolicy
from .clock import Cancelled, never
from .errors import RemoteCancelled, UnsafeAddressError
from .exchange import MIB, Exchange, Exchanges, Limits, WatchedAdapter

CLIENT_NAME = "pulid-for-flux"
MAX_REDIRECTS = 3

_CHUNK = 64 * 1024
_LOGGED_QUERY = re.compile(r"\?\S*")
_YEARS = (946684800.0, 4102444800.0)
"""2000 and 2100, seconds since 1970: a service whose clock is outside tells no time."""


class Sent(Enum):
    """What a failed request leaves behind at the service."""

    NO = "never left this machine"
    NEVER_WILL = "never left this machine, and a second try would not either"
    MAYBE = "may have been read"


class TransportError(Exception):
    """No reply.

    Attributes:
        sent: Whether the request can have reached the service.
        cause: What happened, in a few words without addresses.
    """

    def __init__(self, sent: Sent, cause: str):
        self.sent = sent
        self.cause = cause
        super().__init__(cause)


class _Unusable(Exception):  # noqa: N818 - never leaves this file
    """An answer that is refused; the text says why."""


@dataclass(frozen=True)
class Reply:
    """An answer, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any] | None:
        """The body as a JSON object, or None when it is something else."""
        try:
            parsed = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return parsed if isinstance(parsed, dict) else None


class _QueryFilter(logging.Filter):
    """Takes the queries of URLs, which may be signatures, out of urllib3's log lines."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                _LOGGED_QUERY.sub("", argument) if isinstance(argument, str) else argument
                for argument in record.args
            )
        return True


_query_filter = _QueryFilter()


class _Session(requests.Session):
    """Never looks at a redirect: requests would read its body, however long, to prepare it."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:  # noqa: ARG002
        return None


class Transport:
    """Sends requests within limits, and notes the service's clock.

    Args:
        monotonic: What the limits, and the time since an answer, are measured by.
    """

    def __init__(
        self,
        policy: AddressPolicy = PUBLIC_ONLY,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ):
        self.policy = policy
        self._monotonic = monotonic
        self._served_at: tuple[float, float] | None = None
        self._exchanges = Exchanges()
        self._session = self._new_session()
        for name in ("urllib3.connection", "urllib3.connectionpool"):
            logging.getLogger(name).addFilter(_query_filter)

    @property
    def server_time(self) -> float | None:
        """The service's time, seconds since 1970, as its last answer told it; None before one.

        Counted on from there by a clock that ignores changes of the system time.
        """
        served_at = self._served_at
        return served_at and served_at[0] + self._monotonic() - served_at[1]

    def send(
        self,
        method: str,
        url: str,
        *,
        limits: Limits,
        auth: AuthBase | None = None,
        fresh: bool = False,
        cancelled: Cancelled = never,
        **content: Any,
    ) -> Reply:
        """Send one request once.

        Args:
            fresh: Use a new connection. A kept one may be dead already, and then nobody can say
                whether the request was read.
            content: `json`, `data`, `files` or `headers`, as in requests.

        Raises:
            TransportError: There is no whole answer within the limits.
            UnsafeAddressError: The address must not be spoken to.
            RemoteCancelled: `cancelled` said so; the connection is closed within a second.
        """
        self.policy.check_url(url)
        with (
            closing(self._new_session()) if fresh else nullcontext(self._session) as session,
            Exchange(limits, cancelled, self._monotonic) as exchange,
        ):
            self._exchanges.current = exchange
            try:
                reply = self._exchange(session, method, url, auth, exchange, content)
                if exchange.ending is None:
                    return reply
                failure = _ended(exchange)
            except UnsafeAddressError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever an answer makes of libraries
                failure = _ended(exchange) if exchange.ending else _failure(error, exchange)
            # Outside the handler, so that no request with its headers hangs on the error.
            raise failure

    def download(self, url: str, *, limits: Limits, cancelled: Cancelled = never) -> Reply:
        """Fetch a public file, following up to three redirects, each checked anew.

        Raises:
            As `send`.
        """
        for _ in range(MAX_REDIRECTS + 1):
            reply = self.send("GET", url, limits=limits, cancelled=cancelled)
            target = reply.headers.get("Location")
            if reply.status not in (301, 302, 303, 307, 308) or not target:
                return reply
            try:
                url = urljoin(url, target)
            except ValueError:
                raise UnsafeAddressError("Refused a malformed address.") from None
        raise UnsafeAddressError("Refused a file behind more than three redirects.")

    def _new_session(self) -> _Session:
        session = _Session()
        session.headers.update(
            {"User-Agent": CLIENT_NAME, "X-Client-Name": CLIENT_NAME, "Accept-Encoding": "identity"}
        )
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for prefix in ("http://", "https://"):
            session.mount(prefix, WatchedAdapter(self.policy, self._exchanges))
        return session

    def _exchange(
        self,
        session: requests.Session,
        method: str,
        url: str,
        auth: AuthBase | None,
        exchange: Exchange,
        content: dict[str, Any],
    ) -> Reply:
        limits = exchange.limits
        with session.request(
            method,
            url,
            auth=auth or (lambda request: request),  # so that ~/.netrc sends nothing either
            allow_redirects=False,
            stream=True,
            # The watch ends first; these remain where it could not be started.
            timeout=(limits.connect_s + 1, limits.read_s + 1),
            **content,
        ) as response:
            if auth:
                self._note_server_time(response.headers.get("Date", ""))
            body = b"".join(_read(response, limits))
            return Reply(response.status_code, response.headers, body)

    def _note_server_time(self, date: str) -> None:
        try:
            served_at = parsedate_to_datetime(date).timestamp()
        except (TypeError, ValueError, OverflowError):
            return
        if _YEARS[0] < served_at < _YEARS[1]:
            self._served_at = served_at, self._monotonic()


def _read(response: requests.Response, limits: Limits) -> Iterator[bytes]:
    """The body in pieces, as they arrive."""
    if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise _Unusable("the answer is compressed, which was not asked for")
    read = getattr(response.raw, "read1", response.raw.read)  # urllib3 1.x has no read1
    size = 0
    while chunk := read(_CHUNK, decode_content=False):
        size += len(chunk)
        if size > limits.body_bytes:
            raise _Unusable(f"the answer is larger than {limits.body_bytes / MIB:g} MiB")
        yield chunk
    announced = response.headers.get("Content-Length", "")
    if re.fullmatch(r"[0-9]{1,18}", announced) and size < int(announced):
        raise _Unusable("the answer was cut off")


_CAUSES: tuple[tuple[type[BaseException], str], ...] = (
    (ssl.SSLCertVerificationError, "the certificate is not valid"),
    (requests.exceptions.InvalidProxyURL, "the proxy address is malformed"),
    (requests.exceptions.InvalidURL, "the address is malformed"),
    (requests.exceptions.ConnectTimeout, "no connection in time"),
    (socket.gaierror, "its name cannot be resolved"),
    (requests.exceptions.ProxyError, "the proxy refused, or cannot be reached"),
    (urllib3.exceptions.NewConnectionError, "the connection could not be made"),
    (requests.exceptions.ReadTimeout, "no answer in time"),
    (urllib3.exceptions.ReadTimeoutError, "no answer in time"),
    (urllib3.exceptions.IncompleteRead, "the answer was cut off"),
    (requests.exceptions.SSLError, "the encrypted connection broke"),
    (OSError, "the connection was lost"),
    (urllib3.exceptions.HTTPError, "the connection was lost"),
)
"""What to call a failure; the first that occurs anywhere in the chain of causes decides."""
_HOPELESS = (ssl.SSLCertVerificationError, requests.exceptions.InvalidURL)
"""Failures that a second try would meet again."""
_BEFORE_SENDING = {"the proxy refused, or cannot be reached", "the connection could not be made"}


def _ended(exchange: Exchange) -> Exception:
    """The error for an exchange that the watch ended."""
    if exchange.ending is RemoteCancelled:
        return RemoteCancelled()
    if exchange.sent:
        return TransportError(Sent.MAYBE, "no answer in time")
    return TransportError(Sent.NO, "no connection in time")


def _failure(error: Exception, exchange: Exchange) -> TransportError:
    if isinstance(error, _Unusable):
        return TransportError(Sent.MAYBE, str(error))
    chain = list(_chain(error))
    cause = "the answer cannot be read" if exchange.sent else "the request cannot be made"
    for kind, words in _CAUSES:
        if any(isinstance(link, kind) for link in chain):
            cause = words
            break
    if not exchange.sent:
        is_hopeless = any(isinstance(link, _HOPELESS) for link in chain)
        return TransportError(Sent.NEVER_WILL if is_hopeless else Sent.NO, cause)
    return TransportError(
        Sent.MAYBE, "the connection was lost" if cause in _BEFORE_SENDING else cause
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, its causes, and the errors that requests and urllib3 keep as arguments."""
    seen: set[int] = set()
    pending: list[object] = [error]
    while pending:
        link = pending.pop()
        # What is called a reason is an error here and a text there.
        if not isinstance(link, BaseException) or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        pending += [link.__cause__, link.__context__, getattr(link, "reason", None), *link.args]


def wait_asked_s(reply: Reply, most_s: float = 120.0) -> float | None:
    """Seconds from a Retry-After header, 1 to `most_s`, or None."""
    value = reply.headers.get("Retry-After", "").strip()
    if not re.fullmatch(r"[0-9]+", value):
        return None
    return min(max(float(value[:9]), 1.0), most_s) if len(value) < 10 else most_s
