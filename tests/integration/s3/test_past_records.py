"""Uploads that go straight to a bucket, and what is left there when somebody dies."""

import asyncio
import os
from pathlib import Path

import msgspec
import obstore
import pytest
from structlog.testing import capture_logs

from broker.bucket import opened_bucket
from broker.domain.buckets import Bucket
from broker.domain.errors import Rejected, Unavailable
from broker.files import s3_objects
from broker.files.direct_uploads import MOST_A_PATH
from broker.files.objects import ObjectName
from broker.files.pending import ABANDONED_S
from broker.files.s3_objects import BadBucket
from tests.integration.s3.homes import (
    ALICE,
    OTHER,
    PATH,
    Home,
    announced,
    facts_of,
    put,
    sent,
)
from tests.support.s3_server import S3Server
from tests.support.sources import chunks


async def test_what_is_announced_takes_room_and_is_a_file_once_its_own_bytes_are_there(far: Home) -> None:
    name = await announced(far, b"announced")
    assert await announced(far, b"announced") == name
    assert far.counted.bytes[ALICE] == 4_096 + 9 == await far.files.counted(ALICE)
    assert await sent(far, name, b"announced", b"announce!") == 400, "bytes of another digest"
    assert await sent(far, name, b"announced", b"announced, and more") == 403, "bytes of another size"
    assert await far.files.find(PATH) is None
    assert await far.files.find_all({PATH, OTHER}) == set()

    assert await sent(far, name, b"announced", b"announced") == 200

    assert await far.files.find_all({PATH, OTHER}) == {PATH}
    assert await far.read(PATH) == b"announced"
    assert await sent(far, name, b"announced", b"announced") == 412, "an object is written once"
    found = await far.files.announce(PATH, facts_of(b"announced"), create_only=True)
    assert found == await far.files.find(PATH)
    assert far.counted.bytes[ALICE] == 4_096 + 9 == await far.files.counted(ALICE)
    with pytest.raises(Rejected, match="exists already"):
        await far.files.announce(PATH, facts_of(b"others"), create_only=True)


async def test_of_several_that_are_under_way_to_one_path_each_may_come(far: Home) -> None:
    await put(far, b"old")
    names = {content: await announced(far, content) for content in (b"one", b"two")}
    made = await announced(far, b"never replaces", create_only=False)
    assert far.counted.bytes[ALICE] == 4 * 4_096 + 3 * 3 + 14
    assert await far.read(PATH) == b"old"

    for content, name in names.items():
        assert await sent(far, name, content, content) == 200
        assert await far.read(PATH) == content

    assert await sent(far, made, b"never replaces", b"never replaces") == 200
    assert await far.read(PATH) == b"never replaces"
    assert far.objects() == 1
    assert far.counted.bytes[ALICE] == 4_096 + 14 == await far.files.counted(ALICE)


async def test_of_many_uploads_to_one_path_some_have_to_pass_the_broker(far: Home) -> None:
    names = [
        await far.files.announce(PATH, facts_of(bytes([number])), create_only=True) for number in range(MOST_A_PATH + 1)
    ]
    assert names.index(None) == MOST_A_PATH
    assert await far.files.announce(PATH, facts_of(b"\0"), create_only=True) == names[0]
    assert far.counted.bytes[ALICE] == MOST_A_PATH * 4_097 == await far.files.counted(ALICE)


async def test_one_that_may_only_make_a_file_is_dropped_where_there_is_one_by_now(far: Home) -> None:
    name = await announced(far, b"late", create_only=True)
    await put(far, b"early", PATH)
    assert await sent(far, name, b"late", b"late") == 200

    assert await far.read(PATH) == b"early"
    assert far.objects() == 1
    assert far.counted.bytes[ALICE] == 4_096 + 5


