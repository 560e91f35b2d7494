"""Images in parts, resumable: the tus protocol 1.0 with creation, checksum and termination.

An upload is its user's. When its last byte came its digest is proved, and it is an image granted to the sender. A tus
client keeps the address of an upload that it may go on with; one that sends `resume` in the metadata needs no such
notes: beginning the same image again answers with the upload that is open.

Source: tus.io, "Resumable upload protocol 1.0.x".
"""

import asyncio
import base64
import binascii
import re
from collections.abc import AsyncIterator, Mapping

import aiohttp
from aiohttp import web

from broker.domain.errors import Conflict, Rejected
from broker.files.appending import CHECKSUMS, Checksum
from broker.files.upload import Upload
from broker.files.uploads import Standing
from broker.http.call import Call, json_answer, limit
from broker.http.images import become_image
from broker.wire.machines import UploadView
from broker.wire.names import Digest, UserName, check_digest
from broker.wire.problems import ProblemCode

VERSION = "1.0.0"
PATH = "/v1/uploads"
PIECE_BYTES = 262_144
PATIENCE_S = 60.0
"""A sender that needs longer for one piece is cut off, so that it cannot keep the upload for ever."""
_OFFSET_TYPE = "application/offset+octet-stream"
_NUMBER = re.compile(r"[0-9]{1,15}")
_PAIR = re.compile(r"[\x21-\x2b\x2d-\x7e]+(?: [A-Za-z0-9+/=]*)?")


async def discover(_: Call) -> web.Response:
    """Say which version and extensions are spoken."""
    headers = {
        "Tus-Version": VERSION,
        "Tus-Extension": "creation,checksum,termination",
        "Tus-Max-Size": str(limit("image_bytes")),
        "Tus-Checksum-Algorithm": ",".join(CHECKSUMS),
    }
    return _empty(headers)


async def create(call: Call) -> web.Response:
    """Begin the upload of an image; with `resume`, or answer with the one of the same image that is open."""
    _check_version(call)
    size_bytes = _length(call.request.headers)
    metadata = _metadata(call.request.headers.get("Upload-Metadata", ""))
    digest, resume = _announced(metadata), "resume" in metadata
    user, uploads = _user(call), call.services.uploads
    standing = await uploads.begin(user, digest, size_bytes, resume=resume)
    if standing.is_finished and await call.services.store.image_size(user, digest) is None:
        # It was finished, and removed with the machine that named it.
        await uploads.discard(user, standing.upload)
        standing = await uploads.begin(user, digest, size_bytes, resume=resume)
    return _empty({"Location": f"{PATH}/{standing.upload}", **_offset(standing.offset_bytes)}, status=201)


async def list_uploads(call: Call) -> web.Response:
    standings = await call.services.uploads.unfinished(_user(call))
    return json_answer(
        [
            UploadView(
                upload=each.upload,
                digest=each.digest,
                size_bytes=each.size_bytes,
                offset_bytes=each.offset_bytes,
            )
            for each in standings
        ]
    )


async def head(call: Call) -> web.Response:
    """Tell how far the upload came."""
    _check_version(call)
    standing = await _standing(call)
    return _empty({**_offset(standing.offset_bytes), "Upload-Length": str(standing.size_bytes)}, status=200)


async def patch(call: Call) -> web.Response:
    """Add bytes at the offset where the upload stands; with the last of them it becomes an image."""
    _check_version(call)
    request = call.request
    if request.content_type != _OFFSET_TYPE:
        raise Rejected(ProblemCode.MEDIA_TYPE_REFUSED, f"send the bytes with Content-Type: {_OFFSET_TYPE}")
    offset_bytes = _number(request.headers, "Upload-Offset")
    checksum = _checksum(request.headers.get("Upload-Checksum"))
    standing = await _standing(call)
    if standing.is_finished:
        _check_place(request, offset_bytes, standing.offset_bytes, standing.size_bytes)
        return _empty(_offset(offset_bytes))
    async with call.services.uploads.taken(_user(call), standing.upload) as upload:
        _check_place(request, offset_bytes, upload.offset_bytes, upload.size_bytes)
        await upload.append(_pieces(request.content), checksum)
        if upload.is_complete:
            await _become_image(call, upload, standing.upload)
        return _empty(_offset(upload.offset_bytes))


async def delete(call: Call) -> web.Response:
    """End an upload and remove its bytes."""
    _check_version(call)
    await call.services.uploads.remove(_user(call), _id(call))
    return _empty({})


async def override(call: Call) -> web.Response:
    """Do what `X-HTTP-Method-Override` says, for those whose proxies let neither PATCH nor DELETE through."""
    method = call.request.headers.get("X-HTTP-Method-Override", "")
    match method.upper():
        case "PATCH":
            return await patch(call)
        case "DELETE":
            return await delete(call)
        case "HEAD":
            return await head(call)
    raise Rejected(
        ProblemCode.METHOD_NOT_ALLOWED, "a POST to an upload says PATCH, DELETE or HEAD in X-HTTP-Method-Override"
    )


