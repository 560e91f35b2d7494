"""Sharing: a signed address of a file or a folder, for whoever has it and as long as it was made for."""

from datetime import timedelta

import structlog
from aiohttp import web

from broker.domain.errors import Rejected
from broker.domain.scopes import Authority
from broker.http.call import Call, allow, json_answer, limit, rfc3339_of
from broker.http.contract import operation
from broker.wire.files import Share, ShareView
from broker.wire.problems import ProblemCode

log = structlog.get_logger(__name__)


@operation(takes=Share, answers={201: ShareView})
async def share_file(call: Call) -> web.Response:
    """Sign an address of a file: to read it, which must be there, or to make it once, which must not."""
    body = await call.body(Share)
    file = call.file
    _check_life(body)
    if body.is_write:
        allow(call.who, Authority.FILE_WRITE, (file.user, *file.segments))
    elif await call.services.files.find(file) is None:
        raise Rejected(ProblemCode.NOT_FOUND, f"there is no file {file.url} to share: put it there first")
    return _signed(call, f"{file}", body)


@operation(takes=Share, answers={201: ShareView})
async def share_folder(call: Call) -> web.Response:
    """Sign an address of a folder: to list it and read whatever is below it, now and until it ends."""
    return _share_folder(call, await call.body(Share))


@operation(takes=Share, answers={201: ShareView})
async def share_files(call: Call) -> web.Response:
    """The same of all that is a user's."""
    return _share_folder(call, await call.body(Share))


def _share_folder(call: Call, body: Share) -> web.Response:
    _check_life(body)
    if body.is_write:
        raise Rejected(ProblemCode.BAD_REQUEST, "a folder is shared for reading alone: name the file to be made")
    return _signed(call, f"{call.folder}", body)


def _signed(call: Call, name: str, body: Share) -> web.Response:
    method = "PUT" if body.is_write else "GET"
    life = timedelta(seconds=body.life_s)
    url = call.services.urls.sign(method, f"/v1/files/{name}", life)
    log.info("file_shared", file=name, method=method, life_s=body.life_s, by=call.who.subject)
    return json_answer(ShareView(url=url, method=method, ends_at=rfc3339_of(_ends_s(url))), status=201)


def _ends_s(url: str) -> int:
    return int(url.partition("expires=")[2].partition("&")[0])


def _check_life(body: Share) -> None:
    most = limit("share_life_s")
    if not 1 <= body.life_s <= most:
        raise Rejected(ProblemCode.BAD_REQUEST, f"life_s is {body.life_s}: share for 1 s to {most} s, 30 days")
