"""One request and its answer as they are seen on the wire: what left, how long each part takes.

A watch beside the exchange hangs up when a part takes too long or the caller wants to stop. A
socket's own time-out could not: it counts from byte to byte, and a server that sends one now and
then keeps it waiting for ever.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import urllib3
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from .addresses import AddressPolicy
from .clock import Cancelled
from .errors import RemoteCancelled

MIB = 1024 * 1024
WATCH_S = 0.1


@dataclass(frozen=True)
class Limits:
    """Bounds of one exchange.

    Attributes:
        connect_s: Seconds until the connection stands, proxy and encryption included.
        read_s: Seconds from the sent request to the last header of the answer.
        total_s: Seconds for the body of the request, and for that of the answer.
        body_bytes: Of the answer's body.
    """

    connect_s: float = 10
    read_s: float = 30
    total_s: float = 120
    body_bytes: int = MIB


class Exchange:
    """What one thread is exchanging with a server; a context manager.

    Attributes:
        sent: Whether a byte of the request itself, not of a proxy's CONNECT, may have left.
        ending: RemoteCancelled or TimeoutError, when the watch hung up.
    """

    def __init__(
        self, limits: Limits, cancelled: Cancelled, monotonic: Callable[[], float] = time.monotonic
    ):
        self.limits = limits
        self.sent = False
        self.ending: type[Exception] | None = None
        self._cancelled = cancelled
        self._sockets: list[socket.socket] = []
        self._guard = threading.Lock()
        self._over = threading.Event()
        self._monotonic = monotonic
        self.allow(limits.connect_s)

    def __enter__(self) -> Exchange:
        # While Python ends no thread can be started; the sockets' own time-outs remain.
        with contextlib.suppress(RuntimeError):
            threading.Thread(target=self._watch, name="wavespeed-watch", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with self._guard:
            while self._sockets:
                self._sockets.pop().close()

    @property
    def left_s(self) -> float:
        """Seconds until the present part has taken too long, at least a moment."""
        return max(0.05, self._end - self._monotonic())

    def allow(self, seconds: float) -> None:
        """Begin the next part."""
        self._end = self._monotonic() + seconds

    def use(self, connected: socket.socket) -> None:
        """Watch a connection, through a handle that no layer on top of it can close or replace."""
        with self._guard:
            if not self._over.is_set():
                self._sockets.append(socket.socket(fileno=socket.dup(connected.fileno())))

    def _watch(self) -> None:
        while not self._over.wait(WATCH_S):
            if self._cancelled():
                self.ending = RemoteCancelled
            elif self._monotonic() > self._end:
                self.ending = TimeoutError
            if self.ending:
                self._hang_up()

    def _hang_up(self) -> None:
        with self._guard:
            for handle in self._sockets:
                with contextlib.suppress(OSError):
                    handle.shutdown(socket.SHUT_RDWR)


class Exchanges(threading.local):
    """The exchange of each thread."""

    current: Exchange


class WatchedAdapter(HTTPAdapter):
    """Connects with checked addresses, and tells the thread's exchange what happens."""

    def __init__(self, policy: AddressPolicy, exchanges: Exchanges):
        self._policy = policy
        self._exchanges = exchanges
        super().__init__(pool_maxsize=32, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools of connections, watched."""
        super().init_poolmanager(*args, **kwargs)
        self._guard(self.poolmanager, self._policy)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Make the pools of connections to a proxy, watched."""
        is_new = proxy not in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **kwargs)
        if is_new:
            self._guard(manager, None)  # a proxy may be anywhere, and resolves names itself
        return manager

    def _guard(self, manager: urllib3.PoolManager, policy: AddressPolicy | None) -> None:
        manager.pool_classes_by_scheme = {
            scheme: type(
                "Pool",
                (pool,),
                {"ConnectionCls": _watched(pool.ConnectionCls, scheme, policy, self._exchanges)},
            )
            for scheme, pool in manager.pool_classes_by_scheme.items()
        }


def _watched(base: Any, scheme: str, policy: AddressPolicy | None, exchanges: Exchanges) -> type:
    """A connection class that reports to the exchange of its thread."""

    class Watched(base):
        def _new_conn(self) -> socket.socket:
            exchange = exchanges.current
            connected = (
                super()._new_conn() if policy is None else _connect(self, scheme, policy, exchange)
            )
            exchange.use(connected)
            return connected

        def endheaders(self, *args: Any, **kwargs: Any) -> Any:
            """Send the request's first byte: from here on nobody can say that it was not read."""
            exchange = exchanges.current
            if self.sock is None:
                self.connect()
            else:
                exchange.use(self.sock)
            exchange.sent = True
            exchange.allow(exchange.limits.total_s)
            # Python bounds a whole body by the socket's time-out, which was that for connecting.
            connected: Any = self.sock
            connected.settimeout(exchange.limits.total_s)
            return super().endheaders(*args, **kwargs)

        def getresponse(self, *args: Any, **kwargs: Any) -> Any:
            exchange = exchanges.current
            exchange.allow(exchange.limits.read_s)
            response = super().getresponse(*args, **kwargs)
            exchange.allow(exchange.limits.total_s)
            return response

    return Watched


def _connect(
    connection: Any, scheme: str, policy: AddressPolicy, exchange: Exchange
) -> socket.socket:
    """Connect to one of the addresses that were checked, so that a name cannot be bound anew."""
    host, port = connection.host, connection.port or 443
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise NewConnectionError(connection, str(error)) from error
    for *_, address in found:
        policy.check_peer(scheme, host, port, str(address[0]))
    failure: OSError = OSError("no address")
    for family, kind, protocol, _, address in found:
        connected = socket.socket(family, kind, protocol)
        try:
            for option in connection.socket_options or ():
                connected.setsockopt(*option)
            connected.settimeout(exchange.left_s)
            connected.connect(address)
        except OSError as error:
            connected.close()
            failure = error
        else:
            return connected
    if isinstance(failure, TimeoutError):
        raise ConnectTimeoutError(connection, "no connection in time") from failure
    raise NewConnectionError(connection, str(failure)) from failure
