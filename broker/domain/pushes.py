"""What a researcher may push: each item is checked against the spec it will run under."""

import re
from collections.abc import Iterable, Iterator

from broker.domain import access, inputs, limits, specs, targets
from broker.domain.faults import Fault, param_faults
from broker.domain.paths import FILE_SCHEME, FilePath, parse_file_url
from broker.wire.items import NewItem
from broker.wire.names import DispatchId, ItemRef, StreamRef
from broker.wire.streams import StreamSpec

_PLAIN_HOST = r"https?://[A-Za-z0-9-]{1,31}(?:\.[A-Za-z0-9-]{1,31}){0,6}(?::[1-9][0-9]{0,3})?"
_PLAIN_URL = re.compile(_PLAIN_HOST + "/[!-~]*")
"""Addresses of which nothing more has to be found out: a host, a port below 10,000, and printable characters."""
_PLAIN_PATH = re.compile(_PLAIN_HOST + r"(?=/.{1,256}\Z)(?:/[A-Za-z0-9_-][A-Za-z0-9._-]{0,63})+")
"""Those whose path gives a target, too, where the longest of them does: nothing in it is quoted, or means a folder."""
_LONGEST_PATH = "/".join(["x" * 64] * 3 + ["x" * 61])
_PLAIN_CHARS = 2_048
_PARAM_USE = re.compile(r"\{param\.([A-Za-z_][A-Za-z0-9_]{0,63})\}")
_INPUT_USE = re.compile(r"\{input\.([^{}]+)\}")
"""As the guest reads it; what is between the braces may be no name that an input can have."""


def item_faults(spec: StreamSpec, stream: StreamRef, items: Iterable[tuple[int, NewItem]]) -> list[Fault]:
    """Check the items of a push, each with its line, against the spec they will run under; return what is wrong."""
    wanted = sorted(set(_PARAM_USE.findall(spec.run)))
    wanted_inputs = sorted(set(_INPUT_USE.findall(spec.run)) - spec.inputs.keys())
    is_plain = not wanted and not wanted_inputs and not spec.params
    good = _PLAIN_URL
    if is_plain and targets.needs_input(spec.output.to):
        good = _PLAIN_PATH
        longest = NewItem(url=f"https://host.example/{_LONGEST_PATH}")
        is_plain = not any(_target(spec, stream, longest))
    if _may_expose(spec):
        good = re.compile(good.pattern.replace("https?", "https", 1))
    return [
        Fault(str(line), fault.reason, fault.remedy)
        for line, item in items
        if not (is_plain and _is_plainly_good(item, good))
        for fault in (*_item(spec, stream, item, wanted), *_lacking_inputs(item, wanted_inputs))
    ]


def _is_plainly_good(item: NewItem, good: re.Pattern[str]) -> bool:
    """Tell at little cost of the usual item that it is good: with parameters of its own it has to be looked at."""
    return (
        item.url is not None
        and item.name is None
        and not item.params
        and not item.inputs
        and not item.delay_ms
        and len(item.url) <= _PLAIN_CHARS
        and good.fullmatch(item.url) is not None
    )


def _may_expose(spec: StreamSpec) -> bool:
    """Tell whether an address has to be looked at for what would be sent along with its request."""
    return any(each.secret_headers for each in spec.access.values())


def input_files(items: Iterable[NewItem]) -> set[FilePath]:
    """Return the files of our file service that checked items name as inputs."""
    urls = (url for item in items for url in (item.url, *item.inputs.values()))
    return {parse_file_url(url) for url in urls if url and url.startswith(FILE_SCHEME)}


def unlent_faults(spec: StreamSpec, items: Iterable[tuple[int, NewItem]], unlent: set[str]) -> Iterator[Fault]:
    """Refuse checked items whose own addresses would be got by one of the secrets `unlent`.

    Whoever pushes an item would else read by the stream's secrets what they may not read themselves.
    """
    for line, item in items if unlent else ():
        for url in filter(None, (item.url, *item.inputs.values())):
            found = unlent & _secrets_for(spec, url)
            if found:
                reason = f"{url[:200]!r} would be got by the secret {min(found)}, which this token may not use"
                yield Fault(str(line), reason, "push it with a token that has secret.use of it")
                break


def _secrets_for(spec: StreamSpec, url: str) -> set[str]:
    if targets.scheme_of(url) == targets.S3_SCHEME:
        return {spec.s3.secret} if spec.s3 else set()
    found = access.access_of(spec.access, url)
    return set(found.secret_headers.values()) if found else set()


def _item(spec: StreamSpec, stream: StreamRef, item: NewItem, wanted: list[str]) -> Iterator[Fault]:
    if item.url is not None and (wrong := inputs.wrong_with(spec, item.url)):
        yield Fault("", *wrong)
    if item.inputs:
        yield from inputs.named_faults("", spec, item.inputs, spec.inputs)
    params = specs.params_of(spec, item.params)
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


def _lacking_inputs(item: NewItem, wanted: list[str]) -> Iterator[Fault]:
    for name in (each for each in wanted if each not in item.inputs):
        reason = f"it lacks the input {name[:70]!r}, which the stream's run line names"
        yield Fault("", reason, f"add {name[:70]} to inputs, there or in the stream's spec")


def _target(spec: StreamSpec, stream: StreamRef, item: NewItem) -> Iterator[Fault]:
    if item.url is None:
        yield Fault("", "it has no url, and the stream's targets are made from it", "give it a url")
        return
    sample = targets.TargetOf(ItemRef(stream, 1), 1, DispatchId("0" * 36), "out.txt", item.url)
    try:
        targets.target_url(spec.output.to, sample)
    except targets.BadTarget as error:
        yield Fault("", f"its url gives no target: {error}", "use a url with a plain path")