async def test_an_upload_that_never_came_gives_its_room_back(far: Home, tmp_path: Path) -> None:
    await announced(far, b"never")
    await announced(far, b"late", OTHER)
    assert far.files.direct is not None
    await far.files.direct.sweep()
    assert far.counted.bytes[ALICE] == 2 * 4_096 + 9, "either may still come"

    for note in (tmp_path / "users/pending").rglob("*.json"):
        os.utime(note, (0, note.stat().st_mtime - ABANDONED_S - 1))
    await announced(far, b"late", OTHER)
    await far.files.direct.sweep()

    assert far.counted.bytes[ALICE] == 4_096 + 4 == await far.files.counted(ALICE)


async def test_what_a_dying_broker_left_is_settled_or_swept(
    far: Home, where: Bucket, s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Died between record and note: the record holds, and the note goes without the object.
    name = await announced(far, b"adopted")
    assert await sent(far, name, b"adopted", b"adopted") == 200
    [note] = (tmp_path / "users/pending").rglob("*.json")
    kept = note.read_bytes()
    assert await far.read(PATH) == b"adopted"
    note.parent.mkdir(exist_ok=True)
    note.write_bytes(kept)
    assert await far.read(PATH) == b"adopted"
    assert not note.exists()
    # Died between object and record, or between record and removal: nobody names the object.
    nobodys = s3.bucket(where.bucket, where.prefix)
    for key in (f"alice/{name.file}/{'0' * 32}", f"bob/{'a' * 64}/{'1' * 32}"):
        obstore.put(nobodys, key, b"nobody's")
    foreign = ["backup/2025/dump.sql", f"{name.file}/{'0' * 32}"]
    for key in foreign:
        obstore.put(nobodys, key, b"somebody else's")
    waiting = await announced(far, b"waiting", OTHER)
    assert await sent(far, waiting, b"waiting", b"waiting") == 200
    assert far.files.direct is not None
    assert await far.files.direct.sweep() == 0, "young ones may be on their way to be named"

    monkeypatch.setattr(s3_objects, "_ORPHANED", -s3_objects._ORPHANED)
    assert await far.files.direct.sweep() == 2
    assert far.objects() == 2 + len(foreign)

    assert (await far.read(PATH), await far.read(OTHER)) == (b"adopted", b"waiting")


async def test_a_bucket_that_is_away_is_said_to_be_and_changes_nothing(far: Home, s3: S3Server) -> None:
    await put(far, b"there")
    name = await announced(far, b"under way", OTHER)
    s3.is_away = True

    with pytest.raises(Unavailable, match="does not answer"):
        await far.files.find(OTHER)
    assert far.files.direct is not None
    with pytest.raises(Unavailable, match="does not answer"):
        await far.files.direct.sweep()
    with pytest.raises(Unavailable, match="does not answer"):
        await far.files.put(OTHER, chunks(b"x"), expected=None, create_only=False)
    stored = await far.files.find(PATH)
    assert stored is not None, "what is known needs nobody asked"
    assert await far.files.delete(PATH)

    s3.is_away = False
    assert await sent(far, name, b"under way", b"under way") == 200
    assert await far.read(OTHER) == b"under way"


async def test_an_answer_that_is_no_http_is_logged_without_the_address_that_was_signed(where: Bucket) -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"nonsense\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(nonsense, "127.0.0.1", 0) as server:
        endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with opened_bucket(msgspec.structs.replace(where, endpoint=endpoint)) as (objects, _):
            with capture_logs() as logged, pytest.raises(Unavailable):
                await objects.find(ObjectName(ALICE, "a" * 64, "0" * 32))

    assert [each["reason"] for each in logged] == ["its answer cannot be read as HTTP"]


async def test_a_server_that_does_not_verify_what_it_is_sent_is_refused(where: Bucket, s3: S3Server) -> None:
    async with opened_bucket(where) as (objects, _):
        await objects.check()
        assert s3.keys(where.bucket) == []
        s3.verifies = False
        with pytest.raises(BadBucket, match="have not the SHA-256"):
            await objects.check()
