"""What a researcher may write as the spec of a stream. All faults at once, each with its remedy."""

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from broker.domain import access, inputs, limits, targets
from broker.domain.callbacks import callback_faults
from broker.domain.durations import text_of
from broker.domain.faults import Fault, param_faults, rejected
from broker.domain.paths import BadPath, split_path
from broker.domain.secrets import secret_faults
from broker.wire.names import BadName, MachineRef, StreamRef, check_name, parse_owned
from broker.wire.problems import ProblemCode
from broker.wire.states import Exchange
from broker.wire.streams import Needs, S3Access, StreamSpec

MAX_PATTERNS = 100
MAX_PATTERN_CHARS = 255
MAX_NETWORK = 100
_DAY_MS = 86_400_000
_ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_HOST_PORT = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})|\[[0-9A-Fa-f:]+\]):([0-9]{1,5})")
MAX_PLUGINS = 16
MAX_PLUGIN_CHARS = 1_024
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,31}")
"""Source: RFC 3986 section 3.1, in small letters."""
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_ENDPOINT = re.compile(r"https?://[A-Za-z0-9][A-Za-z0-9.-]{0,252}(?::[0-9]{1,5})?/?")
_INTERPRETER = re.compile(r"#! ?/[^\s]")
_NOT_ON_DISK = frozenset({"dev", "proc", "run", "sys", "tmp"})
"""Where a guest mounts something else over its root disk, or clears it, as it boots."""


class Bound(NamedTuple):
    """The least and the most of a number in a spec; `unit` is how the sentence goes on after it."""

    low: int
    high: int
    unit: str


BOUNDS: dict[str, Bound] = {
    "needs.vcpus": Bound(1, 1_024, "vcpus"),
    "needs.memory_mib": Bound(16, 16_777_216, "MiB"),
    "needs.disk_mib": Bound(1, 67_108_864, "MiB"),
    "limits.boot_ms": Bound(1_000, _DAY_MS, "ms"),
    "limits.run_ms": Bound(1_000, limits.default("run_ms"), "ms"),
    "limits.output_mib": Bound(1, limits.default("file_bytes") >> 20, "MiB"),
    "retry.attempts": Bound(1, limits.default("attempts"), "attempts"),
    "retry.boots": Bound(1, limits.default("boots"), "boots"),
    "retry.backoff_first_ms": Bound(0, limits.default("backoff_ms"), "ms"),
    "retry.backoff_max_ms": Bound(0, limits.default("backoff_ms"), "ms"),
    "retry.hold_exit_codes": Bound(1, 255, "as an exit code"),
    "keep_ms": Bound(60_000, limits.default("keep_ms"), "ms"),
}
"""Bounds of every number, by its path in a `StreamSpec`."""


def machine_of(spec: StreamSpec, stream: StreamRef) -> MachineRef:
    """Return the machine that a checked spec names; one without a user is the stream's own user's."""
    return parse_owned(spec.machine, stream.user, "machine")


