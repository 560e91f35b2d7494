"""What a researcher may write: the spec of a stream, the items of a push. All faults at once, each with its remedy."""

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from broker.domain import limits, targets
from broker.domain.errors import Rejected
from broker.domain.paths import FILE_SCHEME, BadPath, FilePath, parse_file_url
from broker.wire.items import NewItem
from broker.wire.names import BadName, DispatchId, ItemRef, MachineRef, StreamRef, parse_owned
from broker.wire.problems import ProblemCode
from broker.wire.streams import StreamSpec

MAX_FAULTS = 20
"""Faults told in one answer; nobody mends five hundred lines one by one."""
MAX_PATTERNS = 100
MAX_NETWORK = 100
MIN_MEMORY_MIB = 16
_ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_HOST_PORT = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})|\[[0-9A-Fa-f:]+\]):([0-9]{1,5})")
_PARAM_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_PARAM_USE = re.compile(r"\{param\.([A-Za-z_][A-Za-z0-9_]{0,63})\}")


class Fault(NamedTuple):
    """One thing to mend: where it stands (`path` of a spec, `line` of a push), what is wrong, what to do."""

    at: str
    reason: str
    remedy: str


def machine_of(spec: StreamSpec, stream: StreamRef) -> MachineRef:
    """Return the machine a spec names; one without a user is the stream's own user's.

    Raises:
        Rejected: `bad_spec` when it names none.
    """
    try:
        return parse_owned(spec.machine, stream.user, "machine")
    except BadName as error:
        raise Rejected(ProblemCode.BAD_SPEC, str(error)) from error


def check_spec(spec: StreamSpec, stream: StreamRef) -> None:
    """Check a spec as far as it can be without looking anything up.

    Raises:
        Rejected: `bad_spec`, with every fault among its refusals.
    """
    faults = [*_program(spec), *_needs(spec), *_limits(spec), *_retry(spec), *_output(spec, stream), *_network(spec)]
    if faults:
        raise _rejected(ProblemCode.BAD_SPEC, "path", faults)
    machine_of(spec, stream)


def check_items(spec: StreamSpec, stream: StreamRef, items: Sequence[NewItem]) -> None:
    """Check the items of a push against the spec they will run under.

    Raises:
        Rejected: `bad_items`, with the faults by line; nothing of the push may then be accepted.
    """
    faults = [
        Fault(str(line), fault.reason, fault.remedy)
        for line, item in enumerate(items, 1)
        for fault in _item(spec, stream, item)
    ]
    if faults:
        raise _rejected(ProblemCode.BAD_ITEMS, "line", faults)


def input_files(items: Sequence[NewItem]) -> set[FilePath]:
    """Return the files of our file service that checked items name as input."""
    return {parse_file_url(item.url) for item in items if item.url and item.url.startswith(FILE_SCHEME)}


def _rejected(code: ProblemCode, where: str, faults: list[Fault]) -> Rejected:
    first = faults[0]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    detail = f"{where} {first.at}: {first.reason}; {first.remedy}{more}"
    refusals = [{where: fault.at, "reason": fault.reason, "remedy": fault.remedy} for fault in faults[:MAX_FAULTS]]
    return Rejected(code, detail, refusals=refusals)


def _range(at: str, value: int | None, low: int, high: int, unit: str) -> Iterator[Fault]:
    if value is not None and not low <= value <= high:
        yield Fault(at, f"{value} {unit} is out of bounds", f"write {low} to {high}")


def _program(spec: StreamSpec) -> Iterator[Fault]:
    try:
        words = shlex.split(spec.run)
    except ValueError as error:
        yield Fault("run", f"it cannot be split into words: {error}", "mend its quotes")
    else:
        if not words:
            yield Fault("run", "it names no program", 'write what to start, e.g. "/opt/app/run {input} {output}"')
    if "\0" in spec.run or len(spec.run.encode()) > limits.default("url_bytes"):
        yield Fault("run", "it is longer than 8192 bytes or holds a NUL", "put it into a script inside of the image")
    if not _ACCOUNT.fullmatch(spec.as_user):
        yield Fault("as_user", f"{spec.as_user!r} is no account's name", "write the name of an account of the guest")


