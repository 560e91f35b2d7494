"""Bodies that are received past aiohttp's parser: what its users see is what they see of any other."""

import asyncio
import gc
import hashlib
import random
import time
import weakref
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from broker import process
from broker.domain.errors import Unavailable
from broker.files.free_space import FreeSpace
from broker.files.room import Room
from broker.http import bodies
from broker.http.receiving import Receiving
from broker.wire.problems import ProblemCode
from tests.integration.http.conftest import Grid
from tests.support.api import Api, digest_of
from tests.support.sockets import dialled, head
from tests.support.waiting import until

PATH = "/v1/files/alice/large"
CONTENT = random.Random(1).randbytes(16_777_216 + 12_345)
MIB = 1_048_576


@pytest.fixture(autouse=True)
def taken(monkeypatch: pytest.MonkeyPatch) -> list[Receiving]:
    """The bodies that were received so."""
    found: list[Receiving] = []
    make = Receiving.__init__

    def remember(made: Receiving, *args: Any) -> None:
        make(made, *args)
        found.append(made)

    monkeypatch.setattr(Receiving, "__init__", remember)
    return found


def head_of(user: Api, content: bytes = CONTENT, **headers: str) -> bytes:
    return head("PUT", PATH, user.token, Content_Length=str(len(content)), **headers)


async def check_there(user: Api) -> None:
    got = await user.call("GET", PATH)
    assert (got.status, hashlib.sha256(got.body).hexdigest()) == (200, hashlib.sha256(CONTENT).hexdigest())


@pytest.mark.parametrize("first_bytes", [0, 1, 65_537, 300_000, 5 * MIB])
async def test_it_is_kept_whole_however_much_of_it_comes_with_its_head(
    user: Api, taken: list[Receiving], first_bytes: int
) -> None:
    async with dialled(user.url) as line:
        await line.send(head_of(user) + CONTENT[:first_bytes])
        await line.send(CONTENT[first_bytes:])
        answer = await line.answer()

    assert answer.status == 201, answer
    assert digest_of(CONTENT) in answer.body.decode()
    assert len(taken) == 1
    await check_there(user)


async def test_its_connection_serves_no_other_request_and_says_so(user: Api) -> None:
    async with dialled(user.url) as line:
        await line.send(head_of(user) + CONTENT + head("DELETE", PATH, user.token))
        answer = await line.answer()
        rest = await line.rest()

    assert (answer.status, answer.headers["connection"], rest) == (201, "close", b"")
    await check_there(user)


async def test_who_asks_first_is_told_to_go_on(user: Api, taken: list[Receiving]) -> None:
    async with dialled(user.url) as line:
        await line.send(head_of(user, Expect="100-continue"))
        assert (await line.answer()).status == 100
        await line.send(CONTENT)
        assert (await line.answer()).status == 201

    assert len(taken) == 1


async def test_one_byte_less_than_large_leaves_the_connection_open(user: Api, taken: list[Receiving]) -> None:
    content = CONTENT[: bodies._STRAIGHT_BYTES - 1]
    async with dialled(user.url) as line:
        for status in (201, 200):
            await line.send(head_of(user, content) + content)
            answer = await line.answer()
            assert (answer.status, "connection" in answer.headers) == (status, False)

    assert taken == []


async def test_a_connection_that_is_cut_leaves_nothing_and_nobodys_place_taken(user: Api) -> None:
    async with dialled(user.url) as line:
        await line.send(head_of(user) + CONTENT[: 9 * MIB])

    async def are_free() -> bool:
        return bool((await user.call("GET", "/v1/users/alice")).json["file_bytes"] == 0)

    await until(are_free, "what was cut counts no more")
    assert (await user.call("GET", PATH)).status == 404
    assert (await user.call("PUT", PATH, data=CONTENT)).status == 201