def params_of(spec: StreamSpec, own: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters that an item's program is given: the stream's, and the item's `own` before them."""
    return {**spec.params, **own}


def needs_new_client(spec: StreamSpec, url: str | None, own: Mapping[str, str]) -> bool:
    """Tell whether a client from before there were further inputs, plugins and folders would do the item wrongly."""
    if spec.inputs or own:
        return True
    to = targets.scheme_of(spec.output.to)
    return to in targets.DAV_SCHEMES or to in spec.plugins or targets.scheme_of(url or "") in spec.plugins


def inputs_of(spec: StreamSpec, own: Mapping[str, str]) -> dict[str, str]:
    """Return the further inputs of an item: the stream's, and the item's `own` before them."""
    return {**spec.inputs, **own}


def check_spec(spec: StreamSpec, stream: StreamRef) -> None:
    """Check a spec as far as it can be without looking anything up.

    Raises:
        Rejected: `bad_spec`, with every fault among its refusals.
    """
    faults = spec_faults(spec, stream)
    if faults:
        raise rejected(ProblemCode.BAD_SPEC, "path", faults)


def spec_faults(spec: StreamSpec, stream: StreamRef) -> list[Fault]:
    """Return every fault of a spec, in the order in which people write its fields."""
    return [
        *_machine(spec, stream),
        *_program(spec),
        *_script(spec),
        *param_faults("params", spec.params),
        *_numbers(spec),
        *_exchange(spec.needs),
        *_backoff(spec),
        *_output(spec, stream),
        *inputs.named_faults("inputs", spec, spec.inputs, {}),
        *access.access_faults(spec),
        *_s3(spec.s3),
        *_plugins(spec),
        *_network(spec),
        *secret_faults(spec),
        *callback_faults(spec.callback),
    ]


def _machine(spec: StreamSpec, stream: StreamRef) -> Iterator[Fault]:
    try:
        machine_of(spec, stream)
    except BadName as error:
        yield Fault("machine", str(error), "write NAME or USER/NAME")


def _program(spec: StreamSpec) -> Iterator[Fault]:
    try:
        words = shlex.split(spec.run)
    except ValueError as error:
        yield Fault("run", f"it cannot be split into words: {error}", "mend its quotes")
    else:
        if not words and not spec.script:
            remedy = 'write what to start, e.g. "/opt/app/run {input} {output}", or give a script'
            yield Fault("run", "it names no program", remedy)
    if "\0" in spec.run or len(spec.run.encode()) > limits.default("url_bytes"):
        yield Fault("run", "it is longer than 8192 bytes or holds a NUL", "put it into a script")
    if "{script}" in spec.run and not spec.script:
        yield Fault("run", "it names {script}, and there is none", "give a script, or name another program")
    if not _ACCOUNT.fullmatch(spec.as_user):
        yield Fault("as_user", f"{spec.as_user!r} is no account's name", "write the name of an account of the guest")


def _script(spec: StreamSpec) -> Iterator[Fault]:
    if not spec.script:
        return
    size, most = len(spec.script.encode()), limits.default("script_bytes")
    if size > most:
        yield Fault("script", f"it has {size} bytes", f"use at most {most}, and fetch the rest as an input")
    if not _INTERPRETER.match(spec.script):
        yield Fault("script", "its first line names no interpreter", "begin it with #!/bin/sh or another one's path")
    if "\r" in spec.script:
        yield Fault("script", "it has the line ends of another system", "save it with line feeds alone")
    if "\0" in spec.script:
        yield Fault("script", "it holds a NUL", "send text; a program of machine code belongs into the image")


def _numbers(spec: StreamSpec) -> Iterator[Fault]:
    for at, bound in BOUNDS.items():
        for value in _values(spec, at):
            if not bound.low <= value <= bound.high:
                yield Fault(at, f"{value} {bound.unit} is out of bounds", f"write {range_of(bound)}")


def _values(spec: StreamSpec, at: str) -> tuple[int, ...]:
    """Return the numbers at a path; none where it is absent or a word."""
    section, _, name = at.rpartition(".")
    value = getattr(getattr(spec, section) if section else spec, name)
    if isinstance(value, tuple):
        return value
    return (value,) if isinstance(value, int) else ()


def range_of(bound: Bound) -> str:
    """Return the bounds as people write them, durations in both ways."""
    if bound.unit == "ms":
        return f"{text_of(bound.low)} to {text_of(bound.high)} ({bound.low} to {bound.high} ms)"
    return f"{bound.low} to {bound.high}"


def _exchange(needs: Needs) -> Iterator[Fault]:
    at, folder = "needs.exchange_folder", needs.exchange_folder
    if needs.exchange is not Exchange.ROOTDISK:
        if folder != Needs().exchange_folder:
            yield Fault(at, f"exchange {needs.exchange} knows no folder of the guest's", "use exchange rootdisk")
        return
    try:
        segments = split_path(folder.removeprefix("/"))
    except BadPath as error:
        segments, fault = (), str(error)
    else:
        fault = "" if folder.startswith("/") else f"{folder!r} is no absolute path"
    if fault:
        yield Fault(at, fault, "write a folder like /vmbroker, without '.' and '..'")
    elif segments[0] in _NOT_ON_DISK:
        yield Fault(at, f"what lies below /{segments[0]} is hidden or cleared at boot", "write a folder like /vmbroker")


def _backoff(spec: StreamSpec) -> Iterator[Fault]:
    first_ms, longest_ms = spec.retry.backoff_first_ms, spec.retry.backoff_max_ms
    if BOUNDS["retry.backoff_first_ms"].high >= first_ms > longest_ms >= 0:
        reason = f"the first pause, {text_of(first_ms)}, is longer than the longest, {text_of(longest_ms)}"
        yield Fault("retry.backoff_max_ms", reason, "write the shorter one first")


def _output(spec: StreamSpec, stream: StreamRef) -> Iterator[Fault]:
    files = spec.output.files
    if not 1 <= len(files) <= MAX_PATTERNS or not all(0 < len(each) <= MAX_PATTERN_CHARS for each in files):
        reason = f"it names no pattern, too many, an empty one, or one of more than {MAX_PATTERN_CHARS} characters"
        yield Fault("output.files", reason, f"write 1 to {MAX_PATTERNS}")
    try:
        targets.check_template(spec.output.to, stream, has_s3=spec.s3 is not None, plugins=spec.plugins)
        exposed = access.exposure(spec, spec.output.to.partition("{")[0])
    except targets.BadTarget as error:
        yield Fault("output.to", str(error), "see the reference of a stream's spec")
    else:
        if exposed:
            yield Fault("output.to", exposed, "write https:// or davs://")


def _s3(s3: S3Access | None) -> Iterator[Fault]:
    if s3 is None:
        return
    try:
        check_name(s3.secret, "secret")
    except BadName as error:
        yield Fault("s3", f"secret: {error}", "write the name that `broker secret add` was given")
    if not _REGION.fullmatch(s3.region):
        yield Fault("s3", f"{s3.region[:70]!r} is no region", "write for example us-east-1")
    if s3.endpoint is not None and not _ENDPOINT.fullmatch(s3.endpoint):
        yield Fault("s3", f"{s3.endpoint[:100]!r} is no endpoint", "write https://HOST or https://HOST:PORT")
    elif s3.endpoint is not None:
        try:
            targets.origin_of(s3.endpoint)
        except targets.BadTarget as error:
            yield Fault("s3", str(error), "write https://HOST or https://HOST:PORT")


def _plugins(spec: StreamSpec) -> Iterator[Fault]:
    plugins = spec.plugins
    if plugins and spec.needs.exchange is not Exchange.NETWORK:
        reason = f"a vm with exchange {spec.needs.exchange} has no network for a plugin to use"
        yield Fault("plugins", reason, "leave it out, or use exchange network")
    if len(plugins) > MAX_PLUGINS:
        yield Fault("plugins", f"{len(plugins)} plugins are too many", f"write at most {MAX_PLUGINS}")
    for scheme, path in list(plugins.items())[:MAX_PLUGINS]:
        if scheme in targets.BUILT_IN:
            yield Fault("plugins", f"{scheme} needs no plugin", "leave it out")
        elif not _SCHEME.fullmatch(scheme):
            remedy = "write small letters, digits, '+', '.' and '-', as before the colon of an address"
            yield Fault("plugins", f"{scheme[:70]!r} is no scheme", remedy)
        try:
            is_path = path.startswith("/") and bool(split_path(path.removeprefix("/")))
        except BadPath:
            is_path = False
        if not is_path or len(path) > MAX_PLUGIN_CHARS:
            yield Fault("plugins", f"{path[:100]!r} is no absolute path in the vm", "write one like /opt/plugin")


def _network(spec: StreamSpec) -> Iterator[Fault]:
    if spec.network and spec.needs.exchange is not Exchange.NETWORK:
        reason = f"a vm with exchange {spec.needs.exchange} has no network"
        yield Fault("network", reason, "leave it out, or use exchange network")
    if len(spec.network) > MAX_NETWORK:
        yield Fault("network", f"{len(spec.network)} hosts are too many", f"write at most {MAX_NETWORK}")
    for origin in spec.network[:MAX_NETWORK]:
        match = _HOST_PORT.fullmatch(origin)
        if not match or not 1 <= int(match[1]) <= 65_535:
            yield Fault("network", f"{origin!r} is no HOST:PORT", "write for example share.example:443")
