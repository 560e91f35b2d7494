"""Targets: where an item's outputs go, computed by the broker from the stream's template.

A template is `file:{user}/…` (our file service, below the stream's own user), `http(s)://HOST[:PORT]/…`,
`dav(s)://HOST[:PORT]/…`, `s3://BUCKET/…`, or of a scheme that the stream has a plugin for; host and bucket are literal.
`{user} {job} {item} {name} {stem} {suffix} {run} {input.path}` may stand in the path (and, for http, in the query),
nowhere else. Every target carries `{run}`, so that a vm which lost its item can never write over an accepted result:
where the template lacks it, it is put before the suffix of the last part.
"""

import re
from collections.abc import Collection
from functools import lru_cache
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
_HOST = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
"""A name whose labels a resolver can be asked for, or an address. Source: RFC 1035 section 2.3.4."""
HTTP_SCHEMES = frozenset({"http", "https"})
DAV_SCHEMES = frozenset({"dav", "davs"})
S3_SCHEME = "s3"
BUILT_IN = HTTP_SCHEMES | DAV_SCHEMES | {S3_SCHEME, "file"}
"""Schemes that need no plugin, and get none."""
_PORTS = {"https": 443, "davs": 443, "http": 80, "dav": 80}
_ADDRESS = re.compile(r"([a-z][a-z0-9+.\-]*)://([A-Za-z0-9.\-]*(?::[0-9]{1,5})?)(/[^?#]*)(\?[^#]*)?")
_ORDINARY = re.compile(r"(?:http|https|dav|davs)://[A-Za-z0-9.-]+(?::[0-9]{1,5})?/")
"""How ordinary addresses begin: up to the path there is nothing that has to be looked at twice."""
_NAMED = re.compile(_ORDINARY.pattern + r"(?:[A-Za-z0-9._~,=+@/-]*/)?([A-Za-z0-9_-][A-Za-z0-9._-]{0,250})")
"""An ordinary address of a file, whose name can be used as it is."""
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9]")
"""Source: "General purpose bucket naming rules", Amazon S3 User Guide."""
MAX_KEY_BYTES = 1_024
"""Of an S3 object. Source: "Naming Amazon S3 objects", Amazon S3 User Guide."""


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


def check_template(template: str, stream: StreamRef, *, has_s3: bool = False, plugins: Collection[str] = ()) -> None:
    """Check that a template gives a target for whatever an item brings.

    `has_s3`: the spec says where S3 is; `plugins`: the further schemes that it has plugins for.

    Raises:
        BadTarget: it does not; show its text.
    """
    if len(template.encode()) > MAX_TEMPLATE_BYTES:
        raise BadTarget(f"a target's template is at most {MAX_TEMPLATE_BYTES} bytes long")
    origin, path, query = _parts(template)
    if origin:
        check_scheme(template, has_s3=has_s3, plugins=plugins)
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
    if query and scheme_of(origin) not in HTTP_SCHEMES:
        raise BadTarget(f"{template!r}: only http and https have a query")
    if scheme_of(origin) in _PORTS:
        origin_of(origin)
    # The proof that the shape works: a target made with ordinary values.
    target_url(
        template, TargetOf(ItemRef(stream, 1), 1, DispatchId("0" * 36), "out.txt", "https://host.example/in.txt")
    )


def scheme_of(url: str) -> str:
    """Return the scheme of an address, in lower case; `file` for our file service, '' where there is none."""
    return url.partition(":")[0].lower() if ":" in url else ""


def check_scheme(url: str, *, has_s3: bool, plugins: Collection[str]) -> None:
    """Check that a stream can reach addresses of this kind.

    Raises:
        BadTarget: what the spec lacks for it.
    """
    scheme = scheme_of(url)
    if scheme == S3_SCHEME:
        if not has_s3:
            raise BadTarget(f"{url[:200]!r} is in S3, and the stream's spec has no s3: say there whose keys to use")
        bucket_and_key(url)
    elif scheme not in BUILT_IN and scheme not in plugins:
        raise BadTarget(
            f"{url[:200]!r}: the stream's spec has no plugin for {scheme}: write file:USER/PATH, http(s)://HOST/…, "
            f"dav(s)://HOST/… or s3://BUCKET/…, or name the plugin for {scheme[:40]!r} in plugins"
        )


