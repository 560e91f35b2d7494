"""What is promised of files holds wherever their bytes are: in a folder of the broker's disk, or in a bucket."""

import asyncio
import errno
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import aiohttp
import msgspec
import obstore
import pytest
from structlog.testing import capture_logs

from broker.bucket import opened_bucket
from broker.domain.buckets import Bucket
from broker.domain.errors import Rejected, Unavailable
from broker.domain.paths import FilePath, parse_file_path
from broker.files import locks, records, s3_objects
from broker.files.direct_uploads import MOST_A_PATH
from broker.files.free_space import FreeSpace
from broker.files.objects import Facts, ObjectName
from broker.files.pending import ABANDONED_S
from broker.files.s3_objects import BadBucket, key_of
from broker.files.user_files import UserFiles
from broker.http.bucket_urls import BucketUrls
from broker.wire.names import UserName, check_digest
from broker.wire.problems import ProblemCode
from tests.support.api import digest_of
from tests.support.s3_server import CREDENTIALS, REGION, S3Server

PATH, OTHER = parse_file_path("alice/a/b.txt"), parse_file_path("alice/other")
ALICE = PATH.user
LIMIT_BYTES = 64 * 1024 * 1024


class Counted:
    """The count of users' room; `most` of it."""

    def __init__(self) -> None:
        self.bytes: Counter[UserName] = Counter()
        self.most = 1 << 40

    async def reserve_file(self, user: UserName, more_bytes: int) -> None:
        if self.bytes[user] + more_bytes > self.most:
            raise Rejected(ProblemCode.QUOTA_EXCEEDED, "full")
        self.bytes[user] += more_bytes

    async def free_file(self, user: UserName, less_bytes: int) -> None:
        self.bytes[user] -= less_bytes


class Home(NamedTuple):
    """Files of a home: `make` gives those of another process over the same, `objects` what there is of objects."""

    files: UserFiles
    counted: Counted
    make: Callable[[], UserFiles]
    read: Callable[[FilePath], Awaitable[bytes]]
    objects: Callable[[], int]
    urls: BucketUrls | None = None


async def chunks(*parts: bytes, broken: bool = False) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    if broken:
        raise ConnectionResetError


@pytest.fixture
def where(s3: S3Server, bucket: str, tmp_path: Path) -> Bucket:
    file = tmp_path / "credentials"
    file.write_text(CREDENTIALS)
    return Bucket(bucket=bucket, prefix="a/prefix", region=REGION, endpoint=s3.url, credentials=str(file))


@pytest.fixture
async def far(s3: S3Server, where: Bucket, tmp_path: Path) -> AsyncIterator[Home]:
    """Files whose bytes are in a bucket."""
    async with opened_bucket(where) as (objects, urls):
        counted = Counted()

        def make() -> UserFiles:
            space = FreeSpace(tmp_path, floor_bytes=0)
            return UserFiles(tmp_path / "users", limit_bytes=LIMIT_BYTES, space=space, counting=counted, bucket=objects)

        files = make()

        async def read(path: FilePath) -> bytes:
            stored = await files.find(path)
            assert stored is not None
            assert stored.location is None
            async with aiohttp.ClientSession() as http, http.get(urls.get(stored, path.name)) as answer:
                assert answer.status == 200
                return await answer.read()

        yield Home(files, counted, make, read, lambda: len(s3.keys(where.bucket, where.prefix)), urls)


@pytest.fixture
def near(tmp_path: Path) -> Home:
    """Files whose bytes are in a folder."""
    counted, folder = Counted(), tmp_path / "users"

    def make() -> UserFiles:
        return UserFiles(folder, limit_bytes=LIMIT_BYTES, space=FreeSpace(tmp_path, floor_bytes=0), counting=counted)

    files = make()

    async def read(path: FilePath) -> bytes:
        stored = await files.find(path)
        assert stored is not None
        assert stored.location is not None
        return stored.location.read_bytes()

    def objects() -> int:
        return sum(each.is_file() for part in ("objects", "incoming") for each in (folder / part).rglob("*"))

    return Home(files, counted, make, read, objects)


@pytest.fixture(params=["near", "far"])
def home(request: pytest.FixtureRequest) -> Home:
    found: Home = request.getfixturevalue(request.param)
    return found


async def put(home: Home, content: bytes, path: FilePath = PATH, *, create_only: bool = False) -> bool:
    _, is_new = await home.files.put(path, chunks(content), expected=None, create_only=create_only)
    return is_new


async def test_a_file_is_as_it_was_put_and_a_replaced_one_leaves_nothing(home: Home) -> None:
    assert await put(home, b"old")
    assert await put(home, b"", OTHER)
    assert not await put(home, b"new")
    assert not await put(home, b"new")

    stored = await home.files.find(PATH)

    assert stored is not None
    assert (stored.size_bytes, stored.digest) == (3, digest_of(b"new"))
    assert (await home.read(PATH), await home.read(OTHER)) == (b"new", b"")
    assert await home.files.find_all({PATH, OTHER, parse_file_path("alice/a")}) == {PATH, OTHER}
    assert home.objects() == 2
    assert home.counted.bytes[ALICE] == 2 * 4_096 + 3 == await home.files.counted(ALICE)
    assert [await home.files.delete(path) for path in (PATH, PATH, OTHER)] == [True, False, True]
    assert home.objects() == 0
    assert home.counted.bytes[ALICE] == 0 == await home.files.counted(ALICE)


