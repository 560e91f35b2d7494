"""Heads of HTTP/1 messages as a proxy sees them: parsed strictly, rewritten by the rules for intermediaries.

Source: RFC 9112 (message syntax), RFC 9110 sections 7.6.1 (Connection) and 7.6.3 (Via).
"""

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from broker.client.origins import Origin
from launcher.exchange.errors import Refused

Headers = list[tuple[bytes, bytes]]

HEAD_LIMIT_BYTES: Final = 64 * 1024
END_OF_HEAD: Final = b"\r\n\r\n"

REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!-~]+) HTTP/1\.([01])")
STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [^\r\n\0]*)?")
HEADER_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\r\n\0]*?)[ \t]*")
LENGTH: Final = re.compile(rb"[0-9]{1,18}")

# About one connection, not about the message. Transfer-Encoding stays: bodies pass as they are.
HOP_BY_HOP: Final = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"upgrade",
    )
)
CLOSING: Final[Headers] = [(b"Via", b"1.1 vmbroker"), (b"Connection", b"close")]


@dataclass(frozen=True, slots=True)
class Request:
    """A request to a proxy.

    Attributes:
        origin: Where to connect.
        credentials: User name and password of Proxy-Authorization, if there are any.
        forwarded_head: What to send there, or None for CONNECT.
        body_bytes: Length of the body, None if it is chunked.
    """

    origin: Origin
    credentials: tuple[str, str] | None
    forwarded_head: bytes | None
    body_bytes: int | None


def parse_request(head: bytes) -> Request:
    """Parse a request's head, its empty line included.

    Raises:
        Refused: It is malformed, ambiguous, or not for a proxy.
    """
    first, headers = _split(head)
    line = REQUEST_LINE.fullmatch(first)
    if line is None:
        raise Refused(400, "the request line is malformed")
    method, target, minor = line[1], line[2].decode("ascii"), line[3]
    credentials = _credentials(headers)
    if method == b"CONNECT":
        return Request(_authority(target), credentials, None, None)
    if method.upper() == b"CONNECT":
        # Methods are told apart by case, but not by everybody.
        raise Refused(400, "the request line is malformed")
    origin, host, path = _absolute(target)
    kept = [(name, value) for name, value in end_to_end(headers) if name.lower() != b"host"]
    start = method + b" " + path.encode("ascii") + b" HTTP/1." + minor
    forwarded = render(start, [(b"Host", host.encode("ascii")), *kept, *CLOSING])
    return Request(origin, credentials, forwarded, _body_bytes(headers))


def parse_response(head: bytes) -> tuple[int, bytes]:
    """Return a response's status and the head to pass on.

    Raises:
        Refused: It is malformed.
    """
    first, headers = _split(head)
    line = STATUS_LINE.fullmatch(first)
    if line is None or line[1] == b"101":
        raise Refused(502, "the server's answer is not HTTP/1")
    status = int(line[1])
    return status, render(first, end_to_end(headers) + (CLOSING if status >= 200 else []))


def render(first: bytes, headers: Headers) -> bytes:
    """Return the bytes of a head."""
    return b"\r\n".join([first, *(name + b": " + value for name, value in headers)]) + END_OF_HEAD


def end_to_end(headers: Headers) -> Headers:
    """Return the headers that are for the other end, in their order."""
    named = {
        token.strip().lower() for name, value in headers if name.lower() == b"connection" for token in value.split(b",")
    }
    dropped = HOP_BY_HOP | (named - {b"transfer-encoding", b"content-length", b"host"})
    return [(name, value) for name, value in headers if name.lower() not in dropped]


def _split(head: bytes) -> tuple[bytes, Headers]:
    first, *lines = head.removesuffix(END_OF_HEAD).split(b"\r\n")
    headers: Headers = []
    for line in lines:
        header = HEADER_LINE.fullmatch(line)
        if header is None:
            raise Refused(400, "a header line is malformed")
        headers.append((header[1], header[2]))
    return first, headers


def _authority(target: str) -> Origin:
    origin = _origin(f"//{target}")
    if origin is None or "@" in target or "/" in target:
        raise Refused(400, "CONNECT wants HOST:PORT")
    return origin


def _absolute(target: str) -> tuple[Origin, str, str]:
    """Split an absolute http URL into origin, Host header and origin-form target."""
    scheme, mark, rest = target.partition("://")
    if not mark or scheme.lower() != "http":
        raise Refused(400, "this is a proxy: it wants an absolute http:// URL, or CONNECT")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    origin = _origin(f"http://{authority}")
    if origin is None or "@" in authority or "#" in rest:
        raise Refused(400, "the URL is malformed")
    path = rest.removeprefix(authority)
    return origin, authority, path if path.startswith("/") else f"/{path}"


def _origin(url: str) -> Origin | None:
    try:
        parts = urlsplit(url)
        return Origin.parse(url if parts.scheme else parts.netloc)
    except ValueError:
        return None


def _credentials(headers: Headers) -> tuple[str, str] | None:
    values = [value for name, value in headers if name.lower() == b"proxy-authorization"]
    if len(values) != 1:
        return None
    scheme, _, encoded = values[0].partition(b" ")
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (user, password) if scheme.lower() == b"basic" and colon else None


def _body_bytes(headers: Headers) -> int | None:
    """Frame the request's body; whatever two servers could read differently is refused: RFC 9112 section 6.3."""
    lengths = [value for name, value in headers if name.lower() == b"content-length"]
    codings = [value.lower() for name, value in headers if name.lower() == b"transfer-encoding"]
    if codings:
        if lengths or codings != [b"chunked"]:
            raise Refused(400, "the length of the body is ambiguous")
        return None
    if len(lengths) > 1 or not all(LENGTH.fullmatch(length) for length in lengths):
        raise Refused(400, "the length of the body is malformed")
    return int(lengths[0]) if lengths else 0
