"""What `broker watch` knows of a stream, put together from its events, and how it looks."""

from collections import deque
from datetime import datetime
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from broker.cli import showing
from broker.wire.events import Event, EventType, Truncated
from broker.wire.states import SETTLED, ItemState
from broker.wire.streams import StreamView

_RECENT = 8
_VMS_SHOWN = 16
_BAR_WIDTH = 40


class VmLine(NamedTuple):
    """One vm that is there."""

    item: str
    node: str
    phase: str
    since: str


class View:
    """The state of one stream as a person follows it."""

    def __init__(self, stream: StreamView) -> None:
        self.stream = stream.stream
        self.counts = dict(stream.counts)
        self.counted_at_s = 0.0
        self._vms: dict[str, VmLine] = {}
        self._recent: deque[str] = deque(maxlen=_RECENT)
        self._settled: set[str] = set()

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def settled(self) -> int:
        return sum(self.counts.get(state, 0) for state in SETTLED)

    @property
    def held(self) -> int:
        return self.counts.get(ItemState.HELD, 0)

    @property
    def is_settled(self) -> bool:
        return self.settled == self.total

    @property
    def may_be_settled(self) -> bool:
        """Tell whether it is worth asking: events tell of so many settled items as there are."""
        return len(self._settled) >= self.total

    def count(self, stream: StreamView, at_s: float) -> None:
        """Take what the broker counts now; it is right where the events were incomplete."""
        self.counts = dict(stream.counts)
        self.counted_at_s = at_s

    def take(self, event: Event | Truncated) -> str | None:
        """Take an event in; return its line, when it has one that a person reads."""
        if isinstance(event, Truncated):
            self.counts = dict(event.counts)
            return self._remember("… earlier events are no longer kept")
        if not event.is_known:
            return None
        self._follow_vm(event)
        self._follow_item(event)
        sentence = sentence_of(event)
        at = datetime.fromisoformat(event.time).astimezone().strftime("%H:%M:%S")
        return self._remember(f"{at}  {sentence}") if sentence else None

    def summary(self) -> Text:
        """Return one line of counts."""
        text = Text(f"{self.stream}: ")
        parts = [(state, self.counts[state]) for state in ItemState if self.counts.get(state)]
        for number, (state, count) in enumerate(parts):
            text.append(", " if number else "")
            text.append(f"{count} {state}", style=showing.STATE_STYLES[state])
        return text

    def render(self) -> RenderableType:
        """Return the live view."""
        head = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=max(self.total, 1), completed=self.settled, width=_BAR_WIDTH, complete_style="green")
        head.add_row(bar, Text(f"{self.settled} of {self.total} settled"))
        parts: list[RenderableType] = [head, self.summary()]
        if self._vms:
            parts += [Text(), self._vm_table()]
        if self._recent:
            parts += [Text(), *(Text(line, style="dim", overflow="ellipsis", no_wrap=True) for line in self._recent)]
        return Group(*parts)

    def _vm_table(self) -> Table:
        table = showing.table("item", "node", "vm is", "for", right=("for",))
        for vm in list(self._vms.values())[:_VMS_SHOWN]:
            table.add_row(vm.item, vm.node, vm.phase, showing.duration(showing.since(vm.since)))
        if len(self._vms) > _VMS_SHOWN:
            table.add_row(f"and {len(self._vms) - _VMS_SHOWN} more", "", "", "")
        return table

    def _follow_vm(self, event: Event) -> None:
        dispatch = str(event.data.get("dispatch", ""))
        if event.kind is EventType.ITEM_DISPATCHED:
            node = showing.plain(str(event.data.get("node", "")))
            self._vms[dispatch] = VmLine(_short(event), node, "dispatched", event.time)
        elif event.kind in _LEAVES:
            self._vms.pop(dispatch, None)
        elif event.type.startswith("org.vmbroker.vm.") and dispatch in self._vms:
            phase = "running" if event.kind is EventType.VM_CLAIMED else event.kind.removeprefix("vm.")
            self._vms[dispatch] = self._vms[dispatch]._replace(phase=phase, since=event.time)

    def _follow_item(self, event: Event) -> None:
        if event.kind in _SETTLES:
            self._settled.add(_short(event))
        elif event.kind in {EventType.ITEM_READY, EventType.ITEM_DISPATCHED}:
            self._settled.discard(_short(event))

    def _remember(self, line: str) -> str:
        self._recent.append(line)
        return line


_SETTLES = frozenset({EventType.ITEM_COMPLETED, EventType.ITEM_HELD, EventType.ITEM_CANCELLED})
_LEAVES = _SETTLES | {EventType.VM_ENDED, EventType.ITEM_GIVEN_BACK, EventType.ITEM_DELAYED}

_NO_RESULT = {
    EventType.ITEM_DELAYED: "failed, is tried again",
    EventType.ITEM_GIVEN_BACK: "given back",
    EventType.ITEM_HELD: "held",
    EventType.ITEM_CANCELLED: "cancelled",
}


def _short(event: Event) -> str:
    """Return the item without its user."""
    return (event.subject or "").partition("/")[2]


def sentence_of(event: Event) -> str | None:
    """Return what an event says to a person, None when it says nothing."""
    item, data = _short(event), event.data
    why = f": {showing.plain(str(data['sentence']))}" if data.get("sentence") else ""
    match event.kind:
        case EventType.ITEMS_PUSHED:
            return f"items {data.get('first')} to {data.get('last')} pushed"
        case EventType.ITEMS_FORGOTTEN:
            return f"{data.get('count')} settled items are no longer kept"
        case EventType.ITEM_DISPATCHED:
            node = showing.plain(str(data.get("node", "")))
            return f"{item} dispatched to {node} ({data.get('accelerator')}, {data.get('vcpus')} vcpus)"
        case EventType.VM_BOOTING:
            return f"{item} vm boots"
        case EventType.ITEM_CLAIMED:
            return f"{item} claimed, runs"
        case EventType.ITEM_COMPLETED:
            return f"{item} done"
        case EventType.ITEM_DELAYED | EventType.ITEM_GIVEN_BACK | EventType.ITEM_HELD | EventType.ITEM_CANCELLED:
            return f"{item} {_NO_RESULT[event.kind]}{why}"
        case EventType.TICKET_REPLAYED:
            return f"{item} its ticket was used by two: the item was taken back"
        case EventType.VM_ENDED if data.get("verdict") not in {None, "completed", "item_failed"}:
            return f"{item} vm ended, {data.get('verdict')}{why}"
    return None
