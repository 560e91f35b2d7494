"""As much of WebDAV as `rclone copy`, `ls` and `delete` need, and no more.

The store has no folders: one is there while a file lies below it. So making one answers that it is made and keeps
nothing, and removing one answers that it is gone when no file is below. There is no lock, no property to set, no
COPY and no MOVE.

Source: RFC 4918; rclone's backend `webdav` with the vendor `other`.
"""

from urllib.parse import quote
from xml.sax.saxutils import escape

from aiohttp import web

from broker.domain.errors import Conflict, Rejected
from broker.domain.paths import FolderPath
from broker.files.listing import Entry
from broker.http.call import Call, limit
from broker.http.contract import NOTHING, Content, Form, operation
from broker.http.folders import page_of
from broker.http.strong import entity_tag, http_date
from broker.wire.names import Digest
from broker.wire.problems import ProblemCode

_XML = Content("application/xml", Form.BYTES)
_METHODS = "OPTIONS, GET, HEAD, PUT, DELETE, PROPFIND, MKCOL"


@operation(answers={200: NOTHING})
async def options(_: Call) -> web.Response:
    """Say what is spoken here: class 1, of which the parts above."""
    return web.Response(headers={"DAV": "1", "Allow": _METHODS, "Cache-Control": "no-store"})


@operation(answers={207: _XML}, problems=(ProblemCode.QUOTA_EXCEEDED, ProblemCode.TOO_LARGE, ProblemCode.BAD_REQUEST))
async def propfind_folder(call: Call) -> web.Response:
    return _multistatus(await _of_folder(call, call.folder))


@operation(answers={207: _XML}, problems=(ProblemCode.QUOTA_EXCEEDED, ProblemCode.TOO_LARGE, ProblemCode.BAD_REQUEST))
async def propfind(call: Call) -> web.Response:
    """Describe a file, or the folder of that name."""
    stored, file = await call.services.files.find(call.file), call.file
    if stored is None:
        return _multistatus(await _of_folder(call, FolderPath(file.user, file.segments)))
    entry = Entry(file.path, stored.size_bytes, stored.digest, await call.services.files.modified_s(file))
    return _multistatus([_response(file.user, entry)])


@operation(answers={201: NOTHING}, problems=(ProblemCode.METHOD_NOT_ALLOWED, ProblemCode.BAD_REQUEST))
async def mkcol(call: Call) -> web.Response:
    """Let a folder be there, which it is with its first file."""
    if call.request.can_read_body:
        raise Rejected(ProblemCode.MEDIA_TYPE_REFUSED, "MKCOL takes no body here")
    folder = FolderPath(call.file.user, call.file.segments) if "path" in call.request.match_info else call.folder
    page = await page_of(call, folder.user, folder.prefix, after="", most=1, is_deep=True)
    if page.entries or not folder.segments:
        raise Rejected(ProblemCode.METHOD_NOT_ALLOWED, f"file:{folder} is there already: put files into it")
    return web.Response(status=201)


@operation(answers={204: NOTHING}, problems=(ProblemCode.ALREADY_EXISTS,))
async def delete_folder(call: Call) -> web.Response:
    """Let a folder be gone, which it is with its last file."""
    page = await page_of(call, call.folder.user, call.folder.prefix, after="", most=1, is_deep=True)
    if page.entries:
        raise Conflict(
            ProblemCode.ALREADY_EXISTS,
            f"there are files below file:{call.folder}, and a folder goes with its last one: remove them, as "
            "`broker file rm --recursive` and `rclone delete` do",
        )
    return web.Response(status=204)


async def _of_folder(call: Call, folder: FolderPath) -> list[str]:
    depth = call.request.headers.get("Depth", "infinity")
    if depth not in {"0", "1"}:
        raise Rejected(ProblemCode.BAD_REQUEST, "PROPFIND is answered with Depth 0 or 1: send one of them")
    most = limit("dav_entries") if depth == "1" else 1
    page = await page_of(call, folder.user, folder.prefix, after="", most=most, is_deep=False)
    if not page.entries and folder.segments:
        raise Rejected(ProblemCode.NOT_FOUND, f"there is no file file:{folder}, and none below it")
    newest_s = max((each.modified_s for each in page.entries), default=0.0)
    itself = _response(folder.user, Entry(folder.prefix, None, None, newest_s))
    if depth == "0":
        return [itself]
    if page.has_more:
        raise Rejected(
            ProblemCode.TOO_LARGE, f"file:{folder} has more than {most} entries: list it with GET, page by page"
        )
    below = (_response(folder.user, each._replace(name=f"{folder.prefix}{each.name}")) for each in page.entries)
    return [itself, *below]


def _response(user: str, entry: Entry) -> str:
    href = escape(quote(f"/v1/files/{user}/{entry.name}"))
    props = f"<D:getlastmodified>{http_date(entry.modified_s)}</D:getlastmodified>"
    if entry.digest is None:
        props += "<D:resourcetype><D:collection/></D:resourcetype>"
    else:
        tag = escape(entity_tag(Digest(entry.digest)))
        props += (
            f"<D:resourcetype/><D:getcontentlength>{entry.size_bytes}</D:getcontentlength><D:getetag>{tag}</D:getetag>"
        )
    status = "<D:status>HTTP/1.1 200 OK</D:status>"
    return f"<D:response><D:href>{href}</D:href><D:propstat><D:prop>{props}</D:prop>{status}</D:propstat></D:response>"


def _multistatus(responses: list[str]) -> web.Response:
    body = f'<?xml version="1.0" encoding="utf-8"?>\n<D:multistatus xmlns:D="DAV:">{"".join(responses)}</D:multistatus>'
    return web.Response(
        text=body, status=207, content_type="application/xml", charset="utf-8", headers={"Cache-Control": "no-store"}
    )
