"""Items: listed, one by one, and what their vms said."""

import re
from collections.abc import Mapping

import msgspec
from aiohttp import web

from broker.domain.errors import Rejected
from broker.http.call import Call, json_answer, limit
from broker.http.contract import BYTES, operation
from broker.http.parameters import ITEM_CURSOR, ITEM_STATE, LIMIT
from broker.http.prospects import waits_for
from broker.http.sending import SANDBOX
from broker.http.streams import checked_reason, known_stream, no_stream
from broker.store.items import no_item
from broker.wire.items import CancelledItem, HoldItem, ItemPage, ItemView
from broker.wire.names import DispatchId
from broker.wire.problems import ProblemCode
from broker.wire.states import ItemState

_PAGE_ITEMS = 100
_COUNT = re.compile(r"[0-9]{1,9}")


@operation(answers=ItemPage, parameters=(ITEM_STATE, ITEM_CURSOR, LIMIT))
async def list_items(call: Call) -> web.Response:
    query = call.query("state", "cursor", "limit")
    await known_stream(call)
    most = page_limit(query)
    return json_answer(
        await call.services.store.list_items(call.stream, _state(query.get("state")), query.get("cursor"), most)
    )


def page_limit(query: Mapping[str, str]) -> int:
    """Return how many a page has at most, by its query's `limit`.

    Raises:
        Rejected: `bad_request`.
    """
    wanted = query.get("limit", str(_PAGE_ITEMS))
    if not _COUNT.fullmatch(wanted) or not 1 <= int(wanted) <= limit("page_items"):
        raise Rejected(ProblemCode.BAD_REQUEST, f"limit is a number from 1 to {limit('page_items')}")
    return int(wanted)


@operation(answers=ItemView)
async def get_item(call: Call) -> web.Response:
    item = await known_item(call)
    if item.state is ItemState.READY:
        item = msgspec.structs.replace(item, waits=await waits_for(call.services, item))
    return json_answer(item)


@operation(answers=CancelledItem, problems=(ProblemCode.SETTLED,))
async def cancel(call: Call) -> web.Response:
    """Stop the item for good; answered with the item as it is then."""
    await known_stream(call)
    return json_answer(await call.services.store.cancel(call.item, call.who.subject))


@operation(
    takes=HoldItem, answers=ItemView, problems=(ProblemCode.SETTLED, ProblemCode.GIVEN_OUT), body_is_optional=True
)
async def hold(call: Call) -> web.Response:
    """Set the item aside until somebody releases it."""
    request = await call.optional_body(HoldItem)
    await known_stream(call)
    return json_answer(await call.services.store.hold(call.item, call.who.subject, checked_reason(request.reason)))


@operation(answers=ItemView, problems=(ProblemCode.SETTLED, ProblemCode.QUOTA_EXCEEDED))
async def release(call: Call) -> web.Response:
    """Put the held item back to the ready ones."""
    await known_stream(call)
    return json_answer(await call.services.store.release(call.item))


@operation(answers=BYTES)
async def get_console(call: Call) -> web.Response:
    """Send the console's tail of the item's last vm, as raw as it came."""
    item = await known_item(call)
    console = await call.services.tails.console(DispatchId(item.vm.dispatch)) if item.vm else None
    if console is None:
        raise Rejected(
            ProblemCode.NOT_FOUND, f"no console was kept of {item.item}: it comes when a vm of it ended badly"
        )
    return _raw(console, "console.txt")


@operation(answers=BYTES)
async def get_log(call: Call) -> web.Response:
    """Send what the program of the item's last attempt wrote to stdout and stderr."""
    item = await known_item(call)
    log = await call.services.tails.log(call.item)
    if log is None:
        raise Rejected(ProblemCode.NOT_FOUND, f"no log was kept of {item.item}: it comes when its program has ended")
    return _raw(log, "log.txt")


@operation(answers=BYTES)
async def get_domain_xml(call: Call) -> web.Response:
    """Send the domain XML with which the item's last vm was booted, as its launcher told it."""
    item = await known_item(call)
    xml = await call.services.tails.domain_xml(DispatchId(item.vm.dispatch)) if item.vm else None
    if xml is None:
        raise Rejected(
            ProblemCode.NOT_FOUND, f"no XML was kept of {item.item}: it comes with the end of a vm that booted"
        )
    return _raw(xml, "domain.xml")


async def known_item(call: Call) -> ItemView:
    """Return the item of the address.

    Raises:
        Rejected: `not_found`.
    """
    view = await call.services.store.get_item(call.item)
    if view is not None:
        return view
    if await call.services.store.get_stream(call.stream) is None:
        raise no_stream(call.stream)
    raise no_item(call.item)


def _state(text: str | None) -> ItemState | None:
    if text is None:
        return None
    try:
        return ItemState(text)
    except ValueError as error:
        raise Rejected(ProblemCode.BAD_REQUEST, f"state is one of {', '.join(ItemState)}") from error


def _raw(content: bytes, name: str) -> web.Response:
    return web.Response(
        body=content,
        content_type="application/octet-stream",
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "Content-Security-Policy": SANDBOX,
            "Cache-Control": "no-store",
        },
    )
