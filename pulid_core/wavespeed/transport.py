"""HTTP with limits: https to public addresses only, bounded time, bounded size, no redirects.

A request either gives a Reply or raises TransportError, which says whether the request can have
reached the service. That one fact decides if a paid request may be sent again.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from .clock import Cancelled, never
from .credentials import NoAuth
from .errors import RemoteCancelled, UnsafeAddressError

CLIENT_NAME = "pulid-for-flux"
MIB = 1024 * 1024
MAX_REDIRECTS = 3

_CHUNK = 64 * 1024
_HIDDEN_NAMES = re.compile(r"(?i)(^[^.]*|\.local|\.internal|\.localhost|\.home\.arpa)\.?$")
_LOGGED_QUERY = re.compile(r"\?\S*")


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


@dataclass(frozen=True)
class Limits:
    """Bounds of one request: seconds, and bytes of the answer's body."""

    connect_s: float = 10
    read_s: float = 30
    total_s: float = 120
    body_bytes: int = MIB


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


@dataclass(frozen=True)
class AddressPolicy:
    """Which addresses may be spoken to: https on port 443 of public hosts.

    `trusted_origins` ("http://127.0.0.1:8123") are exempt, for a service run by hand.
    """

    trusted_origins: frozenset[str] = frozenset()

    def check_url(self, url: str) -> None:
        """Refuse a URL that is malformed, not https, or names a host that cannot be public.

        Raises:
            UnsafeAddressError: With the reason, without the address.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise UnsafeAddressError("Refused a malformed address.") from None
        if parts.username or parts.password or parts.fragment or "\\" in url:
            raise UnsafeAddressError("Refused an address with a user name or a fragment.")
        if _origin(parts) in self.trusted_origins:
            return
        if parts.scheme != "https" or port not in (None, 443) or not parts.hostname:
            raise UnsafeAddressError("Refused an address that is not https on the usual port.")
        try:
            self._check_ip(parts.hostname)
        except ValueError:
            if _HIDDEN_NAMES.search(parts.hostname):
                raise UnsafeAddressError("Refused the name of a private host.") from None

    def check_peer(self, scheme: str, host: str, port: int, ip: str) -> None:
        """Refuse a resolved address that is not public.

        Raises:
            UnsafeAddressError: The address is private, loopback, link-local or reserved.
        """
        bracketed = f"[{host}]" if ":" in host else host
        if f"{scheme}://{bracketed}:{port}" not in self.trusted_origins:
            self._check_ip(ip)

    @staticmethod
    def _check_ip(ip: str) -> None:
        address = ipaddress.ip_address(ip.strip("[]").split("%")[0])
        mapped = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
        if not address.is_global or address.is_multicast or (mapped and not mapped.is_global):
            raise UnsafeAddressError("Refused an address inside a private network.")


PUBLIC_ONLY = AddressPolicy()


def _origin(parts: SplitResult) -> str:
    return f"{parts.scheme}://{parts.netloc}"


def _guarded(base: type[HTTPConnection], scheme: str, policy: AddressPolicy) -> type:
    """A connection class that checks the addresses of a host, and bounds the wait for headers."""

    class Guarded(base):
        def _new_conn(self) -> socket.socket:
            # An unknown name falls through: the connection attempt itself reports it.
            with contextlib.suppress(socket.gaierror, UnicodeError):
                for info in socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM):
                    self._check(str(info[4][0]))
            connected = super()._new_conn()
            try:
                self._check(connected.getpeername()[0])  # the name may have been bound anew
            except UnsafeAddressError:
                connected.close()
                raise
            return connected

        def _check(self, ip: str) -> None:
            policy.check_peer(scheme, self.host, self.port or 443, ip)

        def getresponse(self, *args: Any, **kwargs: Any) -> Any:
            # A socket time-out counts from byte to byte; this one bounds the headers as a whole.
            is_late = threading.Event()
            current = self.sock
            timer = threading.Timer(current.gettimeout() or 60, _hang_up, [current, is_late])
            timer.daemon = True
            # While Python ends no thread can be started; the socket's own time-out remains.
            with contextlib.suppress(RuntimeError):
                timer.start()
            try:
                response = super().getresponse(*args, **kwargs)
            finally:
                timer.cancel()
            if is_late.is_set():
                response.close()
                raise TimeoutError("the headers took too long")
            return response

    return Guarded


def _hang_up(connected: socket.socket, is_late: threading.Event) -> None:
    is_late.set()
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


class _Adapter(HTTPAdapter):
    """Connects through guarded connections, except to a proxy, which resolves names itself."""

    def __init__(self, policy: AddressPolicy):
        self._policy = policy
        super().__init__(pool_maxsize=32, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        plain = _guarded(HTTPConnection, "http", self._policy)
        secure = _guarded(HTTPSConnection, "https", self._policy)
        self.poolmanager.pool_classes_by_scheme = {
            "http": type("Pool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
            "https": type("Pool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
        }


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
    """Sends requests within limits.

    Also tracks how far the service's clock is from ours (`server_offset_s`, from Date headers),
    so that a wrong system time does not hide a lost submission.
    """

    def __init__(
        self, policy: AddressPolicy = PUBLIC_ONLY, *, wall: Callable[[], float] = time.time
    ):
        self.policy = policy
        self.server_offset_s = 0.0
        self._wall = wall
        self._session = self._new_session()
        for name in ("urllib3.connection", "urllib3.connectionpool"):
            logging.getLogger(name).addFilter(_query_filter)

    def close(self) -> None:
        """Close the idle connections."""
        self._session.close()

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
            RemoteCancelled: `cancelled` said so while the body was read.
        """
        self.policy.check_url(url)
        session = self._new_session() if fresh else self._session
        try:
            failure = None
            try:
                return self._exchange(session, method, url, limits, auth, cancelled, content)
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
                failure = _failure(error)
            # Outside the handler, so that no request with its headers hangs on the error.
            raise failure
        finally:
            if fresh:
                session.close()

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
            url = urljoin(url, target)
        raise UnsafeAddressError("Refused a file behind more than three redirects.")

    def _new_session(self) -> _Session:
        session = _Session()
        session.headers.update(
            {
                "User-Agent": CLIENT_NAME,
                "X-Client-Name": CLIENT_NAME,
                "Accept-Encoding": "identity",
            }
        )
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for prefix in ("http://", "https://"):
            session.mount(prefix, _Adapter(self.policy))
        return session

    def _exchange(
        self,
        session: requests.Session,
        method: str,
        url: str,
        limits: Limits,
        auth: AuthBase | None,
        cancelled: Cancelled,
        content: dict[str, Any],
    ) -> Reply:
        with session.request(
            method,
            url,
            auth=auth or NoAuth(),
            allow_redirects=False,
            stream=True,
            timeout=(limits.connect_s, limits.read_s),
            **content,
        ) as response:
            if auth:
                self._note_server_time(response.headers.get("Date"))
            body = b"".join(_read(response, limits, cancelled))
            return Reply(response.status_code, response.headers, body)

    def _note_server_time(self, date: str | None) -> None:
        with contextlib.suppress(TypeError, ValueError):
            self.server_offset_s = parsedate_to_datetime(date or "").timestamp() - self._wall()


