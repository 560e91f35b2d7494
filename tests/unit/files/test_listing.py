import asyncio
import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.domain.paths import parse_file_path
from broker.files import listing
from broker.files.listing import Listings
from broker.wire.names import UserName
from tests.support.sources import chunks
from tests.unit.files.test_user_files import kept_below

ALICE = UserName("alice")


async def names(listings: Listings, folder: str = "", **more: object) -> list[str]:
    page = await listings.page(ALICE, folder, **{"after": "", "most": 100, "is_deep": False, **more})  # type: ignore[arg-type] # as given
    return [each.name for each in page.entries]


async def test_a_listing_sees_what_another_process_changed_and_reads_nothing_else(tmp_path: Path) -> None:
    files = kept_below(tmp_path / "files")
    listings = Listings(files.records)
    for path in ("a", "b/c", "b/d/e", "bb"):
        await files.put(parse_file_path(f"alice/{path}"), chunks(b"x"), expected=None, create_only=False)
    for folder in (files.records / "alice").iterdir():
        os.utime(folder, (1_000_000_000, 1_000_000_000))  # as if nothing had changed for long
    assert await names(listings) == ["a", "b/", "bb"]
    unread = next((files.records / "alice").glob("*/*.json"))
    kept = unread.read_bytes()
    unread.write_bytes(b"not looked at")  # which moves no time of its folder
    assert await names(listings) == ["a", "b/", "bb"]
    unread.write_bytes(kept)

    await kept_below(tmp_path / "files").delete(parse_file_path("alice/b/c"))

    assert await names(listings, "b/") == ["d/"]
    assert await names(listings, is_deep=True) == ["a", "b/d/e", "bb"]
    assert await names(listings, after="a", most=1) == ["b/"]


async def test_who_lists_much_keeps_one_thread_and_keeps_nobody_else_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, bob = kept_below(tmp_path / "files"), UserName("bob")
    listings = Listings(files.records)
    for user in (ALICE, bob):
        await files.put(parse_file_path(f"{user}/a"), chunks(b"x"), expected=None, create_only=False)
    entered, go_on, real = Counter[str](), threading.Event(), listing._kept_in

    def slow(part: Path) -> Iterator[Any]:
        entered[part.parent.name] += 1
        if part.parent.name == ALICE:
            go_on.wait(10.0)
        return real(part)

    monkeypatch.setattr(listing, "_kept_in", slow)
    hogging = [asyncio.create_task(names(listings)) for _ in range(8)]
    await asyncio.sleep(0)

    page = await listings.page(bob, "", after="", most=1, is_deep=False)

    assert [each.name for each in page.entries] == ["a"]
    assert entered[ALICE] <= 1
    go_on.set()
    assert await asyncio.gather(*hogging) == [["a"]] * 8
