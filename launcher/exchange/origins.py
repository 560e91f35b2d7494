"""Where a guest may go: origins by name, addresses by kind.

A name is only looked up here, on the node's side, and the connection is made to the very address that was judged, so a
name that changes its mind between the two gains nothing.
"""

import ipaddress
import socket
from typing import Final, NamedTuple, Self
from urllib.parse import urlsplit

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
LONGEST_HOST: Final = 253  # RFC 1035 section 2.3.4, without the final dot

# Addresses of another family that carry an IPv4 address which somebody on the way unpacks.
NAT64_NETWORK: Final = ipaddress.IPv6Network("64:ff9b::/96")


class Origin(NamedTuple):
    """A host, in lower case, without brackets and without a final dot, and a TCP port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `https://HOST[:PORT]/…`, `http://…` or `HOST:PORT`.

        Raises:
            ValueError: It names no host, or no port and none follows from its scheme.
        """
        parts = urlsplit(text if "://" in text else f"//{text}")
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
        host = (parts.hostname or "").lower().rstrip(".")
        if not 0 < len(host) <= LONGEST_HOST or port is None:
            raise ValueError(f"{text[:LONGEST_HOST]!r} names no host and port: write HOST:PORT or an http or https URL")
        return cls(host, port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def why_refused(address: str) -> str | None:
    """Return what is wrong with an address as a guest's destination, as "a private address" and the like, or None.

    Only addresses of the public Internet that are not this node's own are right.
    """
    ip = _unfold(ipaddress.ip_address(address.partition("%")[0]))
    if ip.is_loopback:
        return "a loopback address"
    if ip.is_link_local:
        return "a link-local address"
    if ip.is_multicast:
        return "a multicast address"
    if ip.is_unspecified:
        return "the unspecified address"
    if not ip.is_global:
        return "a private address"
    if _is_own(ip):
        return "an address of this node"
    return None


def _unfold(ip: IPAddress) -> IPAddress:
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in NAT64_NETWORK:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else ip)


def _is_own(ip: IPAddress) -> bool:
    """Whether packets to the address stay on this node: then the kernel sends them from that same address."""
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(ip), 9))  # a datagram socket's connect sends nothing
        except OSError:
            return False
        return bool(probe.getsockname()[0] == str(ip))