def bucket_and_key(url: str) -> tuple[str, str]:
    """Return bucket and (decoded) key of an `s3:` address.

    Raises:
        BadTarget: it names none.
    """
    bucket, _, key = url.partition("://")[2].partition("/")
    key = unquote(key)
    if not _BUCKET.fullmatch(bucket) or not 0 < len(key.encode()) <= MAX_KEY_BYTES:
        raise BadTarget(f"{url[:200]!r} names no bucket and key: write s3://BUCKET/KEY")
    # S3 takes them, but clients and proxies would make another address of them.
    if any(part in {"", ".", ".."} for part in key.split("/")) or "?" in url or "#" in url:
        raise BadTarget(f"{url[:200]!r} has an empty part, '.' or '..' in its key, or an unquoted '?' or '#'")
    return bucket, key


def folders_of(template: str, target: str) -> list[str]:
    """Return the WebDAV collections that a target needs, outermost first: all that the template spells not literally.

    Those that it does spell are the user's to make: a mistyped folder is told, not made.
    """
    scheme, _, rest = target.partition("://")
    if scheme not in DAV_SCHEMES:
        return []
    literal = template.partition("{")[0].partition("://")[2].count("/")
    parts = rest.split("/")
    http = "https" if scheme == "davs" else "http"
    return [f"{http}://{'/'.join(parts[:count])}/" for count in range(literal + 1, len(parts))]


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
    """Return `HOST:PORT` of an http(s) or dav(s) address or template.

    None for a file of the broker, for S3, whose endpoint the spec has, and for what a plugin fetches without a port.

    Raises:
        BadTarget: it names no host, or a port that is none.
    """
    # It is asked for each item that is given out, and most items of a stream are at one origin.
    if ordinary := _ORDINARY.match(url):
        return _ordinary_origin(ordinary[0])
    if url.startswith(FILE_SCHEME) or scheme_of(url) == S3_SCHEME:
        return None
    return _origin(url)


@lru_cache(maxsize=1_024)
def _ordinary_origin(url: str) -> str | None:
    return _origin(url)


def _origin(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadTarget(f"{url[:200]!r} is no address: {error}") from error
    host = parts.hostname or ""
    if parts.scheme not in _PORTS and port is None:
        return None
    if port == 0 or not _HOST.fullmatch(host) or len(host.rstrip(".")) > _MAX_HOST_CHARS:
        raise BadTarget(f"{url[:200]!r} names no host and port that a guest could reach")
    if port is None:
        port = _PORTS[parts.scheme]
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
    # Encoded too: servers decode before they go up a folder, and some take a backslash for a slash.
    if any(part in {".", ".."} for part in unquote(quoted_path).replace("\\", "/").split("/")):
        raise BadTarget(f"{of.name!r} gives a target with '..' in it, which is refused")
    if scheme_of(origin) == S3_SCHEME:
        bucket_and_key(f"{origin}{quoted_path}")
    quoted_query = _PLACEHOLDER.sub(lambda match: quote(values[match[1]], safe=""), query)
    return f"{origin}{quoted_path}{quoted_query}"


def input_name(url: str) -> str:
    """Return the file name that an input has in the guest: the last part of its path, or `input`."""
    if ordinary := _NAMED.fullmatch(url):
        return ordinary[1]
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


@lru_cache(maxsize=1_024)
def _parts(template: str) -> tuple[str, str, str]:
    """Split a template into origin (empty for our file service), path and query."""
    if template.startswith(FILE_SCHEME) and not template.startswith("file:/"):
        return "", template.removeprefix(FILE_SCHEME), ""
    match = _ADDRESS.fullmatch(template)
    if not match or match[1] == "file" or not (match[2] or match[1] not in BUILT_IN):
        raise BadTarget(
            f"{template!r} is no target: write file:{{user}}/…, http(s)://HOST/…, dav(s)://HOST/… or s3://BUCKET/… "
            "with a literal host or bucket, without user, password or fragment"
        )
    return f"{match[1]}://{match[2]}", match[3], match[4] or ""


@lru_cache(maxsize=1_024)
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
