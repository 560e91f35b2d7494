from collections.abc import AsyncIterator

import pytest

from broker.domain.errors import Rejected
from broker.http.parts import Part, parts_of
from broker.wire.items import CHUNK_BYTES

LINES = b"".join(b"%d\n" % number for number in range(1_101))
LARGE = [b"x" * 1_000_000 + b"\n"] * 4


async def parts(body: bytes, size: int) -> list[Part]:
    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(body), size):
            yield body[at : at + size]

    return [part async for part in parts_of(chunks())]


@pytest.mark.parametrize("size", [1, 7, 1_000, 1_000_000])
async def test_lines_are_cut_into_the_same_parts_however_they_come(size: int) -> None:
    cut = await parts(LINES, size)

    assert [(part.number, part.first_line, part.body.count(b"\n")) for part in cut] == [
        (0, 1, 500),
        (1, 501, 500),
        (2, 1_001, 101),
    ]
    assert b"".join(part.body for part in cut) == LINES


@pytest.mark.parametrize("size", [65_536, 10_000_000])
async def test_a_part_of_long_lines_ends_with_the_last_one_that_fits(size: int) -> None:
    cut = await parts(b"".join(LARGE), size)

    assert [(part.first_line, part.body) for part in cut] == [(1, b"".join(LARGE[:3])), (4, LARGE[3])]


async def test_a_line_that_is_longer_than_a_part_is_refused() -> None:
    with pytest.raises(Rejected, match="no item is that long"):
        await parts(b"a\n" + b"x" * (CHUNK_BYTES + 1), 65_536)
