"""A word that names an item or a stream."""

import re
from collections.abc import Awaitable, Callable
from typing import TypeVar

from broker.cli.acting import Acting
from broker.client.errors import ApiError
from broker.wire.names import ItemRef, OwnedName
from broker.wire.problems import ProblemCode

T = TypeVar("T")

_ITEM = re.compile(r".+/[1-9][0-9]{0,14}")


async def either(
    acting: Acting,
    what: str,
    of_item: Callable[[ItemRef], Awaitable[T]],
    of_stream: Callable[[OwnedName], Awaitable[T]],
) -> T:
    """Ask for what is meant: `X/17` is an item of one's own stream X; only when there is none, it is X's stream 17."""
    if not _ITEM.fullmatch(what):
        return await of_stream(acting.stream(what))
    try:
        return await of_item(acting.item(what))
    except ApiError as no_item:
        if what.count("/") > 1 or no_item.code is not ProblemCode.NOT_FOUND:
            raise
        try:
            return await of_stream(acting.stream(what))
        except ApiError as no_stream:
            raise no_item from no_stream
