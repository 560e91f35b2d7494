"""Targets: where an item's outputs go, computed by the broker from the stream's template.

A template is `file:{user}/…` (our file service, below the stream's own user) or `http(s)://HOST[:PORT]/…` with a
literal host. `{user} {job} {item} {name} {stem} {suffix} {run} {input.path}` may stand in the path (and, for http, in
the query), nowhere else. Every target carries `{run}`, so that a vm which lost its item can never write over an
accepted result: where the template lacks it, it is put before the suffix of the last part.
"""

import re
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from broker.domain.paths import FILE_SCHEME, BadPath, FilePath, Segments, parse_file_url, split_path
from broker.wire.names import DispatchId, ItemRef, StreamRef

PLACEHOLDERS = ("user", "job", "item", "name", "stem", "suffix", "run", "input.path")
MAX_TEMPLATE_BYTES = 1_024
_OF_A_STREAM = {"user", "job"}
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_MAX_HOST_CHARS = 253
"""Source: RFC 1035 section 2.3.4, without the final dot."""
_HTTP = re.compile(r"(https?://[A-Za-z0-9.\-]+(?::[0-9]{1,5})?)(/[^?#]*)(\?[^#]*)?")


class BadTarget(ValueError):
    """A template or an output's name that is refused; its text is a sentence for a person."""


class TargetOf(NamedTuple):
    """What the placeholders stand for."""

    item: ItemRef
    fence: int
    dispatch: DispatchId
    name: str
    input_url: str | None = None

    @property
    def run(self) -> str:
        return run_of(self.fence, self.dispatch)


def run_of(fence: int, dispatch: DispatchId) -> str:
    """Return the text of `{run}`: the fence, and enough of the dispatch to tell two runs with one fence apart."""
    return f"{fence}-{dispatch[:8]}"


def check_template(template: str, stream: StreamRef) -> None:
    """Check that a template gives a target for whatever an item brings.

    Raises:
        BadTarget: it does not; show its text.
    """
    if len(template.encode()) > MAX_TEMPLATE_BYTES:
        raise BadTarget(f"a target's template is at most {MAX_TEMPLATE_BYTES} bytes long")
    origin, path, query = _parts(template)
    if origin and not (template.isascii() and template.isprintable() and " " not in template):
        raise BadTarget(f"{template!r} holds characters that must be percent-encoded")
    if "{" in origin or "}" in origin:
        raise BadTarget(f"{template!r}: placeholders may stand in the path only, the host is literal")
    for name in _PLACEHOLDER.findall(path + query):
        if name not in PLACEHOLDERS:
            raise BadTarget(f"{template!r}: there is no {{{name}}}; use {', '.join(f'{{{p}}}' for p in PLACEHOLDERS)}")
    if "{" in _PLACEHOLDER.sub("", path + query) or "}" in _PLACEHOLDER.sub("", path + query):
        raise BadTarget(f"{template!r}: a brace has no partner")
    if not origin and not path.startswith(("{user}/", f"{stream.user}/")):
        raise BadTarget(f"{template!r}: a target in our file service begins with file:{{user}}/")
    if origin:
        origin_of(origin)
    # The proof that the shape works: a target made with ordinary values.
    target_url(
        template, TargetOf(ItemRef(stream, 1), 1, DispatchId("0" * 36), "out.txt", "https://host.example/in.txt")
    )


def needs_input(template: str) -> bool:
    """Tell whether an item without an input would have no target."""
    return "{input.path}" in template


def written_below(template: str, stream: StreamRef) -> Segments | None:
    """Return the part of our file service that all the stream's targets lie in, or None when they are elsewhere."""
    origin, path, _ = _parts(template)
    if origin:
        return None
    below: list[str] = []
    for part in path.split("/")[:-1]:
        if not set(_PLACEHOLDER.findall(part)) <= _OF_A_STREAM:
            break
        below.append(_PLACEHOLDER.sub(lambda match: {"user": stream.user, "job": stream.name}[match[1]], part))
    return tuple(below)


