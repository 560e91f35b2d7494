"""The disks of a command line: `vda=disk.qcow2`, or `vda=https://host/disk.qcow2#sha256=HEX`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from broker.cli.exits import BadUsage
from broker.wire.names import Digest

_DIGEST = re.compile(r"sha256[=:]([0-9a-f]{64})")
_HTTPS = "https://"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class Remote(NamedTuple):
    """An image that somebody else serves, pinned by its digest."""

    url: str
    digest: Digest


def parse_disks(given: Sequence[str]) -> dict[str, Path | Remote]:
    """Read what --disk said, by target.

    Raises:
        BadUsage: with what to write.
    """
    named: dict[str, Path | Remote] = {}
    for target, where in map(_parse_disk, given):
        if target in named:
            raise BadUsage(
                f"--disk {target} is given twice, {_shown(named[target])} and {_shown(where)}: leave one out"
            )
        named[target] = where
    return named


def _parse_disk(text: str) -> tuple[str, Path | Remote]:
    target, equals, where = text.partition("=")
    if not equals or not target or not where:
        raise BadUsage(f"--disk {text}: write TARGET=PATH, for example --disk vda=disk.qcow2")
    if not _SCHEME.match(where):
        return target, Path(where).expanduser()
    if not where.startswith(_HTTPS):
        raise BadUsage(f"--disk {text}: an image is fetched by https: only; {_HOW_TO_PIN}")
    url, _, pinned = where.partition("#")
    match = _DIGEST.fullmatch(pinned)
    if match is None:
        raise BadUsage(
            f"--disk {text}: {_HOW_TO_PIN}, so that every vm gets the bytes you mean (`sha256sum` prints it)"
        )
    return target, Remote(url, Digest(f"sha256:{match[1]}"))


_HOW_TO_PIN = "write TARGET=https://HOST/PATH#sha256=HEX with the SHA-256 of the file"


def _shown(where: Path | Remote) -> str:
    return where.url if isinstance(where, Remote) else str(where)
