"""`broker cancel | hold | release`: one item, several, or all of a stream that are in some states."""

import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated

import typer

from broker.cli import showing
from broker.cli.acting import Acting, act
from broker.cli.bulk import follow
from broker.cli.exits import BadUsage, Exit, tell
from broker.client.errors import ApiError
from broker.wire.items import CancelledItem, ItemView
from broker.wire.names import ItemRef
from broker.wire.problems import ProblemCode
from broker.wire.states import ItemState
from broker.wire.streams import BulkAct, BulkRequest

_OF_ONE_ITEM = frozenset({ProblemCode.NOT_FOUND, ProblemCode.SETTLED, ProblemCode.GIVEN_OUT, ProblemCode.FORBIDDEN})
"""Refusals that say nothing of the items after it."""
_RANGE = re.compile(r"(.+)/([1-9][0-9]{0,14})\.\.([1-9][0-9]{0,14})")
_MOST = 1_000
"""Items of one range: each is a request of its own."""

Items = Annotated[
    list[str] | None,
    typer.Argument(metavar="ITEM...", help="JOB/17, USER/JOB/17 or JOB/3..9; several at once; with --all a stream."),
]
All = Annotated[bool, typer.Option("--all", help="All items of the stream that is named in place of items.")]
States = Annotated[
    list[ItemState] | None,
    typer.Option("--state", help="Of the stream's items those in this state; repeat for several."),
]
Reason = Annotated[str, typer.Option(help="Why, for whoever looks at the items later.")]
Rate = Annotated[int, typer.Option(min=0, help="With --all: at most so many items a second; 0: no bound.")]
Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="With --all: stay until it is done, and show how far it is.")
]


def cancel(
    items: Items = None, all_: All = False, state: States = None, reason: Reason = "", wait: Wait = True
) -> None:
    """Stop items for good: they are not run any more, and a vm that has one is destroyed.

    Each is told. One that is done keeps its result: that, like an item that is not there, is refused, and the others
    are cancelled all the same. Of a whole stream nothing is given out, claimed or completed any more from then on.
    """
    request = BulkRequest(states=tuple(state or ()), reason=reason)
    act(lambda acting: _act(acting, BulkAct.CANCEL, items or [], all_, request, wait, _cancel_one))


def hold(
    items: Items = None,
    all_: All = False,
    state: States = None,
    reason: Reason = "",
    rate: Rate = 0,
    wait: Wait = True,
) -> None:
    """Set items aside that no vm has: they are not given out until they are released."""
    request = BulkRequest(states=tuple(state or ()), reason=reason, rate=rate)

    async def hold_one(acting: Acting, ref: ItemRef) -> str:
        view = await acting.researcher.hold(ref, reason)
        return f"{view.item} is held{_why(view)}"

    act(lambda acting: _act(acting, BulkAct.HOLD, items or [], all_, request, wait, hold_one))


def release(items: Items = None, all_: All = False, rate: Rate = 0, wait: Wait = True) -> None:
    """Put held items back to the ready ones, with attempts and boots counted from nothing again."""
    act(lambda acting: _act(acting, BulkAct.RELEASE, items or [], all_, BulkRequest(rate=rate), wait, _release_one))


async def _act(
    acting: Acting,
    act: BulkAct,
    names: list[str],
    is_all: bool,
    request: BulkRequest,
    is_waiting: bool,
    do_one: Callable[[Acting, ItemRef], Awaitable[str]],
) -> int:
    if not names:
        raise BadUsage("name the items, as JOB/17, or a stream with --all")
    if not is_all and not request.states:
        refs = [ref for name in names for ref in _refs(acting, name)]
        return max([await _one(acting, ref, do_one) for ref in refs])
    if len(names) != 1:
        raise BadUsage("name one stream with --all or --state")
    ref = acting.stream(names[0])
    view = await acting.researcher.bulk(ref, act, request)
    await follow(acting, ref, view, is_waiting=is_waiting)
    return Exit.DONE


def _refs(acting: Acting, name: str) -> Iterator[ItemRef]:
    found = _RANGE.fullmatch(name)
    if found is None:
        yield acting.item(name)
        return
    first, last = int(found[2]), int(found[3])
    if not first <= last < first + _MOST:
        raise BadUsage(f"{name}: a range goes up, over at most {_MOST} items; for more name the stream, with --state")
    for number in range(first, last + 1):
        yield acting.item(f"{found[1]}/{number}")


async def _one(acting: Acting, ref: ItemRef, do_one: Callable[[Acting, ItemRef], Awaitable[str]]) -> Exit:
    try:
        sentence = await do_one(acting, ref)
    except ApiError as error:
        if error.code not in _OF_ONE_ITEM:
            raise
        tell(error.problem.detail)
        return Exit.REFUSED
    showing.stdout().print(sentence)
    return Exit.DONE


async def _cancel_one(acting: Acting, ref: ItemRef) -> str:
    view = await acting.researcher.cancel(ref)
    return f"{view.item} is cancelled{_of_its_vm(view)}"


async def _release_one(acting: Acting, ref: ItemRef) -> str:
    view = await acting.researcher.release(ref)
    return f"{view.item} is {view.state}{' again' if view.state is ItemState.READY else ', it was not held'}"


def _why(view: ItemView) -> str:
    return f": {showing.plain(view.reason.sentence)}" if view.reason else ""


def _of_its_vm(view: CancelledItem) -> str:
    if not view.had_vm or view.vm is None or view.vm.verdict is not None:
        return ""
    return f"; its vm on {showing.plain(view.vm.node)} is told so and ends"
