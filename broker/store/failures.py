"""What the client library raises, as the broker's own errors: one table, used at the one place that calls the store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from redis import exceptions

from broker.domain.errors import Unavailable
from broker.wire.problems import ProblemCode


class _Meaning(NamedTuple):
    """`error` or a subclass whose text starts with `word` means `code`."""

    error: type[Exception]
    word: str
    code: ProblemCode
    sentence: str


_AWAY, _DISK = ProblemCode.STORE_UNAVAILABLE, ProblemCode.STORE_DISK_FULL
_MEANINGS = (
    _Meaning(exceptions.BusyLoadingError, "", _AWAY, "the store is reading its data; try again"),
    _Meaning(exceptions.AuthenticationError, "", _AWAY, "the store refuses the broker's credentials; see its URL"),
    _Meaning(exceptions.ConnectionError, "", _AWAY, "the store cannot be reached; try again"),
    _Meaning(exceptions.TimeoutError, "", _AWAY, "the store did not answer in time; try again"),
    _Meaning(TimeoutError, "", _AWAY, "the store did not answer in time; try again"),
    _Meaning(exceptions.ReadOnlyError, "", _AWAY, "the store is a replica that takes no writes; try again"),
    _Meaning(exceptions.OutOfMemoryError, "", _AWAY, "the store's memory is full; settle or remove items"),
    _Meaning(exceptions.ResponseError, "OOM", _AWAY, "the store's memory is full; settle or remove items"),
    _Meaning(exceptions.ResponseError, "MISCONF", _DISK, "the store cannot write to its disk; free some space"),
    _Meaning(exceptions.ResponseError, "READONLY", _AWAY, "the store is a replica that takes no writes; try again"),
    _Meaning(exceptions.ResponseError, "LOADING", _AWAY, "the store is reading its data; try again"),
    _Meaning(exceptions.ResponseError, "BUSY ", _AWAY, "the store is busy with a long script; try again"),
    _Meaning(exceptions.ResponseError, "MASTERDOWN", _AWAY, "the store has lost its primary; try again"),
    _Meaning(exceptions.ResponseError, "CLUSTERDOWN", _AWAY, "the store's cluster is down; try again"),
)


def meaning_of(error: Exception) -> Unavailable | None:
    """Return the broker's error for a foreign one, or None when it is a bug and must pass through."""
    for meaning in _MEANINGS:
        if isinstance(error, meaning.error) and str(error).startswith(meaning.word):
            return Unavailable(meaning.code, meaning.sentence)
    return None


@asynccontextmanager
async def translated(timeout_s: float) -> AsyncIterator[None]:
    """Bound what runs inside by `timeout_s` and translate what the client library raises.

    Raises:
        Unavailable: the store is away, full or slow. Whether a write inside was done is then unknown.
    """
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except (exceptions.RedisError, TimeoutError) as error:
        meaning = meaning_of(error)
        if meaning is None:
            raise
        raise meaning from error
