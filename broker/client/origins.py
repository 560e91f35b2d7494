"""Where addresses that somebody else wrote may lead: origins by name, addresses by kind.

The one judgement of the broker's and the launcher's own connections, and of those that a launcher makes for its vms.

What it does not solve: an address of the public Internet behind which the site's own routers put something private, and
a translation of IPv4 into IPv6 under a prefix of the site's own.

Source: IANA's registries of special-purpose addresses (RFC 6890); RFC 4291 (IPv6), 6052 and 8215 (NAT64), 3056 (6to4),
4380 (Teredo).
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
# Anything else of IPv6 is no global unicast address: site-local and IPv4-compatible ones, which Python calls global.
GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
# What Python, or some version of it, calls global: anycast addresses of the nearest router and relay among them.
SPECIAL_NETWORKS: Final = tuple(
    ipaddress.ip_network(network)
    for network in ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16")
)
CLOUD_ADDRESSES: Final = frozenset({ipaddress.IPv4Address("168.63.129.16")})
"""Answered by the host below a virtual machine, though public by their number: Azure's, with its secrets."""


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
    """Return what is wrong with an address as a destination, as "a private address" and the like, or None.

    Only addresses of the public Internet that are not this node's own are right; what an address carries is judged.
    """
    carried = _unfold(ipaddress.ip_address(address.partition("%")[0]))
    return next((why for ip in carried if (why := _why_refused(ip))), None)


def _why_refused(ip: IPAddress) -> str | None:
    if ip.is_loopback:
        return "a loopback address"
    if ip.is_link_local:
        return "a link-local address"
    if ip.is_multicast:
        return "a multicast address"
    if ip.is_unspecified:
        return "the unspecified address"
    if not ip.is_global or _is_special(ip):
        return "a private address"
    if ip in CLOUD_ADDRESSES:
        return "an address of the cloud's own"
    if _is_own(ip):
        return "an address of this node"
    return None


def _is_special(ip: IPAddress) -> bool:
    if ip.version == 6 and ip not in GLOBAL_UNICAST:
        return True
    return any(ip in network for network in SPECIAL_NETWORKS)


def _unfold(ip: IPAddress) -> tuple[IPAddress, ...]:
    """Return what packets to the address may end up at: itself, or what it carries."""
    if isinstance(ip, ipaddress.IPv4Address):
        return (ip,)
    if ip in NAT64_NETWORK:
        return (ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF),)
    if ip.teredo:
        return ip.teredo  # the server that is asked for the way, and the client at its end
    return (ip.ipv4_mapped or ip.sixtofour or ip,)


def _is_own(ip: IPAddress) -> bool:
    """Tell whether packets to the address stay on this node: the kernel then sends them from that same address."""
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(ip), 9))  # a datagram socket's connect sends nothing
        except OSError:
            return False
        return bool(probe.getsockname()[0] == str(ip))
