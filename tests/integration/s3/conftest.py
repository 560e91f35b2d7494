import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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
