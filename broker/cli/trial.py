"""One item as `broker try` follows it: what it says of each event, and when the item has had its last word."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from broker.cli import showing
from broker.cli.acting import Acting
from broker.cli.watching import sentence_of
from broker.client.events import follow
from broker.wire.events import Event, EventType, Truncated
from broker.wire.items import ItemView
from broker.wire.names import ItemRef
from broker.wire.states import SETTLED, ItemState, Verdict

UNTAKEN_S = 30.0
"""So long without a launcher is worth a word on why."""
_LOOK_S = 5.0
_LAST_WORD_S = 20.0
"""After the guest's last word the vm powers off, and its launcher tells the verdict and sends the console."""
_QUEUED_EVENTS = 1_000
_CLOSING_S = 5.0
_PHASES = {
    EventType.VM_PREPARING: "its vm is being prepared: images and disks",
    EventType.VM_PREPARED: "its vm is prepared",
    EventType.VM_BOOTING: "its vm boots",
    EventType.VM_STARTED: "its vm runs, its guest comes up",
    EventType.ITEM_CLAIMED: "its guest has claimed it: the program runs",
}
_SETTLES = frozenset({EventType.ITEM_COMPLETED, EventType.ITEM_HELD, EventType.ITEM_CANCELLED})


class Trial:
    """Follows one item from before it was pushed.

    Args:
        after: the stream's last event before the push.
        say: takes each line that a person is to read.
        report: is called when a vm of the item ended badly and the item is to be tried again.
    """

    def __init__(
        self,
        acting: Acting,
        ref: ItemRef,
        after: str | None,
        say: Callable[[str], None],
        report: Callable[[], Awaitable[None]],
    ) -> None:
        self._acting = acting
        self._ref = ref
        self._after = after
        self._say = say
        self._report = report
        self._pushed_at = ""
        self._waits = ""

    async def follow(self) -> ItemView:
        """Return when the item is settled, and its vm's end told or no longer to be expected."""
        clock = asyncio.get_running_loop().time
        view = await self._look()
        self._pushed_at = view.pushed_at
        untaken_until_s = clock() + UNTAKEN_S
        settled_until_s: float | None = None
        async with self._events() as next_event:
            while True:
                event = await next_event(_LOOK_S)
                if event is not None:
                    self._tell(event)
                if event is None or event.kind in _SETTLES or event.kind is EventType.VM_ENDED:
                    view = await self._look()
                if view.state in SETTLED and settled_until_s is None:
                    settled_until_s = clock() + _LAST_WORD_S
                if settled_until_s is not None and (_is_ended(view) or clock() > settled_until_s):
                    return view
                if event is not None and _is_bad_end(event) and view.state not in SETTLED:
                    await self._report()
                if view.state is ItemState.READY and clock() > untaken_until_s:
                    self._tell_waits(view)

    async def _look(self) -> ItemView:
        return await self._acting.researcher.item(self._ref)

    def _tell(self, event: Event) -> None:
        sentence = _sentence(event)
        if sentence:
            self._say(f"+{showing.between(self._pushed_at, event.time)}  {sentence}")

    def _tell_waits(self, view: ItemView) -> None:
        """Say why nobody takes the item, once for each reason."""
        waits = view.waits.sentence if view.waits else ""
        if waits and waits != self._waits:
            self._waits = waits
            self._say(f"nobody has taken it yet: {showing.plain(waits)}")

    @asynccontextmanager
    async def _events(self) -> AsyncIterator[Callable[[float], Awaitable[Event | None]]]:
        """Give the item's events one by one, as they come; None where none came in a while."""
        queue: asyncio.Queue[Event] = asyncio.Queue(_QUEUED_EVENTS)

        async def listen() -> None:
            async for event in follow(self._acting.session, self._ref.stream, self._after):
                if not isinstance(event, Truncated) and event.is_known and event.subject == str(self._ref):
                    await queue.put(event)

        listening = asyncio.create_task(listen())

        async def next_event(within_s: float) -> Event | None:
            if listening.done():
                listening.result()
            try:
                async with asyncio.timeout(within_s):
                    return await queue.get()
            except TimeoutError:
                return None

        try:
            yield next_event
        finally:
            listening.cancel()
            # Bounded, so that Ctrl-C is never kept waiting by a connection that does not close.
            await asyncio.wait({listening}, timeout=_CLOSING_S)
            if listening.done() and not listening.cancelled():
                listening.exception()  # looked at, so that asyncio does not complain of it


def _sentence(event: Event) -> str | None:
    if event.kind is EventType.VM_ENDED:
        return f"its vm ended: {event.data.get('verdict')}: {showing.plain(str(event.data.get('sentence', '')))}"
    return _PHASES.get(event.kind) or sentence_of(event)


def _is_bad_end(event: Event) -> bool:
    return event.kind is EventType.VM_ENDED and event.data.get("verdict") != Verdict.COMPLETED


def _is_ended(view: ItemView) -> bool:
    return view.vm is None or view.vm.verdict is not None