@pytest.mark.parametrize("sent_bytes", [9 * MIB, len(CONTENT)])
async def test_nothing_of_it_is_kept_until_python_looks_for_cycles(
    user: Api, taken: list[Receiving], sent_bytes: int
) -> None:
    """Of some MiB each there would soon be gigabytes."""
    gc.disable()
    try:
        async with dialled(user.url) as line:
            await line.send(head_of(user) + CONTENT[:sent_bytes])
            if sent_bytes == len(CONTENT):
                await line.answer()

            async def is_taken() -> bool:
                return bool(taken)

            await until(is_taken, "it is received so")
        gone = weakref.ref(taken.pop())

        async def is_gone() -> bool:
            return gone() is None

        await until(is_gone, "nobody has it any more")
    finally:
        gc.enable()


async def test_a_broker_that_stops_ends_one_that_stands_still_before_it_closes_its_store(
    start: Callable[[], AbstractAsyncContextManager[Grid]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "SHUTDOWN_S", 2.0)
    monkeypatch.setattr("broker.http.receiving._LOOK_S", 0.1)
    incoming = tmp_path / "data/files/users/incoming"
    async with start() as (user, _), dialled(user.url) as line:
        await line.send(head_of(user) + CONTENT[: 9 * MIB])

        async def is_under_way() -> bool:
            return bool(list(incoming.iterdir()))

        await until(is_under_way, "it is being written")
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 4
    assert list(incoming.iterdir()) == []


async def test_a_sender_that_keeps_no_pace_is_cut_off(user: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "PATIENCE_S", 0.3)
    async with dialled(user.url) as line:
        await line.send(head_of(user) + CONTENT[: 3 * MIB])
        answer = await line.answer()

    assert (answer.status, answer.code, answer.headers["connection"]) == (408, "too_slow", "close")
    assert (await user.call("GET", PATH)).status == 404


async def test_one_that_is_slow_only_now_and_then_is_not(user: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece has its own time, whatever the others took."""
    monkeypatch.setattr(bodies, "PATIENCE_S", 0.8)
    async with dialled(user.url) as line:
        await line.send(head_of(user))
        for at in range(0, 6 * bodies.PIECE_BYTES, bodies.PIECE_BYTES):
            await asyncio.sleep(0.2)
            await line.send(CONTENT[at : at + bodies.PIECE_BYTES])
        await line.send(CONTENT[6 * bodies.PIECE_BYTES :])
        answer = await line.answer()
    assert answer.status == 201


async def test_a_refusal_half_way_is_read_by_who_still_sends(user: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = FreeSpace.check, 0

    def full_soon(space: FreeSpace) -> None:
        nonlocal asked
        asked += 1
        if asked > 5:
            raise Unavailable(ProblemCode.STORE_DISK_FULL, "the disk is full", retry_after_s=1)
        real(space)

    monkeypatch.setattr(FreeSpace, "check", full_soon)
    async with dialled(user.url) as line:
        assert await line.send(head_of(user) + CONTENT), "all of it was taken"
        answer = await line.answer()

    assert (answer.status, answer.code) == (503, "store_disk_full")


async def test_bytes_that_were_lost_are_missed(
    user: Api, taken: list[Receiving], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should aiohttp ever have its connection read on, no file may come of the rest."""
    real = Room.grow_to

    async def have_it_read_on(room: Room, size_bytes: int) -> None:
        if taken:
            taken[0]._transport.resume_reading()
            await asyncio.sleep(0.05)
        await real(room, size_bytes)

    monkeypatch.setattr(Room, "grow_to", have_it_read_on)
    async with dialled(user.url) as line:
        await line.send(head_of(user) + CONTENT)
        answer = await line.answer()

    assert (answer.status, answer.code) == (500, "internal")
    assert (await user.call("GET", PATH)).status == 404


async def test_what_does_not_match_its_digest_is_not_kept(user: Api) -> None:
    wrong = "sha-256=:" + "A" * 43 + "=:"
    async with dialled(user.url) as line:
        await line.send(head_of(user, Repr_Digest=wrong) + CONTENT)
        answer = await line.answer()

    assert (answer.status, answer.code) == (422, "digest_mismatch")
    assert (await user.call("GET", PATH)).status == 404


async def test_an_image_comes_the_same_way(user: Api, taken: list[Receiving]) -> None:
    assert (await user.call("PUT", f"/v1/images/{digest_of(CONTENT)}", data=CONTENT)).status == 201
    assert len(taken) == 1
