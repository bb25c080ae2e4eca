"""Which addresses may be spoken to."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from .errors import UnsafeAddressError

_PRIVATE_NAMES = re.compile(
    r"(?i)(^[^.]*|(^|\.)(local|internal|localhost|home\.arpa|lan|home|intranet|private|corp|localdomain))$"
)
_NUMBERS = re.compile(r"(?i)(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+))*")
"""Every way to write an IPv4 address that resolvers know: 127.1, 0x7f.0.0.1, 2130706433."""
_EMBEDDING = tuple(
    map(ipaddress.IPv6Network, ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48"))
)
"""IPv6 networks whose last 32 bits are an IPv4 address: compatible, translated and NAT64."""


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
        self._check_host(parts.hostname.rstrip("."))

    def check_peer(self, scheme: str, host: str, port: int, ip: str) -> None:
        """Refuse a resolved address that is not public.

        Raises:
            UnsafeAddressError: The address is private, loopback, link-local or reserved.
        """
        bracketed = f"[{host}]" if ":" in host else host
        if f"{scheme}://{bracketed}:{port}" not in self.trusted_origins:
            _check_ip(ip)

    @staticmethod
    def _check_host(host: str) -> None:
        """Check a host before it is resolved; behind a proxy nobody here resolves it."""
        try:
            _check_ip(host)
        except ValueError:
            if _NUMBERS.fullmatch(host) or _PRIVATE_NAMES.search(host):
                raise UnsafeAddressError("Refused the name of a private host.") from None


PUBLIC_ONLY = AddressPolicy()


def _origin(parts: SplitResult) -> str:
    return f"{parts.scheme}://{parts.netloc}"


def _check_ip(ip: str) -> None:
    """Refuse an address that is not public, or that carries one that is not.

    Raises:
        ValueError: It is no address.
    """
    address = ipaddress.ip_address(ip.strip("[]").split("%")[0])
    carried = [address]
    if isinstance(address, ipaddress.IPv6Address):
        carried += [inner for inner in (address.ipv4_mapped, address.sixtofour) if inner]
        carried += [inner for inner in address.teredo or () if inner]
        if any(address in network for network in _EMBEDDING):
            carried.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    # A NAT64 prefix of its own is a way to the inner address, public or not.
    is_translated = address in _EMBEDDING[2] if address.version == 6 else False
    outer_is_public = is_translated or (address.is_global and not address.is_multicast)
    if not outer_is_public or not all(inner.is_global for inner in carried[1:]):
        raise UnsafeAddressError("Refused an address inside a private network.")
