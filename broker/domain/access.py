"""What goes along with requests to one origin: a stream's headers, and those whose values are secrets.

A key is `HOST:PORT`, or `HOST` for the usual port of the address's scheme. What belongs to an origin is sent to no
other, and a secret only where nobody on the way can read it: over TLS, or to the loopback of whoever sends.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from broker.domain.faults import Fault
from broker.wire.names import BadName, check_name
from broker.wire.secrets import SecretKind
from broker.wire.streams import OriginAccess, StreamSpec

MAX_ORIGINS = 32
MAX_HEADERS = 16
"""Headers that go along to one origin, plain and secret ones together."""
MAX_NAME_CHARS = 128
MAX_VALUE_CHARS = 4_096
_ORIGIN = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A token. Source: RFC 9110 section 5.6.2."""
_VALUE = re.compile(r"[!-~]([ \t!-~]*[!-~])?")
"""A field's value of visible ASCII, without space at its ends. Source: RFC 9110 section 5.5."""
_REFUSED = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade", "host", "range", "expect", "if-none-match", "if-match", "if-range",
        "repr-digest",
    }
)  # fmt: skip
"""Headers of one connection (RFC 9110 section 7.6.1), and those that the client has to send as they are true."""
_SCHEMES = {"http": 80, "https": 443, "dav": 80, "davs": 443}
HTTP_OF = {"http": "http", "https": "https", "dav": "http", "davs": "https"}
"""The scheme by which an address of another one is really asked."""


class BadHeaderSecret(ValueError):
    """A secret's value can be no header's; the text quotes nothing of it."""


class Origin(NamedTuple):
    host: str
    port: int
    is_private: bool
    """Nobody on the way can read what is sent there."""


def origin_of_request(url: str) -> Origin | None:
    """Return where a checked address is asked by HTTP; None when it is not."""
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES or parts.hostname is None:
        return None
    is_private = HTTP_OF[parts.scheme] == "https" or _is_loopback(parts.hostname)
    return Origin(parts.hostname, parts.port or _SCHEMES[parts.scheme], is_private)


def access_of(access: Mapping[str, OriginAccess], url: str) -> OriginAccess | None:
    """Return what goes along with a request for a checked address; None when nothing does."""
    origin = origin_of_request(url) if access else None
    if origin is None:
        return None
    wanted = {f"{_in_brackets(origin.host)}:{origin.port}"}
    if origin.port == _SCHEMES[urlsplit(url).scheme]:
        wanted.add(_in_brackets(origin.host))
    named = [each for key, each in access.items() if key.lower() in wanted]
    return named[0] if named else None


def header_secrets(spec: StreamSpec) -> list[str]:
    """Return the secrets that are values of headers, each once."""
    return list(dict.fromkeys(name for each in spec.access.values() for name in each.secret_headers.values()))


def header_value(kind: SecretKind, value: bytes) -> str:
    """Return a secret as a header's value.

    Raises:
        BadHeaderSecret: it has several lines, or characters that no header carries.
    """
    text = value.decode("ascii", "replace").rstrip("\n")
    if not _VALUE.fullmatch(text):
        raise BadHeaderSecret("a secret that is a header's value is one line of printable ASCII")
    return f"Bearer {text}" if kind is SecretKind.BEARER_TOKEN else text


def exposure(spec: StreamSpec, url: str) -> str | None:
    """Return what is wrong with an address to which a secret would go in the clear; None when nothing is."""
    found = access_of(spec.access, url)
    origin = origin_of_request(url)
    if found is None or not found.secret_headers or origin is None or origin.is_private:
        return None
    return f"{origin.host}:{origin.port} is sent a secret header, which only https and davs keep secret"


def access_faults(spec: StreamSpec) -> Iterator[Fault]:
    """Check what is to go along to origins, as far as it can be without looking anything up."""
    if len(spec.access) > MAX_ORIGINS:
        yield Fault("access", f"{len(spec.access)} origins are too many", f"write at most {MAX_ORIGINS}")
    seen: set[str] = set()
    for key, each in list(spec.access.items())[:MAX_ORIGINS]:
        match = _ORIGIN.fullmatch(key)
        if not match or (match[2] and not 1 <= int(match[2]) <= 65_535):
            yield Fault("access", f"{key[:100]!r} is no HOST or HOST:PORT", "write a literal host, like share.example")
        bare = re.sub(r":(80|443)\Z", "", key.lower())
        if bare in seen:
            yield Fault("access", f"{key[:100]!r} is named twice", "write one entry for each HOST or HOST:PORT")
        seen.add(bare)
        yield from _header_faults(key, each)


def _header_faults(key: str, each: OriginAccess) -> Iterator[Fault]:
    count = len(each.headers) + len(each.secret_headers)
    if not 1 <= count <= MAX_HEADERS:
        yield Fault("access", f"{key[:100]!r} has {count} headers", f"write 1 to {MAX_HEADERS}")
        return
    names: set[str] = set()
    for name in (*each.headers, *each.secret_headers):
        lower = name.lower()
        if len(name) > MAX_NAME_CHARS or not _NAME.fullmatch(name):
            yield Fault("access", f"{name[:100]!r} is no header's name", "write letters, digits and '-'")
        elif lower in _REFUSED or lower.startswith("content-"):
            yield Fault("access", f"the header {name!r} is the client's own to send", "leave it out")
        elif lower in names:
            yield Fault("access", f"the header {name!r} is there twice for {key[:100]!r}", "write it once")
        names.add(lower)
    for name, value in each.headers.items():
        if len(value) > MAX_VALUE_CHARS or not _VALUE.fullmatch(value):
            reason = f"the value of {name[:100]!r} is empty, too long, or no line of printable ASCII"
            yield Fault("access", reason, f"write 1 to {MAX_VALUE_CHARS} characters")
        elif _is_credential(name):
            remedy = "`broker secret add` it, and name the secret in secret_headers"
            yield Fault("access", f"{name} in headers would be shown to everybody who sees the stream", remedy)
    for name, secret in each.secret_headers.items():
        try:
            check_name(secret, "secret")
        except BadName as error:
            yield Fault("access", f"secret header {name[:100]!r}: {error}", "write the name of a secret of yours")


def _is_credential(name: str) -> bool:
    """Tell whether a header is never anything but a credential."""
    return name.lower() in {"authorization", "cookie"}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _in_brackets(host: str) -> str:
    return f"[{host}]" if ":" in host else host
