import asyncio
import socket
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from broker.client.judging import ADDRESSES_TRIED, AddressRefused, Judge, NotResolved, Resolve, resolve_by_system
from broker.client.origins import Origin
from broker.domain.limits import default

SHARE = Origin("share.example", 443)


def answering(*addresses: str) -> Resolve:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    return resolve


def failing(error: Exception) -> Resolve:
    async def resolve(host: str, port: int) -> Sequence[str]:
        raise error

    return resolve


async def test_of_several_addresses_those_that_pass_are_left_in_their_order() -> None:
    judge = Judge([], "no", answering("10.0.0.1", "8.8.8.8", "::1", "2606:4700::1111"))
    assert await judge.addresses(SHARE) == ["8.8.8.8", "2606:4700::1111"]


async def test_when_none_passes_the_first_is_told_and_who_could_allow_it() -> None:
    judge = Judge([], "ask the site", answering("10.0.0.1", "::1"))
    with pytest.raises(AddressRefused, match=r"^share\.example:443 is a private address .* ask the site$"):
        await judge.addresses(SHARE)


async def test_a_trusted_origin_may_have_any_address_and_its_neighbour_may_not() -> None:
    judge = Judge([SHARE], "no", answering("10.0.0.1"))
    assert await judge.addresses(SHARE) == ["10.0.0.1"]
    for neighbour in (Origin("share.example", 444), Origin("sub.share.example", 443)):
        with pytest.raises(AddressRefused):
            await judge.addresses(neighbour)


async def test_only_so_many_addresses_are_tried() -> None:
    judge = Judge([SHARE], "no", answering(*(f"10.0.0.{number}" for number in range(1, 100))))
    assert len(await judge.addresses(SHARE)) == ADDRESSES_TRIED


@pytest.mark.parametrize(
    "error", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label too long"), ValueError("null")]
)
async def test_a_name_that_is_not_resolved_may_be_later(error: Exception) -> None:
    with pytest.raises(NotResolved, match=r"share\.example cannot be resolved") as failed:
        await Judge([], "no", failing(error)).addresses(SHARE)
    assert not failed.value.is_lasting


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "017700000001"])
async def test_the_system_reads_numbers_in_every_notation(host: str) -> None:
    assert await resolve_by_system(host, 80) == ["127.0.0.1"]


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a\0b", "nowhere.invalid"])
async def test_what_the_system_cannot_resolve_is_told(host: str) -> None:
    with pytest.raises(NotResolved):
        await Judge([], "no").addresses(Origin(host, 80))


async def test_names_that_are_not_answered_hold_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()

    def found(host: str, port: int, **more: Any) -> list[Any]:
        if host == "silent.example":
            goes_on.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", port))]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    async with asyncio.TaskGroup() as group:
        # As many as one user may have on their way.
        for _ in range(default("callbacks_out")):
            group.create_task(resolve_by_system("silent.example", 443))
        try:
            async with asyncio.timeout(10):
                assert await resolve_by_system("share.example", 443) == ["8.8.8.8"]
        finally:
            goes_on.set()
