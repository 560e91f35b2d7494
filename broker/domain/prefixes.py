"""Where the targets of a user may be: prefixes, compared by origin and whole segments of what is literal."""

from typing import NamedTuple

from broker.domain import targets
from broker.domain.errors import Rejected
from broker.domain.paths import FILE_SCHEME
from broker.wire.names import StreamRef
from broker.wire.problems import ProblemCode

MAX_PREFIXES = 32
MAX_PREFIX_CHARS = 1_024


class _Place(NamedTuple):
    origin: str
    segments: tuple[str, ...]


def check_prefix(prefix: str) -> None:
    """Check a prefix as an operator writes it.

    Raises:
        Rejected: `bad_request`.
    """
    fault = _fault(prefix)
    if fault:
        how = "write file:, file:USER/PATH, s3://BUCKET/PATH or https://HOST/PATH"
        raise Rejected(ProblemCode.BAD_REQUEST, f"targets: {prefix[:200]!r}: {fault}; {how}")


def _fault(prefix: str) -> str:
    if not 0 < len(prefix) <= MAX_PREFIX_CHARS or not prefix.isascii() or not prefix.isprintable() or " " in prefix:
        return "it is empty, too long, or not printable"
    if any(char in prefix for char in "{}?#%"):
        return "a prefix is literal: it has no placeholder, no query and no percent sign"
    try:
        place = _place(prefix)
    except targets.BadTarget as error:
        return str(error)
    return "it has an empty part, '.' or '..'" if any(part in {"", ".", ".."} for part in place.segments) else ""


def is_below(template: str, stream: StreamRef, prefixes: tuple[str, ...], *, endpoint: str | None = None) -> bool:
    """Tell whether every target of a checked template is below one of the prefixes.

    `s3://` of a prefix is AWS's; a bucket at an `endpoint` of the spec's own is where that is, as it is asked there:
    a bucket's name says nothing of whose it is at a server that the user names.
    """
    if endpoint is not None and targets.scheme_of(template) == targets.S3_SCHEME:
        template = f"{endpoint.rstrip('/')}/{template.partition('://')[2]}"
    literal = template.replace("{user}", stream.user).replace("{job}", stream.name)
    head, brace, _ = literal.partition("{")
    # A part that a placeholder ends is no whole one.
    head = head.partition("?")[0]
    place = _place(head.rpartition("/")[0] + "/" if brace or "/" in head else head)
    return any(_holds(_place(prefix), place) for prefix in prefixes)


def _holds(outer: _Place, inner: _Place) -> bool:
    return outer.origin == inner.origin and inner.segments[: len(outer.segments)] == outer.segments


def _place(text: str) -> _Place:
    """Take an address apart: `file:`, or scheme, host and port (or bucket); and the segments of its path."""
    if text.startswith(FILE_SCHEME):
        return _Place(FILE_SCHEME, _segments(text.removeprefix(FILE_SCHEME)))
    scheme, mark, rest = text.partition("://")
    host, _, path = rest.partition("/")
    if not mark or not scheme:
        raise targets.BadTarget("it is no address")
    # By any port's name the same place: https://h and https://h:443.
    at = targets.origin_of(f"{scheme}://{host}/") or host
    return _Place(f"{scheme.lower()}://{at.lower()}", _segments(path))


def _segments(path: str) -> tuple[str, ...]:
    path = path.removesuffix("/")
    return tuple(path.split("/")) if path else ()
