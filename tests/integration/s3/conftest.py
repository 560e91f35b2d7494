import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from broker.bucket import opened_bucket
from broker.domain.buckets import Bucket
from broker.domain.paths import FilePath
from broker.files.free_space import FreeSpace
from broker.files.user_files import UserFiles
from tests.integration.s3.homes import LIMIT_BYTES, Counted, Home
from tests.support.s3_server import CREDENTIALS, REGION, S3Server, s3_server


@pytest.fixture(scope="session")
def server() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def s3(server: S3Server) -> Iterator[S3Server]:
    yield server
    server.is_away, server.verifies = False, True


@pytest.fixture
def bucket(s3: S3Server) -> str:
    """Make a bucket of the test's own."""
    name = f"files-{secrets.token_hex(6)}"
    s3.make_bucket(name)
    s3.asked.clear()
    return name


@pytest.fixture
def kept_in_s3(s3: S3Server, bucket: str, tmp_path: Path) -> dict[str, Any]:
    """Return the settings of a broker whose files are in the bucket."""
    file = tmp_path / "credentials"
    file.write_text(CREDENTIALS)
    return {
        "files": f"s3://{bucket}/of/broker",
        "files_endpoint": s3.url,
        "files_region": REGION,
        "files_credentials": file,
    }


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