def _read(response: requests.Response, limits: Limits, cancelled: Cancelled) -> Iterator[bytes]:
    """The body in pieces, as they arrive."""
    read = getattr(response.raw, "read1", response.raw.read)  # urllib3 1.x has no read1
    end = time.monotonic() + limits.total_s
    size = 0
    while chunk := read(_CHUNK, decode_content=True):
        size += len(chunk)
        if size > limits.body_bytes:
            raise TransportError(
                Sent.MAYBE, f"the answer is larger than {limits.body_bytes / MIB:g} MiB"
            )
        if time.monotonic() > end:
            raise TransportError(Sent.MAYBE, f"the answer took longer than {limits.total_s:g} s")
        if cancelled():
            raise RemoteCancelled
        yield chunk
    announced = response.headers.get("Content-Length", "")
    if announced.isdigit() and "Content-Encoding" not in response.headers and size < int(announced):
        raise TransportError(Sent.MAYBE, "the answer was cut off")


_CAUSES: tuple[tuple[type[BaseException], Sent, str], ...] = (
    (ssl.SSLCertVerificationError, Sent.NEVER_WILL, "the certificate is not valid"),
    (requests.exceptions.ProxyError, Sent.NEVER_WILL, "the proxy refused"),
    (requests.exceptions.InvalidProxyURL, Sent.NEVER_WILL, "the proxy address is malformed"),
    (requests.exceptions.ConnectTimeout, Sent.NO, "no connection in time"),
    (socket.gaierror, Sent.NO, "its name cannot be resolved"),
    (urllib3.exceptions.NewConnectionError, Sent.NO, "the connection could not be made"),
    (requests.exceptions.ReadTimeout, Sent.MAYBE, "no answer in time"),
    (urllib3.exceptions.ReadTimeoutError, Sent.MAYBE, "no answer in time"),
    (urllib3.exceptions.IncompleteRead, Sent.MAYBE, "the answer was cut off"),
    (requests.exceptions.InvalidURL, Sent.NEVER_WILL, "the address is malformed"),
    (requests.exceptions.SSLError, Sent.MAYBE, "the encrypted connection broke"),
)
"""Which failure says what; the first that occurs anywhere in the chain of causes decides."""


def _failure(error: BaseException) -> TransportError:
    chain = list(_chain(error))
    for kind, sent, cause in _CAUSES:
        if any(isinstance(link, kind) for link in chain):
            return TransportError(sent, cause)
    return TransportError(Sent.MAYBE, "the connection was lost")


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
