"""What the client library raises, as the broker's own errors: one table, used at the one place that calls the store."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple, NoReturn

from redis import exceptions

from broker.domain.errors import Unavailable
from broker.wire.problems import ProblemCode


class _Meaning(NamedTuple):
    """`error` or a subclass whose text starts with `word` means `code`."""

    error: type[Exception]
    word: str
    code: ProblemCode
    sentence: str


FAILURES = (exceptions.RedisError, TimeoutError)
"""What the client library raises where the store is at fault, or a bug is."""
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


def disk_full() -> Unavailable:
    """Return what is said when the store's disk is so full that it takes nothing more in."""
    return Unavailable(
        _DISK, "the disk of the store is full, and nothing was accepted: free some space", retry_after_s=60
    )


@asynccontextmanager
async def translated(timeout_s: float, is_disk_short: Callable[[], bool] = lambda: False) -> AsyncIterator[None]:
    """Bound what runs inside by `timeout_s` and translate what the client library raises.

    A durable server that cannot write dies: one that is away while `is_disk_short` died of that.

    Raises:
        Unavailable: the store is away, full or slow. Whether a write inside was done is then unknown.
    """
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except FAILURES as error:
        raise_translated(error, is_disk_short)


def raise_translated(error: Exception, is_disk_short: Callable[[], bool]) -> NoReturn:
    """Raise the broker's own error for one of `FAILURES`; one that is a bug goes on as it is."""
    meaning = meaning_of(error)
    if meaning is None:
        raise error
    if meaning.code is _AWAY and is_disk_short():
        meaning = Unavailable(_DISK, "the store is away, and its disk is full: free some space", retry_after_s=60)
    raise meaning from error
