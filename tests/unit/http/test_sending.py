import asyncio
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from aiohttp import web

from broker.http.sending import send_file
from broker.listening import tls_context
from broker.wire.names import check_digest
from tests.support import certificates
from tests.support.api import digest_of
from tests.unit.client.test_session import serving

PIECE_BYTES = 2_097_152
CONTENT = random.Random(8).randbytes(2 * PIECE_BYTES + 5)
DIGEST = check_digest(digest_of(CONTENT))


class Contexts(NamedTuple):
    """The two sides' of TLS; None: without it."""

    server: ssl.SSLContext | None
    client: ssl.SSLContext | None


@pytest.fixture(params=["plain", "tls"])
def contexts(request: pytest.FixtureRequest, tmp_path: Path) -> Contexts:
    if request.param == "plain":
        return Contexts(None, None)
    authority = certificates.authority()
    server = certificates.server(authority)
    (tmp_path / "cert").write_bytes(server.pem)
    (tmp_path / "key").write_bytes(server.key_pem)
    served = tls_context(tmp_path / "cert", tmp_path / "key")
    return Contexts(served, ssl.create_default_context(cadata=authority.pem.decode()))


@asynccontextmanager
async def asked(
    path: Path, contexts: Contexts, headers: dict[str, str] | None = None
) -> AsyncIterator[aiohttp.ClientResponse]:
    """Serve the file, ask for it, and yield the answer, of which only the head was read."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return send_file(request, path, name="file", digest=DIGEST)

    connector = aiohttp.TCPConnector(ssl=contexts.client or True)
    async with (
        serving(handle, contexts.server) as url,
        aiohttp.ClientSession(connector=connector) as session,
        session.get(f"{url}/file", headers=headers) as answer,
    ):
        yield answer


@pytest.mark.parametrize("size_bytes", [0, 1, PIECE_BYTES, len(CONTENT)])
async def test_every_byte_arrives(tmp_path: Path, contexts: Contexts, size_bytes: int) -> None:
    (tmp_path / "file").write_bytes(CONTENT[:size_bytes])

    async with asked(tmp_path / "file", contexts) as answer:
        assert await answer.read() == CONTENT[:size_bytes]


async def test_a_range_begins_and_ends_within_pieces(tmp_path: Path, contexts: Contexts) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    first, last = 7, 2 * PIECE_BYTES + 1

    async with asked(tmp_path / "file", contexts, {"Range": f"bytes={first}-{last}"}) as answer:
        assert answer.status == 206
        assert await answer.read() == CONTENT[first : last + 1]


async def test_the_loop_is_given_back_after_each_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It also tells when another aiohttp would send a file in a way of its own."""
    (tmp_path / "file").write_bytes(CONTENT)
    sent: list[int] = []
    loop = asyncio.get_running_loop()
    real = loop.sendfile

    async def note(transport: Any, file: Any, offset: int, count: int) -> int:
        sent.append(count)
        return await real(transport, file, offset, count)

    monkeypatch.setattr(loop, "sendfile", note)

    async with asked(tmp_path / "file", Contexts(None, None)) as answer:
        await answer.read()

    assert sent == [PIECE_BYTES, PIECE_BYTES, 5]


async def test_a_receiver_that_goes_away_is_no_fault_of_the_broker(
    tmp_path: Path, contexts: Contexts, caplog: pytest.LogCaptureFixture
) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(128 * PIECE_BYTES)

    async with asked(tmp_path / "file", contexts) as answer:
        await answer.content.read(1)
        answer.close()

    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
