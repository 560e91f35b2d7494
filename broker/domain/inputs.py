"""Inputs: where they may be, and what a stream must say for those that are not simply there."""

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from broker.domain import access, limits, targets
from broker.domain.faults import Fault, input_name_faults
from broker.domain.paths import FILE_SCHEME, BadPath, parse_file_url
from broker.wire.streams import StreamSpec

_HOW = "write http(s)://…, dav(s)://…, s3://BUCKET/KEY or file:USER/PATH"


def named_faults(at: str, spec: StreamSpec, own: Mapping[str, str], others: Mapping[str, str]) -> Iterator[Fault]:
    """Check further inputs, by their names; of `others`, which an item has as well, the names alone."""
    yield from input_name_faults(at, {**others, **own})
    for name, url in list(own.items())[: limits.default("inputs")]:
        wrong = wrong_with(spec, url)
        if wrong:
            yield Fault(at, f"the input {name[:70]!r}: {wrong[0]}", wrong[1])


def wrong_with(spec: StreamSpec, url: str) -> tuple[str, str] | None:
    """Return what is wrong with an input's address, and the remedy; None when nothing is."""
    if len(url.encode()) > limits.default("url_bytes"):
        return "the url is longer than 8192 bytes", "shorten it"
    if url.startswith(FILE_SCHEME):
        try:
            parse_file_url(url)
        except BadPath as error:
            return str(error), "write file:USER/PATH"
        return None
    reason = _fault(spec, url)
    if reason:
        return f"{url[:200]!r} {reason}", _HOW
    exposed = access.exposure(spec, url)
    return (exposed, "write https:// or davs://") if exposed else None


def _fault(spec: StreamSpec, url: str) -> str | None:
    try:
        parts = urlsplit(url)
        targets.origin_of(url)
    except targets.BadTarget:
        return "is no address that a guest can fetch: its host or port is none"
    except ValueError as error:
        return f"is no address: {error}"
    if parts.scheme not in targets.BUILT_IN - {"file"} and parts.scheme not in spec.plugins:
        return "is no address that a guest can fetch: the stream's spec has no plugin for it in plugins"
    if parts.scheme in targets.BUILT_IN and not parts.hostname:
        return "is no address that a guest can fetch: its host or port is none"
    if parts.username is not None or parts.password is not None:
        return "carries a user or password, which would be shown to everybody who sees the item"
    if not url.isascii() or not url.isprintable() or " " in url:
        return "holds characters that must be percent-encoded"
    if parts.scheme == targets.S3_SCHEME:
        if spec.s3 is None:
            return "is in S3, and the stream's spec has no s3: say there whose keys to use"
        try:
            targets.bucket_and_key(url)
        except targets.BadTarget:
            return "names no bucket and key"
    return None
