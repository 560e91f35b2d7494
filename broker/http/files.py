"""The file service: a user's files, and the same for whoever holds a signed address of one."""

import base64
import binascii
import re

from aiohttp import web

from broker.domain.errors import Rejected
from broker.files.objects import Facts
from broker.files.user_files import StoredFile
from broker.http.call import Call, json_answer
from broker.http.contract import BYTES, NOTHING, PARTS, operation
from broker.http.file_addresses import direct_address, redirected
from broker.http.parameters import CONTENT_DIGEST, CREATE_ONLY, IF_NONE_MATCH, RANGE, REPR_DIGEST
from broker.http.sending import repr_digest, send_file
from broker.wire.files import AnnouncedFile, AnnounceFile, FileView
from broker.wire.names import Digest, check_digest
from broker.wire.problems import ProblemCode

_SHA_256 = re.compile(r"(?:^|,)[ \t]*sha-256=:([A-Za-z0-9+/]*={0,2}):[ \t]*(?=,|$)")


@operation(
    takes=BYTES,
    answers={200: FileView, 201: FileView},
    problems=(ProblemCode.ALREADY_EXISTS, ProblemCode.DIGEST_MISMATCH, ProblemCode.QUOTA_EXCEEDED),
    parameters=(CREATE_ONLY, REPR_DIGEST, CONTENT_DIGEST),
    sends=(REPR_DIGEST,),
)
async def put_file(call: Call) -> web.Response:
    """Write a file, whole or not at all. Through a signed address a file is made and never replaced."""
    condition = call.request.headers.get("If-None-Match")
    if condition not in {None, "*"}:
        raise Rejected(ProblemCode.BAD_REQUEST, "If-None-Match on a PUT is understood as * only")
    with call.large_body() as body:
        stored, is_new = await call.services.files.put(
            call.file,
            body,
            expected=announced_digest(call.request),
            create_only=condition == "*" or call.principal is None,
            announced_bytes=call.request.content_length,
        )
    headers = {"Repr-Digest": repr_digest(stored.digest)}
    return json_answer(_view(call, stored), status=201 if is_new else 200, headers=headers)


@operation(takes=AnnounceFile, answers=AnnouncedFile, problems=(ProblemCode.ALREADY_EXISTS, ProblemCode.QUOTA_EXCEEDED))
async def announce_file(call: Call) -> web.Response:
    """Ask how to send a file of this size and digest. Where files are in S3 the answer is a signed address there.

    Announced again after it was sent, it is there. Until then it takes its user's room, and for six hours at most.
    """
    said = await call.body(AnnounceFile)
    if said.size_bytes < 0:
        raise Rejected(ProblemCode.BAD_REQUEST, f"size_bytes is {said.size_bytes}: send the number of bytes")
    facts = Facts(said.size_bytes, check_digest(said.digest))
    found = await direct_address(call, call.file, facts, create_only=said.create_only)
    if isinstance(found, StoredFile):
        return json_answer(AnnouncedFile(file=_view(call, found)))
    return json_answer(AnnouncedFile(upload=found))


@operation(
    answers={**PARTS, 307: NOTHING},
    problems=(ProblemCode.RANGE_NOT_SATISFIABLE,),
    parameters=(RANGE, IF_NONE_MATCH),
    sends=(REPR_DIGEST,),
)
async def get_file(call: Call) -> web.StreamResponse:
    """Send the file, or, where files are in S3, the way to it: `Repr-Digest` is then that of the file there."""
    stored = await _find(call)
    try:
        return _sent(call, stored)
    except FileNotFoundError:  # replaced or removed since it was found
        return _sent(call, await _find(call))


@operation(answers={204: NOTHING})
async def delete_file(call: Call) -> web.Response:
    if not await call.services.files.delete(call.file):
        raise _missing(call)
    return web.Response(status=204)


def announced_digest(request: web.Request) -> Digest | None:
    """Return the SHA-256 that the sender announced; other algorithms are left to others.

    Raises:
        Rejected: `bad_request` when it cannot be read: an unreadable promise must not pass as kept.
    """
    found: Digest | None = None
    for name in ("Repr-Digest", "Content-Digest"):
        field = request.headers.get(name, "")
        match = _SHA_256.search(field)
        if not match:
            if "sha-256" in field:
                raise _bad_digest(name)
            continue
        digest = _digest(match[1], name)
        if found not in {None, digest}:
            raise Rejected(ProblemCode.BAD_REQUEST, "Repr-Digest and Content-Digest differ: send one of them")
        found = digest
    return found


def _digest(text: str, name: str) -> Digest:
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise _bad_digest(name) from error
    if len(raw) != 32:
        raise _bad_digest(name)
    return Digest(f"sha256:{raw.hex()}")


def _bad_digest(name: str) -> Rejected:
    return Rejected(
        ProblemCode.BAD_REQUEST, f"{name} cannot be read: write sha-256=:BASE64: of the 32 bytes (RFC 9530)"
    )


def _view(call: Call, stored: StoredFile) -> FileView:
    path = call.file
    url = call.services.urls.plain(f"/v1/files/{path}")
    return FileView(file=path.url, size_bytes=stored.size_bytes, digest=stored.digest, url=url)


async def _find(call: Call) -> StoredFile:
    stored = await call.services.files.find(call.file)
    if stored is None:
        raise _missing(call)
    return stored


def _sent(call: Call, stored: StoredFile) -> web.StreamResponse:
    if stored.location is None:
        return redirected(call, stored)
    return send_file(call.request, stored.location, name=call.file.name, digest=stored.digest)


def _missing(call: Call) -> Rejected:
    return Rejected(ProblemCode.NOT_FOUND, f"there is no file {call.file.url}")
