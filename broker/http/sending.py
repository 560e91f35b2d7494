"""Sending a file: with ranges, never as something a browser would run."""

import base64
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

from broker.domain.errors import Rejected
from broker.http.strong import DigestResponse
from broker.wire.names import Digest
from broker.wire.problems import ProblemCode

SANDBOX = "default-src 'none'; sandbox"


def repr_digest(digest: Digest) -> str:
    """Write a digest as the field `Repr-Digest`. Source: RFC 9530."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(digest.removeprefix('sha256:'))).decode()}:"


def send_file(request: web.Request, location: Path, *, name: str, digest: Digest) -> web.FileResponse:
    """Answer with a file, or with the part of it that the request asks for.

    Raises:
        Rejected: `range_not_satisfiable`.
    """
    _check_range(request, location)
    return DigestResponse(
        location,
        digest=digest,
        headers={
            "Content-Type": "application/octet-stream",
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
            "Content-Security-Policy": SANDBOX,
            "Repr-Digest": repr_digest(digest),
            "Cache-Control": "private, no-cache",
        },
    )


def _check_range(request: web.Request, location: Path) -> None:
    size_bytes = location.stat().st_size
    try:
        start = request.http_range.start
    except ValueError as error:
        raise Rejected(ProblemCode.RANGE_NOT_SATISFIABLE, "the Range header cannot be read: see RFC 9110") from error
    if start is not None and start >= size_bytes:
        raise Rejected(ProblemCode.RANGE_NOT_SATISFIABLE, f"there are {size_bytes} bytes: ask for a range among them")
