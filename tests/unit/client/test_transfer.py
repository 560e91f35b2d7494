import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from broker.client.errors import ApiError, Unreachable, synthetic_problem
from broker.client.session import Session
from broker.client.transfer import BLOCK_BYTES, MAX_FULL, RepeatJudge, Upload, put
from broker.wire.leases import SignedUrl
from broker.wire.problems import ProblemCode

CONTENT = b"several blocks, and a bit" * (3 * BLOCK_BYTES // 25)


@asynccontextmanager
async def taking() -> AsyncIterator[tuple[str, list[bytes]]]:
    """Serve an address that takes files, `/moved` sending there, and give the bodies that came."""
    bodies: list[bytes] = []

    async def take(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        return web.Response(status=201)

    async def move(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=307, headers={"Location": "/taken"})

    app = web.Application(client_max_size=2 * len(CONTENT))
    app.add_routes([web.put("/taken", take), web.put("/moved", move)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", bodies
    finally:
        await runner.cleanup()


async def put_file(address: str, path: Path, size_bytes: int) -> None:
    signed = SignedUrl(method="PUT", url=address, headers={}, target="file:alice/x")
    async with Session(address) as session:
        with path.open("rb") as file:
            upload = Upload(file, size_bytes, hashlib.sha256(CONTENT).digest())
            await put(session, signed, upload, may_be_ours=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("address", ["/taken", "/moved"])
async def test_a_file_of_several_blocks_is_put_whole_wherever_the_server_wants_it(file: Path, address: str) -> None:
    async with taking() as (url, bodies):
        await put_file(url + address, file, len(CONTENT))

    assert bodies == [CONTENT]


async def test_what_a_file_grew_by_since_it_was_measured_is_not_sent(file: Path) -> None:
    async with taking() as (url, bodies):
        await put_file(f"{url}/taken", file, len(CONTENT) - 1)

    assert bodies == [CONTENT[:-1]]


async def test_a_file_that_became_shorter_is_told_at_once(file: Path) -> None:
    async with taking() as (url, bodies):
        with pytest.raises(Unreachable, match="broke"):
            await put_file(f"{url}/taken", file, len(CONTENT) + 1)

    assert bodies == []


def test_room_for_a_file_is_waited_for_a_few_times_and_a_foreign_servers_pace_as_long_as_it_takes() -> None:
    problem = synthetic_problem(429, "alice's room for files is full", retry_after_s=60)
    full = ApiError(msgspec.structs.replace(problem, code=ProblemCode.QUOTA_EXCEEDED), is_brokers=True)
    judge = RepeatJudge()

    assert [judge(full) for _ in range(MAX_FULL + 1)] == [True] * MAX_FULL + [False]
    assert all(judge(ApiError(problem)) for _ in range(MAX_FULL + 1))


def test_an_s3_server_at_which_another_try_still_goes_on_is_asked_again() -> None:
    busy = ApiError(synthetic_problem(409, "answered 409 Conflict"), s3_code="ConditionalRequestConflict")
    other = ApiError(synthetic_problem(409, "answered 409 Conflict"), s3_code="BucketAlreadyExists")

    assert [RepeatJudge()(error) for error in (busy, other)] == [True, False]
