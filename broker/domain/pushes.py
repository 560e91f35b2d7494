"""What a researcher may push: each item is checked against the spec it will run under."""

import re
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from broker.domain import limits, targets
from broker.domain.faults import Fault, input_name_faults, param_faults
from broker.domain.paths import FILE_SCHEME, BadPath, FilePath, parse_file_url
from broker.domain.specs import params_of
from broker.wire.items import NewItem
from broker.wire.names import DispatchId, ItemRef, StreamRef
from broker.wire.streams import StreamSpec

_PLAIN_URL = re.compile(r"https?://[A-Za-z0-9][A-Za-z0-9.-]{0,200}(?::[1-9][0-9]{0,3})?/[!-~]*")
"""Addresses of which nothing more has to be found out: a host, a port below 10,000, and printable characters."""
_PLAIN_CHARS = 2_048
_PARAM_USE = re.compile(r"\{param\.([A-Za-z_][A-Za-z0-9_]{0,63})\}")


def item_faults(spec: StreamSpec, stream: StreamRef, items: Iterable[tuple[int, NewItem]]) -> list[Fault]:
    """Check the items of a push, each with its line, against the spec they will run under; return what is wrong."""
    wanted = sorted(set(_PARAM_USE.findall(spec.run)))
    is_plain = not wanted and not spec.params and not targets.needs_input(spec.output.to)
    return [
        Fault(str(line), fault.reason, fault.remedy)
        for line, item in items
        if not (is_plain and _is_plainly_good(item))
        for fault in _item(spec, stream, item, wanted)
    ]


def _is_plainly_good(item: NewItem) -> bool:
    """Tell at little cost of the usual item that it is good: with parameters of its own it has to be looked at."""
    return (
        item.url is not None
        and item.name is None
        and not item.params
        and not item.inputs
        and not item.delay_ms
        and len(item.url) <= _PLAIN_CHARS
        and _PLAIN_URL.fullmatch(item.url) is not None
    )


def input_files(items: Iterable[NewItem]) -> set[FilePath]:
    """Return the files of our file service that checked items name as input."""
    return {parse_file_url(url) for item in items for url in _urls(item) if url.startswith(FILE_SCHEME)}


def _urls(item: NewItem) -> Iterator[str]:
    if item.url:
        yield item.url
    yield from item.inputs.values()


def _item(spec: StreamSpec, stream: StreamRef, item: NewItem, wanted: list[str]) -> Iterator[Fault]:
    yield from _url(item.url)
    yield from _inputs(spec, item)
    params = params_of(spec, item.params)
    yield from param_faults("", params)
    if item.name is not None and not (0 < len(item.name) <= 255 and item.name.isprintable()):
        yield Fault("", "the name is empty, longer than 255 characters or not printable", "write a short name")
    if not 0 <= item.delay_ms <= limits.default("delay_ms"):
        yield Fault("", f"delay_ms is {item.delay_ms}", "write 0 to a year in milliseconds")
    if item.url is None and "{input}" in spec.run:
        yield Fault("", "it has no url, and the stream's run line names {input}", "give it a url")
    for name in (each for each in wanted if each not in params):
        yield Fault("", f"it lacks the parameter {name!r}, which the stream's run line names", f"add {name} to params")
    if targets.needs_input(spec.output.to):
        yield from _target(spec, stream, item)


def _inputs(spec: StreamSpec, item: NewItem) -> Iterator[Fault]:
    if item.inputs:
        yield from input_name_faults("", {**spec.inputs, **item.inputs})
    for name, url in item.inputs.items():
        for fault in _url(url):
            yield fault._replace(reason=f"the input {name[:70]!r}: {fault.reason}")


def _target(spec: StreamSpec, stream: StreamRef, item: NewItem) -> Iterator[Fault]:
    if item.url is None:
        yield Fault("", "it has no url, and the stream's targets are made from it", "give it a url")
        return
    sample = targets.TargetOf(ItemRef(stream, 1), 1, DispatchId("0" * 36), "out.txt", item.url)
    try:
        targets.target_url(spec.output.to, sample)
    except targets.BadTarget as error:
        yield Fault("", f"its url gives no target: {error}", "use a url with a plain path")


def _url(url: str | None) -> Iterator[Fault]:
    if url is None:
        return
    if len(url.encode()) > limits.default("url_bytes"):
        yield Fault("", "the url is longer than 8192 bytes", "shorten it")
    elif url.startswith(FILE_SCHEME):
        try:
            parse_file_url(url)
        except BadPath as error:
            yield Fault("", str(error), "write file:USER/PATH")
    elif reason := _http_fault(url):
        yield Fault("", f"{url[:200]!r} {reason}", "write http://…, https://… or file:USER/PATH")


def _http_fault(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        targets.origin_of(url)
    except targets.BadTarget:
        return "is no address that a guest can fetch: its host or port is none"
    except ValueError as error:
        return f"is no address: {error}"
    if parts.scheme not in {"http", "https"}:
        return "is no address that a guest can fetch"
    if parts.username is not None or parts.password is not None:
        return "carries a user or password, which would be shown to everybody who sees the item"
    if not url.isascii() or not url.isprintable() or " " in url:
        return "holds characters that must be percent-encoded"
    return None
