"""How far an act on all items of a stream came."""

import asyncio

from broker.cli import showing
from broker.cli.acting import Acting
from broker.cli.progress import progress
from broker.client.errors import ApiError
from broker.wire.names import OwnedName
from broker.wire.problems import ProblemCode
from broker.wire.streams import BulkAct, BulkView, StreamView

_LOOK_S = 0.3
_PAST = {
    BulkAct.CANCEL: "cancelled",
    BulkAct.HOLD: "held",
    BulkAct.RELEASE: "released",
    BulkAct.PURGE: "purged",
}


async def follow(acting: Acting, ref: OwnedName, view: StreamView, *, is_waiting: bool) -> None:
    """Show an act that was begun until it is done; without waiting, only that it was begun."""
    console = showing.stdout()
    if not is_waiting:
        console.print(f"begun; `broker status {ref}` shows how far it is")
        return
    bulk = view.bulk
    with progress(of_items=True) as bars:
        bar = bars.bar(f"{ref}", bulk.of if bulk else 0)
        seen = 0
        while bulk is not None and bulk.ended_at is None:
            bar(bulk.looked_at - seen)
            seen = bulk.looked_at
            await asyncio.sleep(_LOOK_S)
            bulk = await _look(acting, ref)
    console.print(f"{ref} is removed" if bulk is None else progress_of(bulk))


def progress_of(bulk: BulkView) -> str:
    """Return what an act on a whole stream did, or does."""
    items = "1 item" if bulk.acted == 1 else f"{bulk.acted} items"
    if bulk.ended_at is not None:
        return f"{items} {_PAST[bulk.act]}"
    by = showing.plain(bulk.by)
    return f"{bulk.act} by {by}: {bulk.looked_at} of {bulk.of} items looked at, {items} {_PAST[bulk.act]}"


async def _look(acting: Acting, ref: OwnedName) -> BulkView | None:
    try:
        return (await acting.researcher.stream(ref)).bulk
    except ApiError as error:
        if error.code is ProblemCode.NOT_FOUND:
            return None
        raise
