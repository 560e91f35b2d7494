"""Images and files in parts, resumable: the tus protocol 1.0 with creation, checksum, termination, concatenation.

An upload is its user's. When its last byte came its digest is proved, and it is an image granted to the sender, or the
file that it was begun for. A tus client keeps the address of an upload that it may go on with; one that sends `resume`
in the metadata needs no such notes: beginning the same again answers with the upload that is open. A file may come as
several uploads at once, its parts; the request that joins them answers when the file is there.

Source: tus.io, "Resumable upload protocol 1.0.x".
"""

import asyncio
from collections.abc import AsyncIterator, Mapping

import aiohttp
from aiohttp import web

from broker.domain.errors import Conflict, Rejected
from broker.files.appending import CHECKSUMS
from broker.files.upload import Purpose
from broker.files.upload_folder import Standing
from broker.files.uploads import Wanted
from broker.http import becoming, bodies, tus
from broker.http.call import Call, json_answer, limit
from broker.http.contract import NOTHING, octets, operation
from broker.wire.machines import UploadView
from broker.wire.names import UserName
from broker.wire.problems import ProblemCode

PATH = "/v1/uploads"
_BELOW = f"{PATH}/"
_OFFSET_TYPE = "application/offset+octet-stream"

_PATCH_REFUSALS = (
    ProblemCode.TUS_VERSION,
    ProblemCode.UPLOAD_BUSY,
    ProblemCode.OFFSET_DIFFERS,
    ProblemCode.CHECKSUM_MISMATCH,
    ProblemCode.DIGEST_MISMATCH,
    ProblemCode.QUOTA_EXCEEDED,
    ProblemCode.ALREADY_EXISTS,
)


@operation(answers={204: NOTHING})
async def discover(_: Call) -> web.Response:
    """Say which version and extensions are spoken."""
    headers = {
        "Tus-Version": tus.VERSION,
        "Tus-Extension": "creation,checksum,termination,concatenation",
        "Tus-Max-Size": str(limit("image_bytes")),
        "Tus-Checksum-Algorithm": ",".join(CHECKSUMS),
    }
    return _empty(headers)


@operation(
    answers={201: NOTHING},
    problems=(
        ProblemCode.TUS_VERSION,
        ProblemCode.TOO_MANY_UPLOADS,
        ProblemCode.TOO_LARGE,
        ProblemCode.QUOTA_EXCEEDED,
        ProblemCode.ALREADY_EXISTS,
        ProblemCode.OFFSET_DIFFERS,
        ProblemCode.UPLOAD_BUSY,
        ProblemCode.DIGEST_MISMATCH,
    ),
    parameters=(tus.RESUMABLE, tus.LENGTH, tus.METADATA, tus.CONCAT),
    sends=(tus.LOCATION, tus.STANDS_AT),
)
async def create(call: Call) -> web.Response:
    """Begin the upload of an image, a file or a part of one; with `resume`, or answer with the same one that is open.

    The file that parts make is there with the answer.
    """
    _check_version(call)
    headers = call.request.headers
    metadata = tus.metadata(headers.get("Upload-Metadata", ""))
    concat, resume = headers.get("Upload-Concat"), "resume" in metadata
    # What is joined has the size of its parts.
    size_bytes = 0 if (concat or "").startswith("final;") else tus.length(headers)
    wanted = becoming.wanted(call, tus.announced(metadata), size_bytes, metadata, concat)
    if concat is not None and wanted.purpose is Purpose.FILE:
        standing = await _join(call, wanted, tus.parts(concat))
    else:
        standing = await _begin(call, wanted, resume)
    return _empty({"Location": f"{PATH}/{standing.upload}", **_offset(standing.offset_bytes)}, status=201)


async def _join(call: Call, wanted: Wanted, parts: list[str]) -> Standing:
    user, uploads = _user(call), call.services.uploads
    standing = await uploads.join(user, wanted, parts)
    if standing.is_finished and not await becoming.is_there(call, wanted):
        await uploads.discard(user, standing.upload)
        standing = await uploads.join(user, wanted, parts)
    if not standing.is_finished:
        async with uploads.taken(user, standing.upload) as upload:
            await becoming.become(call, upload, standing.upload)
    return standing


async def _begin(call: Call, wanted: Wanted, resume: bool) -> Standing:
    user, uploads = _user(call), call.services.uploads
    check_room = await becoming.room_check(call, wanted, resume=resume)
    standing = await uploads.begin(user, wanted, resume=resume, check_room=check_room)
    if standing.is_finished and not await becoming.is_there(call, wanted):
        # It was finished, and removed with the machine that named it, or replaced.
        await uploads.discard(user, standing.upload)
        check_room = await becoming.room_check(call, wanted, resume=resume)
        standing = await uploads.begin(user, wanted, resume=resume, check_room=check_room)
    return standing