async def mark_answer(request: web.Request, answer: web.StreamResponse) -> None:
    """Put on every answer about uploads what tus asks of it. A signal of the application."""
    if request.path == PATH or request.path.startswith(f"{PATH}/"):
        answer.headers["Tus-Resumable"] = VERSION
        answer.headers.setdefault("Cache-Control", "no-store")
        if answer.status == 412:
            answer.headers["Tus-Version"] = VERSION


async def _become_image(call: Call, upload: Upload, name: str) -> None:
    services, user = call.services, _user(call)
    try:
        await upload.prove()
    except Rejected:
        await services.uploads.discard(user, name)
        raise
    await become_image(services, user, upload.digest, upload.path, upload.size_bytes)
    await services.uploads.finish(user, name)


async def _pieces(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield a body in pieces of some size; what came before it broke off is yielded before the error is raised.

    Raises:
        Rejected: `too_slow`.
    """
    broken: Exception | None = None
    while broken is None:
        piece = bytearray()
        try:
            async with asyncio.timeout(PATIENCE_S):
                while len(piece) < PIECE_BYTES and (chunk := await content.readany()):
                    piece += chunk
        except TimeoutError:
            broken = _too_slow()
        except (ConnectionError, aiohttp.ClientPayloadError, web.RequestPayloadError) as error:
            broken = error
        if piece:
            yield bytes(piece)
        elif broken is None:
            return
    raise broken


async def _standing(call: Call) -> Standing:
    return await call.services.uploads.find(_user(call), _id(call))


def _user(call: Call) -> UserName:
    return UserName(call.who.subject)


def _id(call: Call) -> str:
    return call.request.match_info["upload"]


def _empty(headers: Mapping[str, str], status: int = 204) -> web.Response:
    return web.Response(status=status, headers={"Cache-Control": "no-store", **headers})


def _offset(offset_bytes: int) -> dict[str, str]:
    return {"Upload-Offset": str(offset_bytes)}


def _check_version(call: Call) -> None:
    if call.request.headers.get("Tus-Resumable") != VERSION:
        raise Rejected(ProblemCode.TUS_VERSION, f"send Tus-Resumable: {VERSION}, the version that is spoken here")


def _check_place(request: web.Request, offset_bytes: int, stands_at_bytes: int, size_bytes: int) -> None:
    if offset_bytes != stands_at_bytes:
        raise Conflict(
            ProblemCode.OFFSET_DIFFERS,
            f"the upload stands at {stands_at_bytes}, not {offset_bytes}: ask with HEAD, and go on from there",
        )
    if offset_bytes + (request.content_length or 0) > size_bytes:
        raise Rejected(ProblemCode.TOO_LARGE, f"the body reaches beyond the {size_bytes} bytes that were announced")


def _length(headers: Mapping[str, str]) -> int:
    if "Upload-Defer-Length" in headers or "Upload-Concat" in headers:
        raise Rejected(ProblemCode.BAD_REQUEST, "an upload has its Upload-Length from the start, and is one piece")
    size_bytes = _number(headers, "Upload-Length")
    if size_bytes == 0:
        raise Rejected(ProblemCode.BAD_REQUEST, "Upload-Length is 0: an image has at least one byte")
    return size_bytes


def _number(headers: Mapping[str, str], name: str) -> int:
    text = headers.get(name, "")
    if not _NUMBER.fullmatch(text):
        raise Rejected(ProblemCode.BAD_REQUEST, f"{name} is missing or no number of bytes: send it")
    return int(text)


def _metadata(field: str) -> dict[str, str]:
    """Read `Upload-Metadata`: keys, each with a value in Base64 or none, with commas between."""
    pairs = [pair.strip() for pair in field.split(",") if pair.strip()]
    if not all(_PAIR.fullmatch(pair) for pair in pairs):
        raise Rejected(ProblemCode.BAD_REQUEST, "Upload-Metadata cannot be read: send KEY BASE64, with commas between")
    return dict(pair.partition(" ")[::2] for pair in pairs)


def _announced(metadata: Mapping[str, str]) -> Digest:
    if "digest" not in metadata:
        raise Rejected(
            ProblemCode.BAD_REQUEST,
            "Upload-Metadata names no digest: send `digest` and the Base64 of sha256: and 64 hexadecimal digits",
        )
    return check_digest(_decoded(metadata["digest"], "Upload-Metadata").decode("ascii", "replace"))


def _checksum(field: str | None) -> Checksum | None:
    if field is None:
        return None
    algorithm, _, value = field.strip().partition(" ")
    if algorithm not in CHECKSUMS:
        raise Rejected(ProblemCode.BAD_REQUEST, f"Upload-Checksum is of {' or '.join(CHECKSUMS)}, not {algorithm[:32]}")
    return Checksum(algorithm, _decoded(value.strip(), "Upload-Checksum"))


def _decoded(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise Rejected(ProblemCode.BAD_REQUEST, f"{name} cannot be read: its value is no Base64") from error


def _too_slow() -> Rejected:
    return Rejected(
        ProblemCode.TOO_SLOW,
        f"fewer than {PIECE_BYTES} bytes came within {PATIENCE_S:.0f} s; what came is kept: go on from there",
    )