async def test_a_file_of_several_parts_comes_back_whole(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_objects, "PART_BYTES", 5 * 1024 * 1024)
    piece = bytes(range(256)) * 2_048

    stored, _ = await home.files.put(
        PATH, chunks(*[piece] * 23), expected=check_digest(digest_of(piece * 23)), create_only=True
    )

    assert stored.size_bytes == 23 * len(piece)
    assert await home.read(PATH) == piece * 23


async def test_a_file_that_lies_beside_becomes_one_of_a_users(home: Home, tmp_path: Path) -> None:
    for number in range(3):
        proved = tmp_path / f"proved-{number}"
        proved.write_bytes(b"proved")
        facts = facts_of(b"proved")
        stored, is_new = await home.files.adopt(PATH, proved, *facts[:2], create_only=True)
        assert (stored.digest, is_new) == (facts.digest, number == 0)
    (tmp_path / "other").write_bytes(b"other")
    with pytest.raises(Rejected, match="exists already"):
        await home.files.adopt(PATH, tmp_path / "other", *facts_of(b"other")[:2], create_only=True)

    assert await home.read(PATH) == b"proved"
    assert home.objects() == 1
    home.counted.most = 3 * 4_096 + 6
    await home.files.check_room(ALICE, 2_000, beside_bytes=2_096)
    with pytest.raises(Rejected, match="full"):
        await home.files.check_room(ALICE, 4_096, beside_bytes=4_096)
    assert home.counted.bytes[ALICE] == 4_096 + 6 == await home.files.counted(ALICE)


async def test_what_broke_off_differs_or_is_too_large_leaves_nothing(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_objects, "PART_BYTES", 5 * 1024 * 1024)
    large = [b"x" * 1_048_576] * 12
    with pytest.raises(ConnectionResetError):
        await home.files.put(PATH, chunks(*large, broken=True), expected=None, create_only=False)
    with pytest.raises(Rejected, match="announced was"):
        await home.files.put(PATH, chunks(b"a"), expected=check_digest(digest_of(b"b")), create_only=False)
    with pytest.raises(Rejected, match="larger than"):
        await home.files.put(PATH, chunks(*large * 6), expected=None, create_only=False)
    home.counted.most = 7_000_000
    with pytest.raises(Rejected, match="full"):
        await home.files.put(PATH, chunks(*large), expected=None, create_only=False)

    assert await home.files.find(PATH) is None
    assert home.objects() == 0
    assert home.counted.bytes[ALICE] == 0


async def test_of_many_that_create_one_file_one_wins(home: Home) -> None:
    elsewhere = home._replace(files=home.make())

    outcomes = await asyncio.gather(
        *(put(each, bytes([65 + n]), create_only=True) for n in range(4) for each in (home, elsewhere)),
        return_exceptions=True,
    )

    assert outcomes.count(True) == 1
    assert outcomes.count(False) == 1, "the same bytes again are a retry"
    assert sum(isinstance(outcome, Rejected) for outcome in outcomes) == 6
    assert home.objects() == 1


async def test_a_change_is_made_whole_or_not_at_all_when_its_request_is_cancelled(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await put(home, b"old")
    waits = threading.Event()
    real = locks.held

    def noted(folder: Path) -> AbstractContextManager[None]:
        waits.set()
        return real(folder)

    monkeypatch.setattr(records, "held", noted)
    with real(tmp_path / "users/records/alice" / records.hash_of(PATH)[:2]):
        putting = asyncio.create_task(put(home, b"new"))
        await asyncio.to_thread(waits.wait, 10.0)
        putting.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
    await asyncio.wait([putting])

    assert putting.cancelled()
    assert await home.read(PATH) in {b"old", b"new"}
    assert home.counted.bytes[ALICE] == 4_096 + 3 == await home.files.counted(ALICE)


async def test_a_record_that_cannot_be_written_leaves_no_object_and_takes_no_upload(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    proved = tmp_path / "proved"
    proved.write_bytes(b"proved")
    with monkeypatch.context() as patched:
        patched.setattr(records.Records, "write", full)
        for putting in (
            home.files.put(PATH, chunks(b"x"), expected=None, create_only=False),
            home.files.adopt(PATH, proved, *facts_of(b"proved")[:2], create_only=True),
        ):
            with pytest.raises(Unavailable, match="disk"):
                await putting
    assert home.objects() == 0
    assert home.counted.bytes[ALICE] == 0

    await home.files.adopt(PATH, proved, *facts_of(b"proved")[:2], create_only=True)

    assert await home.read(PATH) == b"proved"
    with pytest.raises(Rejected, match="larger than"):
        await home.files.adopt(OTHER, proved, LIMIT_BYTES + 1, check_digest(digest_of(b"proved")), create_only=True)


async def announced(home: Home, content: bytes, path: FilePath = PATH, *, create_only: bool = False) -> ObjectName:
    name = await home.files.announce(path, facts_of(content), create_only=create_only)
    assert isinstance(name, ObjectName)
    return name


def facts_of(content: bytes) -> Facts:
    return Facts(len(content), check_digest(digest_of(content)))


async def sent(home: Home, name: ObjectName, promised: bytes, content: bytes) -> int:
    """Send bytes to where those that were promised may be put; return the status."""
    assert home.urls is not None
    address = home.urls.put(key_of(name), len(promised), check_digest(digest_of(promised)))
    headers = {**address.headers, "Content-Length": str(len(content))}
    async with aiohttp.ClientSession() as http, http.put(address.url, data=content, headers=headers) as answer:
        return answer.status


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