@operation(answers=list[UploadView])
async def list_uploads(call: Call) -> web.Response:
    standings = await call.services.uploads.unfinished(_user(call))
    return json_answer(
        [
            UploadView(
                upload=each.upload,
                digest=each.digest,
                size_bytes=each.size_bytes,
                offset_bytes=each.offset_bytes,
                becomes=f"file:{each.file}" if each.file else each.purpose.value,
            )
            for each in standings
        ]
    )


@operation(
    answers={200: NOTHING},
    problems=(ProblemCode.TUS_VERSION,),
    parameters=(tus.RESUMABLE,),
    sends=(tus.STANDS_AT, tus.LENGTH),
)
async def head(call: Call) -> web.Response:
    """Tell how far the upload came."""
    _check_version(call)
    standing = await _standing(call)
    return _empty({**_offset(standing.offset_bytes), "Upload-Length": str(standing.size_bytes)}, status=200)


@operation(
    takes=octets(_OFFSET_TYPE),
    answers={204: NOTHING},
    problems=_PATCH_REFUSALS,
    parameters=(tus.RESUMABLE, tus.OFFSET, tus.CHECKSUM),
    sends=(tus.STANDS_AT,),
)
async def patch(call: Call) -> web.Response:
    """Add bytes at the offset where the upload stands; with the last of them it becomes an image or a file."""
    _check_version(call)
    request = call.request
    if request.content_type != _OFFSET_TYPE:
        raise Rejected(ProblemCode.MEDIA_TYPE_REFUSED, f"send the bytes with Content-Type: {_OFFSET_TYPE}")
    bodies.check_encoding(request)
    offset_bytes = tus.number(request.headers, "Upload-Offset")
    checksum = tus.checksum(request.headers.get("Upload-Checksum"))
    standing = await _standing(call)
    if standing.is_finished:
        _check_place(request, offset_bytes, standing.offset_bytes, standing.size_bytes)
        return _empty(_offset(offset_bytes))
    async with call.services.uploads.taken(_user(call), standing.upload) as upload:
        _check_place(request, offset_bytes, upload.offset_bytes, upload.size_bytes)
        await upload.append(_pieces(request.content), checksum)
        if upload.is_complete:
            await becoming.become(call, upload, standing.upload)
        return _empty(_offset(upload.offset_bytes))


@operation(
    answers={204: NOTHING}, problems=(ProblemCode.TUS_VERSION, ProblemCode.UPLOAD_BUSY), parameters=(tus.RESUMABLE,)
)
async def delete(call: Call) -> web.Response:
    """End an upload and remove its bytes."""
    _check_version(call)
    await call.services.uploads.remove(_user(call), _id(call))
    return _empty({})


@operation(
    takes=octets(_OFFSET_TYPE),
    answers={200: NOTHING, 204: NOTHING},
    problems=(*_PATCH_REFUSALS, ProblemCode.METHOD_NOT_ALLOWED),
    parameters=(tus.METHOD_OVERRIDE, tus.RESUMABLE, tus.OFFSET_OF_PATCH, tus.CHECKSUM),
)
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


def mark_answer(request: web.Request, answer: web.StreamResponse) -> None:
    """Put on every answer about uploads what tus asks of it, before its headers go out."""
    path = request.path
    if path == PATH or path.startswith(_BELOW):
        answer.headers["Tus-Resumable"] = tus.VERSION
        answer.headers.setdefault("Cache-Control", "no-store")
        if answer.status == 412:
            answer.headers["Tus-Version"] = tus.VERSION


async def _pieces(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield a body in pieces of some size; what came before it broke off is yielded before the error is raised.

    Raises:
        Rejected: `too_slow`.
    """
    broken: Exception | None = None
    while broken is None:
        piece = bytearray()
        try:
            async with asyncio.timeout(bodies.PATIENCE_S):
                while len(piece) < bodies.PIECE_BYTES and (chunk := await content.readany()):
                    piece += chunk
        except TimeoutError:
            broken = bodies.too_slow("what came is kept: go on from there")
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
    if call.request.headers.get("Tus-Resumable") != tus.VERSION:
        raise Rejected(ProblemCode.TUS_VERSION, f"send Tus-Resumable: {tus.VERSION}, the version that is spoken here")


def _check_place(request: web.Request, offset_bytes: int, stands_at_bytes: int, size_bytes: int) -> None:
    if offset_bytes != stands_at_bytes:
        raise Conflict(
            ProblemCode.OFFSET_DIFFERS,
            f"the upload stands at {stands_at_bytes}, not {offset_bytes}: ask with HEAD, and go on from there",
        )
    if offset_bytes + (request.content_length or 0) > size_bytes:
        raise Rejected(ProblemCode.TOO_LARGE, f"the body reaches beyond the {size_bytes} bytes that were announced")
