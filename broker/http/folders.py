"""What is in a folder of the file service: as JSON for programs, as a page of plain links for wget and a browser.

A folder that is shared by a signed address lists its files with addresses that are signed as long as its own.
"""

import html
import re
from collections.abc import Mapping
from urllib.parse import quote, urlencode

from aiohttp import web

from broker.auth.urls import SIGNED
from broker.domain.errors import Rejected
from broker.files.listing import Entry, Page
from broker.http.call import Call, json_answer, limit, rfc3339_of
from broker.http.contract import JSON, PAGE, Content, Form, operation
from broker.http.parameters import DEEP, FOLDER_CURSOR, LIMIT
from broker.http.sending import SANDBOX
from broker.wire.files import EntryView, FolderView
from broker.wire.names import UserName
from broker.wire.problems import ProblemCode

_DEFAULT_PAGE = 100
_COUNT = re.compile(r"[0-9]{1,6}")


_LISTED = {200: (Content(JSON, Form.JSON, (FolderView,)), PAGE)}
_PARAMETERS = (DEEP, FOLDER_CURSOR, LIMIT)


@operation(answers=_LISTED, problems=(ProblemCode.QUOTA_EXCEEDED,), parameters=_PARAMETERS)
async def list_files(call: Call) -> web.Response:
    """List a page of what is a user's; a page for people where `Accept` asks for text/html."""
    return await _list(call, call.query("recursive", "cursor", "limit"))


@operation(answers=_LISTED, problems=(ProblemCode.QUOTA_EXCEEDED,), parameters=_PARAMETERS)
async def list_folder(call: Call) -> web.Response:
    """The same of a folder."""
    return await _list(call, call.query("recursive", "cursor", "limit"))


async def page_of(call: Call, user: UserName, folder: str, *, after: str, most: int, is_deep: bool) -> Page:
    """Return a page of a folder, as `Listings.page` does; with what came to S3 until now."""
    if call.services.files.direct is not None:
        await call.services.files.direct.settle_user(user)
    return await call.services.listings.page(user, folder, after=after, most=most, is_deep=is_deep)


def nothing_below(call: Call) -> Rejected:
    return Rejected(ProblemCode.NOT_FOUND, f"there is no file below file:{call.folder}")


async def _list(call: Call, query: Mapping[str, str]) -> web.Response:
    after, is_deep = query.get("cursor", ""), query.get("recursive") == "1"
    page = await page_of(
        call, call.folder.user, call.folder.prefix, after=after, most=_most(query.get("limit")), is_deep=is_deep
    )
    if not page.entries and call.folder.segments and not after:
        raise nothing_below(call)
    if "text/html" in call.request.headers.get("Accept", ""):
        return _page(call, page)
    return json_answer(
        FolderView(
            folder=f"file:{call.folder}",
            entries=[_view(call, each) for each in page.entries],
            next_cursor=page.entries[-1].name if page.has_more else None,
        )
    )


def _view(call: Call, entry: Entry) -> EntryView:
    return EntryView(
        name=entry.name,
        file=f"file:{call.folder}{entry.name}",
        modified_at=rfc3339_of(int(entry.modified_s)),
        size_bytes=entry.size_bytes,
        digest=entry.digest,
    )


def _most(text: str | None) -> int:
    most = limit("page_items")
    if text is None:
        return _DEFAULT_PAGE
    if not _COUNT.fullmatch(text) or not 1 <= int(text) <= most:
        raise Rejected(ProblemCode.BAD_REQUEST, f"limit is a number from 1 to {most}")
    return int(text)


def _page(call: Call, page: Page) -> web.Response:
    """Write the page. Nothing on it runs, and what a user wrote is text and links alone."""
    title = html.escape(str(call.folder))
    rows = [_row(call, each) for each in page.entries]
    if page.has_more:
        rows.append(f'<li><a href="{_next(call, page)}">more</a></li>')
    body = f'<!DOCTYPE html><meta charset="utf-8"><title>{title}</title><h1>{title}</h1><ul>\n{"".join(rows)}</ul>\n'
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": f"{SANDBOX} allow-downloads",
        "Referrer-Policy": "no-referrer",
    }
    return web.Response(text=body, content_type="text/html", charset="utf-8", headers=headers)


def _row(call: Call, entry: Entry) -> str:
    size = "" if entry.size_bytes is None else f" {entry.size_bytes}"
    return f'<li><a href="{_link(call, entry.name)}">{html.escape(entry.name)}</a>{size}</li>\n'


def _link(call: Call, name: str) -> str:
    # `./`: a name that looks like a scheme is none.
    relative = f"./{quote(name, safe='/')}"
    if call.principal is not None:
        return html.escape(relative)
    signed = call.services.urls.sign_like(f"/v1/files/{call.folder}{name}", call.request.query)
    return html.escape(f"{relative}?{signed.partition('?')[2]}")


def _next(call: Call, page: Page) -> str:
    kept = {name: value for name, value in call.request.query.items() if name in SIGNED | {"limit", "recursive"}}
    return html.escape(f"?{urlencode({**kept, 'cursor': page.entries[-1].name})}")