def origin_of(url: str) -> str | None:
    """Return `HOST:PORT` of an http(s) address or template, or None for a file of the broker.

    Raises:
        BadTarget: it names no host, or a port that is none.
    """
    if url.startswith(FILE_SCHEME):
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadTarget(f"{url[:200]!r} is no address: {error}") from error
    host = parts.hostname or ""
    if port == 0 or not 0 < len(host.rstrip(".")) <= _MAX_HOST_CHARS:
        raise BadTarget(f"{url[:200]!r} names no host and port that a guest could reach")
    if port is None:
        port = 443 if parts.scheme == "https" else 80
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def target_url(template: str, of: TargetOf) -> str:
    """Compute the target of one output: `file:USER/PATH`, or a complete http(s) address.

    Raises:
        BadTarget: the output's name, or the input's path, does not fit into it.
    """
    values = _values(of)
    origin, path, query = _parts(template if "{run}" in template else _with_run(template))
    if not origin:
        return _file(path, values).url
    quoted_path = _PLACEHOLDER.sub(lambda match: quote(values[match[1]], safe="/"), path)
    if any(part in {".", ".."} for part in quoted_path.split("/")):
        raise BadTarget(f"{of.name!r} gives a target with '..' in it, which is refused")
    quoted_query = _PLACEHOLDER.sub(lambda match: quote(values[match[1]], safe=""), query)
    return f"{origin}{quoted_path}{quoted_query}"


def input_name(url: str) -> str:
    """Return the file name that an input has in the guest: the last part of its path, or `input`."""
    try:
        path = url.removeprefix(FILE_SCHEME) if url.startswith(FILE_SCHEME) else unquote(_path_of(url))
        return split_path(path.rpartition("/")[2])[0]
    except (BadPath, BadTarget):
        return "input"


def _file(path: str, values: dict[str, str]) -> FilePath:
    try:
        return parse_file_url(FILE_SCHEME + _PLACEHOLDER.sub(lambda match: values[match[1]], path))
    except BadPath as error:
        raise BadTarget(str(error)) from error


def _parts(template: str) -> tuple[str, str, str]:
    """Split a template into origin (empty for our file service), path and query."""
    if template.startswith(FILE_SCHEME) and not template.startswith("file:/"):
        return "", template.removeprefix(FILE_SCHEME), ""
    match = _HTTP.fullmatch(template)
    if not match:
        raise BadTarget(
            f"{template!r} is no target: write file:{{user}}/… or http(s)://HOST/… with a literal host, "
            "without user, password or fragment"
        )
    return match[1], match[2], match[3] or ""


def _with_run(template: str) -> str:
    """Put `{run}` before the suffix of the template's last part; `{name}` there is taken apart for it."""
    address, mark, query = template.partition("?")
    head, slash, last = address.rpartition("/")
    last = last.replace("{name}", "{stem}{suffix}")
    before, suffix, after = last.rpartition("{suffix}")
    if not suffix:
        # A dot inside of a placeholder is none of a suffix.
        dot = last.rfind(".", last.rfind("}") + 1)
        before, after = (last[:dot], last[dot:]) if dot > 0 else (last, "")
    return f"{head}{slash}{before}.{{run}}{suffix}{after}{mark}{query}"


def _stem_and_suffix(name: str) -> tuple[str, str]:
    folder, slash, last = name.rpartition("/")
    stem, dot, suffix = last.rpartition(".")
    if not stem:
        return name, ""
    return f"{folder}{slash}{stem}", f"{dot}{suffix}"


def _values(of: TargetOf) -> dict[str, str]:
    try:
        split_path(of.name)
    except BadPath as error:
        raise BadTarget(f"an output's name is refused: {error}") from error
    stem, suffix = _stem_and_suffix(of.name)
    return {
        "user": of.item.stream.user,
        "job": of.item.stream.name,
        "item": str(of.item.number),
        "name": of.name,
        "stem": stem,
        "suffix": suffix,
        "run": of.run,
        "input.path": _input_path(of.input_url),
    }


def _input_path(url: str | None) -> str:
    if url is None:
        return ""
    if url.startswith(FILE_SCHEME):
        return url.partition("/")[2]
    return unquote(_path_of(url)).removeprefix("/")


def _path_of(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError as error:
        raise BadTarget(f"{url[:200]!r} is no address: {error}") from error
