"""Our client uploads images to a real broker, over connections that break."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from yarl import URL

from broker.client import uploads
from broker.client.errors import ApiError
from broker.client.files import Files, read_content
from broker.client.researcher import Researcher
from broker.client.session import Session
from broker.client.uploads import FileChanged
from broker.wire.machines import Disk, MachineDefinition
from broker.wire.names import MachineRef, UserName
from tests.support.api import XML, Api, digest_of

CONTENT = secrets.token_bytes(6_000_000)
PART_BYTES = 1_000_000


class Wire:
    """A way to the broker that breaks after so many bytes, for as many connections as `breaks` tells."""

    def __init__(self, url: str, *, after_bytes: int, breaks: int) -> None:
        self._url = URL(url)
        self._after_bytes = after_bytes
        self.breaks = breaks
        self.bytes = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1")
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to_there = await asyncio.open_connection(self._url.host, self._url.port)
        try:
            async with asyncio.TaskGroup() as group:
                back = group.create_task(_relay(there, writer))
                await self._up(reader, to_there)
                back.cancel()
        finally:
            writer.transport.abort()
            to_there.transport.abort()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        went_bytes = 0
        with suppress(ConnectionError):
            while chunk := await reader.read(65_536):
                writer.write(chunk)
                await writer.drain()
                went_bytes += len(chunk)
                self.bytes += len(chunk)
                if self.breaks and went_bytes > self._after_bytes:
                    self.breaks -= 1
                    return


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while chunk := await reader.read(65_536):
            writer.write(chunk)
            await writer.drain()


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(uploads, "PART_BYTES", PART_BYTES)
    path = tmp_path / "disk.raw"
    path.write_bytes(CONTENT)
    return path


async def test_an_image_gets_there_over_a_wire_that_breaks_and_little_goes_twice(user: Api, image: Path) -> None:
    wire = Wire(user.url, after_bytes=1_700_000, breaks=3)
    told: list[int] = []
    async with wire.open() as url, Session(url, token=user.token) as session:
        view = await Files(session).put_image(image, await read_content(image), told.append)

    assert (view.digest, view.size_bytes) == (digest_of(CONTENT), len(CONTENT))
    assert (await user.call("GET", f"/v1/images/{view.digest}")).body == CONTENT
    assert sum(told) == len(CONTENT)
    assert wire.breaks == 0
    assert wire.bytes < len(CONTENT) + 3 * PART_BYTES


async def test_another_process_goes_on_where_the_first_was_stopped(user: Api, image: Path) -> None:
    content = await read_content(image)
    is_half_way = asyncio.Event()
    told: list[int] = []

    def tell(count: int) -> None:
        told.append(count)
        if sum(told) >= len(CONTENT) // 2:
            is_half_way.set()

    async with Session(user.url, token=user.token) as session:
        first = asyncio.create_task(Files(session).put_image(image, content, tell))
        await asyncio.wait_for(is_half_way.wait(), 30)
        first.cancel()
        await asyncio.wait([first])
    [unfinished] = await user.ok("GET", "/v1/uploads")
    second: list[int] = []
    async with Session(user.url, token=user.token) as session:
        await Files(session).put_image(image, content, second.append)

    assert unfinished["offset_bytes"] >= 2 * PART_BYTES
    assert second[0] >= unfinished["offset_bytes"]
    assert sum(second) == len(CONTENT)
    assert (await user.call("HEAD", f"/v1/images/{content.digest}")).status == 200


async def test_a_file_that_changes_on_its_way_is_no_image(user: Api, image: Path) -> None:
    content = await read_content(image)
    async with Session(user.url, token=user.token) as session:
        image.write_bytes(CONTENT[:-1] + b"?")
        with pytest.raises(ApiError, match="announced was"):
            await Files(session).put_image(image, content)
        image.write_bytes(CONTENT[:-1])
        with pytest.raises(FileChanged, match="became shorter"):
            await Files(session).put_image(image, content)

    assert (await user.call("HEAD", f"/v1/images/{content.digest}")).status == 404


async def test_a_machine_is_shared_and_removed_by_the_client(user: Api, image: Path) -> None:
    ref = MachineRef(UserName("alice"), "m")
    content = await read_content(image)
    async with Session(user.url, token=user.token) as session:
        await Files(session).put_image(image, content)
        disk = Disk(digest=content.digest, size_bytes=content.size_bytes, format="raw")
        researcher = Researcher(session)
        await researcher.put_machine(ref, MachineDefinition(domain_xml=XML, disks={"vda": disk}))

        assert await researcher.share_machine(ref, "carol") == ["carol"]
        assert await researcher.share_machine(ref, "bob") == ["bob", "carol"]
        assert await researcher.unshare_machine(ref, "carol") == ["bob"] == await researcher.machine_readers(ref)
        await researcher.delete_machine(ref)

        assert await researcher.machines("alice") == []
        assert not await Files(session).has_image(content.digest)
        # Finished once, and gone since: it is taken in anew.
        await Files(session).put_image(image, content)
        assert await Files(session).has_image(content.digest)
