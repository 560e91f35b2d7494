"""Why an item, or a whole stream, is where it is: one sentence for a person, from what is told of it."""

from broker.wire.items import ItemView, Reason
from broker.wire.states import FailureCode, ItemState
from broker.wire.streams import StreamView

REFUSED_FACT = "refused"
"""The fact of a vm that names what its guest asked its network for in vain."""
PROGRESS_FACT = "progress"
"""The fact of a vm in which its guest says how far it is."""
_WAITS = "it waits for a launcher with room for it"


def why_item(view: ItemView) -> Reason:
    """Return why the item is where it is, with a code: what a ready one waits for, its reason, or its state."""
    code = view.state.value
    if view.waits is not None:
        code = view.waits.code
    elif view.reason is not None:
        code = view.reason.code
    return Reason(code=code, sentence=sentence_of(view))


def sentence_of(view: ItemView) -> str:
    """Return one sentence: why the item is where it is."""
    vm = view.vm
    reason = f": {view.reason.sentence}{_refused(view)}" if view.reason else ""
    waits = view.waits.sentence if view.waits else _WAITS
    match view.state.value:
        case "ready" if view.boots == 0:
            return f"{view.item} is ready: {waits}"
        case "ready":
            return f"{view.item} is ready again{reason}; {waits}"
        case "delayed" if view.boots == 0:
            return f"{view.item} becomes ready at {view.not_before}"
        case "delayed":
            return f"{view.item} is tried again at {view.not_before}{reason}"
        case "dispatched" if vm:
            phase = list(vm.phases)[-1].value if vm.phases else "dispatched"
            return f"{view.item} has a vm on {vm.node}, which is {phase} and has not claimed it yet"
        case "running" if vm:
            progress = vm.facts.get(PROGRESS_FACT)
            return f"{view.item} is running on {vm.node}" + (f": {progress}" if progress else "")
        case "held":
            return f"{view.item} is held (attempts: {view.attempts}, boots: {view.boots}){reason}"
    return f"{view.item} is {view.state}{reason}"


def why_stream(view: StreamView, next_item: ItemView | None) -> Reason:
    """Return why the stream does what it does.

    Args:
        view: the stream.
        next_item: the ready item that is given out next, with what it waits for, or the delayed one that becomes ready
            next; None when there is neither.
    """
    shown = _counts(view) + _untold(view)
    if view.paused is not None:
        return Reason(
            code=view.paused.code, sentence=f"{view.stream} gives nothing out: {view.paused.sentence}; {shown}"
        )
    if next_item is not None and next_item.state is ItemState.READY:
        waits = next_item.waits or Reason(code="ready", sentence=_WAITS)
        return Reason(code=waits.code, sentence=f"{view.stream}: {shown}; of {next_item.item}: {waits.sentence}")
    given = view.counts[ItemState.DISPATCHED] + view.counts[ItemState.RUNNING]
    if next_item is not None and not given:
        at = f"the next one becomes ready at {next_item.not_before}"
        return Reason(code="delayed", sentence=f"{view.stream}: {shown}; {at}")
    if given:
        return Reason(code="running", sentence=f"{view.stream}: {shown}; vms have all that is ready")
    if view.counts[ItemState.HELD]:
        sentence = f"{view.stream}: {shown}; what is held waits for `broker release {view.stream} --all`"
        return Reason(code="held", sentence=sentence)
    if not any(view.counts.values()) and not view.forgotten:
        return Reason(code="empty", sentence=f"{view.stream} has no item: `broker push {view.stream} …`")
    return Reason(code="settled", sentence=f"{view.stream} has nothing left to do: {shown}")


def _counts(view: StreamView) -> str:
    counts = [f"{view.counts[state]} {state}" for state in ItemState if view.counts[state]]
    if view.forgotten:
        counts.append(f"{view.forgotten} settled and no longer kept")
    return ", ".join(counts) or "no items"


def _untold(view: StreamView) -> str:
    """Return that the stream's server is told nothing more, where it is so."""
    if view.callback_off is None:
        return ""
    again = f"`broker stream show {view.stream} -o toml | broker stream add {view.stream} -f -` tells it again"
    return f"; its callback is off: {view.callback_off.sentence}; {again}"


def _refused(view: ItemView) -> str:
    """Return what the node's network refused the item's last vm, where that may be why its program failed."""
    has_failed = view.reason is not None and view.reason.code in set(FailureCode)
    refused = view.vm.facts.get(REFUSED_FACT) if view.vm is not None and has_failed else None
    return f"; the vm's network refused {refused}" if refused else ""
