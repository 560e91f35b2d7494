"""`why`: one sentence for an item or a stream, with the numbers behind it."""

import msgspec
from aiohttp import web

from broker.domain.why import why_item, why_stream
from broker.http.call import Call, json_answer
from broker.http.contract import operation
from broker.http.items import known_item
from broker.http.prospects import Waits, what_it_waits_for
from broker.http.streams import known_stream
from broker.wire.items import ItemView, Why
from broker.wire.states import ItemState


@operation(answers=Why)
async def get_item_why(call: Call) -> web.Response:
    """Say why the item is where it is; of a ready one, how each launcher that is there stands to it."""
    item, waits = await _with_waits(call, await known_item(call))
    reason = why_item(item)
    return json_answer(
        Why(subject=item.item, state=item.state, code=reason.code, sentence=reason.sentence, launchers=waits.launchers)
    )


@operation(answers=Why)
async def get_stream_why(call: Call) -> web.Response:
    """Say why the stream does what it does; of one with ready items, how launchers stand to the next one."""
    view = await known_stream(call)
    number = await call.services.store.next_number(call.stream)
    found = await call.services.store.get_item(number) if number is not None else None
    item, waits = await _with_waits(call, found) if found is not None else (None, Waits())
    reason = why_stream(view, item)
    return json_answer(Why(subject=view.stream, code=reason.code, sentence=reason.sentence, launchers=waits.launchers))


async def _with_waits(call: Call, item: ItemView) -> tuple[ItemView, Waits]:
    if item.state is not ItemState.READY:
        return item, Waits()
    waits = await what_it_waits_for(call.services, item)
    return msgspec.structs.replace(item, waits=waits.reason), waits
