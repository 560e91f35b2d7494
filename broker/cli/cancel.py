"""`broker cancel`."""

from typing import Annotated

import typer

from broker.cli import showing
from broker.cli.acting import Acting, act
from broker.cli.exits import Exit, tell
from broker.client.errors import ApiError
from broker.wire.items import CancelledItem
from broker.wire.names import ItemRef
from broker.wire.problems import ProblemCode

_OF_ONE_ITEM = frozenset({ProblemCode.NOT_FOUND, ProblemCode.SETTLED, ProblemCode.FORBIDDEN})
"""Refusals that say nothing of the items after it."""


def cancel(
    items: Annotated[
        list[str],
        typer.Argument(metavar="ITEM...", help="JOB/17 or USER/JOB/17; several at once; a range is not taken."),
    ],
) -> None:
    """Stop items for good: they are not run any more, and a vm that has one is destroyed.

    Each is told. One that is done keeps its result: that, like an item that is not there, is refused, and the others
    are cancelled all the same.
    """
    act(lambda acting: _cancel(acting, items))


async def _cancel(acting: Acting, names: list[str]) -> int:
    refs = [acting.item(name) for name in names]
    return max([await _cancel_one(acting, ref) for ref in refs])


async def _cancel_one(acting: Acting, ref: ItemRef) -> Exit:
    try:
        view = await acting.researcher.cancel(ref)
    except ApiError as error:
        if error.code not in _OF_ONE_ITEM:
            raise
        tell(error.problem.detail)
        return Exit.REFUSED
    showing.stdout().print(f"{view.item} is cancelled{_of_its_vm(view)}")
    return Exit.DONE


def _of_its_vm(view: CancelledItem) -> str:
    if not view.had_vm or view.vm is None or view.vm.verdict is not None:
        return ""
    return f"; its vm on {showing.plain(view.vm.node)} is told so and ends"
