import asyncio

import pytest
from redis import exceptions

from broker.domain.errors import Unavailable
from broker.store.failures import translated
from broker.wire.problems import ProblemCode

AWAY, DISK = ProblemCode.STORE_UNAVAILABLE, ProblemCode.STORE_DISK_FULL


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (exceptions.ConnectionError("Connection refused"), AWAY),
        (exceptions.TimeoutError("Timeout reading"), AWAY),
        (exceptions.BusyLoadingError("loading"), AWAY),
        (exceptions.ReadOnlyError("READONLY You can't write"), AWAY),
        (exceptions.OutOfMemoryError("command not allowed"), AWAY),
        (exceptions.ResponseError("MISCONF Errors writing to the AOF file: No space left on device"), DISK),
    ],
)
async def test_what_passes_by_itself_becomes_unavailable_with_a_sentence(error: Exception, code: ProblemCode) -> None:
    with pytest.raises(Unavailable) as caught:
        async with translated(5):
            raise error
    assert caught.value.code == code
    assert caught.value.detail


async def test_a_store_that_is_away_while_its_disk_is_full_died_of_that() -> None:
    with pytest.raises(Unavailable, match="disk") as caught:
        async with translated(5, lambda: True):
            raise exceptions.ConnectionError("Connection closed by server")
    assert caught.value.code == DISK


async def test_silence_becomes_unavailable() -> None:
    with pytest.raises(Unavailable):
        async with translated(0.01):
            await asyncio.Event().wait()


async def test_a_bug_passes_through() -> None:
    with pytest.raises(exceptions.ResponseError, match="wrong number of arguments"):
        async with translated(5):
            raise exceptions.ResponseError("ERR wrong number of arguments for 'hset' command")