def _needs(spec: StreamSpec) -> Iterator[Fault]:
    vcpus = None if spec.needs.vcpus == "slot" else spec.needs.vcpus
    yield from _range("needs.vcpus", vcpus, 1, 1_024, "vcpus")
    yield from _range("needs.memory_mib", spec.needs.memory_mib, MIN_MEMORY_MIB, 16_777_216, "MiB")
    yield from _range("needs.disk_mib", spec.needs.disk_mib, 1, 67_108_864, "MiB")


def _limits(spec: StreamSpec) -> Iterator[Fault]:
    highest_ms = limits.default("run_ms")
    yield from _range("limits.boot_ms", spec.limits.boot_ms, 1_000, 86_400_000, "ms")
    yield from _range("limits.run_ms", spec.limits.run_ms, 1_000, highest_ms, "ms")
    yield from _range("limits.output_mib", spec.limits.output_mib, 1, limits.default("file_bytes") >> 20, "MiB")


def _retry(spec: StreamSpec) -> Iterator[Fault]:
    retry = spec.retry
    yield from _range("retry.attempts", retry.attempts, 1, limits.default("attempts"), "attempts")
    yield from _range("retry.boots", retry.boots, 1, limits.default("boots"), "boots")
    yield from _range("retry.backoff_first_ms", retry.backoff_first_ms, 0, limits.default("backoff_ms"), "ms")
    yield from _range("retry.backoff_max_ms", retry.backoff_max_ms, 0, limits.default("backoff_ms"), "ms")
    for code in retry.hold_exit_codes:
        yield from _range("retry.hold_exit_codes", code, 1, 255, "as an exit code")


def _output(spec: StreamSpec, stream: StreamRef) -> Iterator[Fault]:
    files = spec.output.files
    if not 1 <= len(files) <= MAX_PATTERNS or not all(files):
        yield Fault("output.files", "it names no pattern, an empty one, or too many", f"write 1 to {MAX_PATTERNS}")
    try:
        targets.check_template(spec.output.to, stream)
    except targets.BadTarget as error:
        yield Fault("output.to", str(error), "see the reference of targets")


def _network(spec: StreamSpec) -> Iterator[Fault]:
    if len(spec.network) > MAX_NETWORK:
        yield Fault("network", f"{len(spec.network)} hosts are too many", f"write at most {MAX_NETWORK}")
    for origin in spec.network[:MAX_NETWORK]:
        match = _HOST_PORT.fullmatch(origin)
        if not match or not 1 <= int(match[1]) <= 65_535:
            yield Fault("network", f"{origin!r} is no HOST:PORT", "write for example share.example:443")


def _item(spec: StreamSpec, stream: StreamRef, item: NewItem) -> Iterator[Fault]:
    yield from _url(item.url)
    yield from _params(item.params)
    if item.name is not None and not (0 < len(item.name) <= 255 and item.name.isprintable()):
        yield Fault("", "the name is empty, longer than 255 characters or not printable", "write a short name")
    if item.url is None and "{input}" in spec.run:
        yield Fault("", "it has no url, and the stream's run line names {input}", "give it a url")
    for name in sorted(set(_PARAM_USE.findall(spec.run)) - item.params.keys()):
        yield Fault("", f"it lacks the parameter {name!r}, which the stream's run line names", f"add {name} to params")
    if targets.needs_input(spec.output.to):
        yield from _target(spec, stream, item)


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


def _params(params: dict[str, str]) -> Iterator[Fault]:
    size = sum(len(name.encode()) + len(value.encode()) for name, value in params.items())
    if size > limits.default("params_bytes"):
        yield Fault("", f"the parameters take {size} bytes", "use at most 65536, or put them into a file")
    for name, value in params.items():
        if not _PARAM_NAME.fullmatch(name):
            yield Fault("", f"{name[:70]!r} is no parameter's name", "use letters, digits and '_'")
        if "\0" in value:
            yield Fault("", f"the parameter {name!r} holds a NUL", "remove it: no environment variable can carry it")
