"""Transfers with servers that misbehave in every way that is known of servers."""

import asyncio
import base64
import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from broker.client import download as download_module
from broker.client.download import SPARED_BYTES, ContentDiffers, Download, fetch
from broker.client.errors import ApiError, CallError, Unreachable
from broker.client.pace import Pace, TooSlow
from broker.client.session import Session
from broker.client.transfer import RepeatJudge, Sending, Upload, put
from broker.wire.leases import SignedUrl
from tests.support.misbehaving import field, head, misbehaving

CONTENT = bytes(range(256)) * 8_192
DIGEST = hashlib.sha256(CONTENT).digest()
REPR = f"sha-256=:{base64.b64encode(DIGEST).decode()}:"
TAG = '"one"'
QUICK = Pace(window_s=0.2, least_bytes=100)
SECRET = {"X-Auth-Token": "secret"}


def signed(url: str, method: str = "GET", **more: Any) -> SignedUrl:
    return SignedUrl(url=url, target="file:alice/x", method=method, **more)


class Cutting:
    """Sends `pieces` bytes for each request, and keeps what it was asked; `later` answers all but the first."""

    def __init__(self, *pieces: int, accept_ranges: str = "bytes", tags: tuple[str, ...] = (TAG,) * 9) -> None:
        self.ranges: list[str | None] = []
        self._pieces, self._accepts, self._tags = list(pieces), accept_ranges, list(tags)

    async def __call__(self, request: str, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked, tag = field(request, "Range"), self._tags.pop(0)
        self.ranges.append(asked)
        start, status = 0, "200 OK"
        more: dict[str, str | int] = {}
        if asked is not None and field(request, "If-Range") == tag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            status, more = "206 Partial Content", {"Content_Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"}
        told: dict[str, str | int] = {
            "Content_Length": len(CONTENT) - start,
            "ETag": tag,
            "Accept_Ranges": self._accepts,
            "Repr_Digest": REPR,
        }
        writer.write(head(status, **told, **more))
        writer.write(CONTENT[start : start + (self._pieces.pop(0) if self._pieces else len(CONTENT))])


async def fetched(url: str, path: Path, tries: int) -> list[str]:
    """Fetch with so many tries; return the sentences of those that failed."""
    download, said = Download(path), []
    async with Session(url) as session:
        for _ in range(tries):
            try:
                facts = await download.go_on(session, signed(url))
                assert facts == (len(CONTENT), f"sha256:{DIGEST.hex()}")
            except CallError as error:
                said.append(str(error))
    return said


async def test_a_fetch_that_is_cut_goes_on_where_it_was(tmp_path: Path) -> None:
    server = Cutting(1_000_000, 500_000)
    async with misbehaving(server) as url:
        said = await fetched(url, tmp_path / "x", 3)

    assert (tmp_path / "x").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000000-", "bytes=1500000-"]
    assert all("before the end of its answer, after 1" in each for each in said)
    assert len(said) == 2


@pytest.mark.parametrize(
    "server", [Cutting(1_000_000, tags=(TAG, '"two"')), Cutting(1_000_000, accept_ranges="none")], ids=["new", "none"]
)
async def test_a_file_that_changed_or_has_no_pieces_is_fetched_anew(tmp_path: Path, server: Cutting) -> None:
    async with misbehaving(server) as url:
        await fetched(url, tmp_path / "x", 2)

    assert (tmp_path / "x").read_bytes() == CONTENT


class Wrong(NamedTuple):
    answer: bytes
    said: str
    known: Mapping[str, Any] = MappingProxyType({})


WRONG = {
    "fewer bytes": Wrong(
        head("200 OK", Content_Length=9) + b"five!", "before the end of its answer, after 5 of 9 bytes"
    ),
    "fewer than known": Wrong(head("200 OK", Content_Length=5) + b"five!", "announces 5 bytes", {"size_bytes": 9}),
    "more than known": Wrong(head("200 OK") + b"five!", "sends more than the 4 bytes", {"size_bytes": 4}),
    "end without length": Wrong(head("200 OK") + b"five!", "after 5 of 9 bytes", {"size_bytes": 9}),
    "digest": Wrong(head("200 OK", Content_Length=5, Repr_Digest=REPR) + b"five!", "the digest that came with them"),
    "content digest": Wrong(head("200 OK", Content_Length=5, Content_Digest=REPR) + b"five!", "that came with them"),
    "known digest": Wrong(
        head("200 OK", Content_Length=5) + b"five!", "that the broker knows", {"digest": "sha256:00"}
    ),
    "a piece unasked": Wrong(head("206 Partial Content", Content_Length=5) + b"five!", "206, and not with a file"),
    "S3": Wrong(
        head("400 Bad Request", Content_Type="application/xml", Content_Length=46)
        + b"<Error><Code>ExpiredToken</Code></Error>      ",
        "answered 400 Bad Request",
    ),
    "to nowhere": Wrong(head("302 Found", Content_Length=0), "does not say where to"),
    "to a file": Wrong(head("302 Found", Location="file:///etc/passwd", Content_Length=0), "no http or https address"),
    "to a name": Wrong(head("302 Found", Location="//u:p@host.example/", Content_Length=0), "a user's name in it"),
    "round and round": Wrong(head("302 Found", Location="/x", Content_Length=0), "redirects more than 9 times"),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
async def test_what_is_not_as_it_was_said_is_told_in_a_sentence(tmp_path: Path, case: Wrong) -> None:
    async def answer(_: str, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(case.answer)

    async with misbehaving(answer) as url, Session(url) as session:
        with pytest.raises(CallError, match=case.said) as failed:
            await fetch(session, signed(url, **case.known), tmp_path / "x")

    if "Expired" in case.answer.decode():
        assert [RepeatJudge()(failed.value), isinstance(failed.value, ApiError)] == [True, True]


def test_what_differs_again_and_again_is_given_up() -> None:
    judge = RepeatJudge()
    assert [judge(ContentDiffers("")) for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize(
    "answer", [head("200 OK", Content_Length=SPARED_BYTES) + b"x", head("200 OK")], ids=["announced", "endless"]
)
async def test_more_than_the_disk_has_room_for_is_refused_before_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    async def send(_: str, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        while len(answer) < 100:
            writer.write(CONTENT)
            await writer.drain()

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download_module, "ROOM_EVERY_BYTES", len(CONTENT))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=SPARED_BYTES + 1_000))
    async with misbehaving(send) as url, Session(url) as session:
        with pytest.raises(Unreachable, match=r"the disk has room for \d+: give the machine a larger one") as failed:
            await fetch(session, signed(url), tmp_path / "x")

    assert failed.value.is_lasting


async def test_a_server_that_drips_or_falls_silent_is_cut(tmp_path: Path) -> None:
    async def drip(_: str, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head("200 OK", Content_Length=1_000_000))
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with misbehaving(drip) as url, Session(url) as session:
        with pytest.raises(Unreachable, match=r"less than 100 bytes moved in 0\.2 s"):
            await fetch(session, signed(url), tmp_path / "x", pace=QUICK)


@pytest.fixture
def upload(tmp_path: Path) -> Callable[[], Upload]:
    (tmp_path / "out").write_bytes(CONTENT)
    return lambda: Upload((tmp_path / "out").open("rb"), len(CONTENT), DIGEST)


async def putting(url: str, upload: Upload, sending: Sending | None = None, **more: Any) -> None:
    async with Session(url) as session:
        with upload.file:
            await put(session, signed(url, "PUT", **more), upload, may_be_ours=False, sending=sending)


async def test_a_body_is_sent_after_a_while_to_a_server_that_does_not_say_go_on(
    upload: Callable[[], Upload], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.client.expecting.CONTINUE_WAIT_S", 0.1)
    bodies: list[bytes] = []

    async def hang(request: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert field(request, "Expect") == "100-continue"
        bodies.append(await reader.readexactly(len(CONTENT)))
        writer.write(head("201 Created", Content_Length=0))

    async with misbehaving(hang) as url:
        await putting(url, upload())

    assert bodies == [CONTENT]


async def test_a_server_that_refuses_first_is_sent_no_body(upload: Callable[[], Upload]) -> None:
    bodies: asyncio.Queue[bytes] = asyncio.Queue()

    async def refuse(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head("413 Content Too Large", Content_Length=0))
        writer.write_eof()
        bodies.put_nowait(await reader.read())

    async with misbehaving(refuse) as url:
        with pytest.raises(ApiError, match="413"):
            await putting(url, upload())
        assert await asyncio.wait_for(bodies.get(), 10) == b""


async def test_an_upload_that_is_cut_begins_anew_and_one_that_nobody_reads_is_cut(upload: Callable[[], Upload]) -> None:
    bodies: list[bytes] = []

    async def cut(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        bodies.append(await reader.readexactly(len(CONTENT) if len(bodies) > 1 else 100_000))
        if len(bodies) > 2:
            writer.write(head("201 Created", Content_Length=0))

    async def ignore(_: str, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await asyncio.Event().wait()

    async with misbehaving(cut) as url:
        with pytest.raises(Unreachable, match="broke"):
            await putting(url, upload())
        await putting(url, upload())
    # Twice for the first: aiohttp tries a PUT once more by itself.
    assert bodies == [CONTENT[:100_000]] * 2 + [CONTENT]

    big = upload()._replace(size_bytes=1 << 30)
    os.truncate(big.file.name, 1 << 30)
    async with misbehaving(ignore) as url:
        with pytest.raises(TooSlow):
            await putting(url, big, Sending(QUICK))


@pytest.mark.parametrize(
    "told",
    [
        {"Repr_Digest": REPR.replace(REPR[10:14], "AAAA"), "Content_Length": 0},
        {"x_amz_checksum_sha256": base64.b64encode(b"x" * 32).decode(), "Content_Length": 0},
        {"x_amz_object_size": 3, "Content_Length": 0},
    ],
)
async def test_a_server_that_says_it_stored_something_else_is_not_believed(
    upload: Callable[[], Upload], told: dict[str, str | int]
) -> None:
    async def store(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await reader.readexactly(len(CONTENT))
        writer.write(head("201 Created", **told))

    async with misbehaving(store) as url:
        with pytest.raises(ContentDiffers, match="stored something else"):
            await putting(url, upload())


@pytest.mark.parametrize("status", [301, 302, 303])
async def test_a_redirect_that_would_lose_the_body_is_explained(upload: Callable[[], Upload], status: int) -> None:
    async def send_on(_: str, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head(f"{status} Elsewhere", Location="/other", Content_Length=0))

    async with misbehaving(send_on) as url:
        with pytest.raises(Unreachable, match=f"answers PUT with {status}, which sends nothing on"):
            await putting(url, upload())


async def test_what_goes_along_to_an_origin_is_shown_to_no_other(upload: Callable[[], Upload], tmp_path: Path) -> None:
    requests: list[str] = []

    async def take(request: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(request)
        if request.startswith("PUT"):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            assert await reader.readexactly(len(CONTENT)) == CONTENT
        writer.write(head("200 OK", Content_Length=0))

    async with misbehaving(take) as other:

        async def send_on(request: str, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            requests.append(request)
            here = request.split()[1] == "/"
            location = "/further" if here else f"{other}/there"
            writer.write(head("307 Elsewhere", Location=location, Content_Length=0))

        # The session's own token goes to the broker, and to no signed address.
        async with misbehaving(send_on) as url, Session(url, token="own") as session:
            await fetch(session, signed(url, headers=SECRET), tmp_path / "x")
            with upload().file as file:
                whole = Upload(file, len(CONTENT), DIGEST)
                await put(session, signed(url, "PUT", headers=SECRET), whole, may_be_ours=False)

    assert [field(each, "X-Auth-Token") for each in requests] == ["secret", "secret", None] * 2
    assert [field(each, "Authorization") for each in requests] == [None] * 6
    assert [field(each, "If-None-Match") for each in requests] == [None] * 3 + ["*"] * 3
