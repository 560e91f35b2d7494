"""Files whose bytes are in a folder or in a bucket, and what those do who send them."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import aiohttp

from broker.domain.errors import Rejected
from broker.domain.paths import FilePath, parse_file_path
from broker.files.objects import Facts, ObjectName
from broker.files.s3_objects import key_of
from broker.files.user_files import UserFiles
from broker.http.bucket_urls import BucketUrls
from broker.wire.names import UserName, check_digest
from broker.wire.problems import ProblemCode
from tests.support.api import digest_of
from tests.support.sources import chunks

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


async def put(home: Home, content: bytes, path: FilePath = PATH, *, create_only: bool = False) -> bool:
    _, is_new = await home.files.put(path, chunks(content), expected=None, create_only=create_only)
    return is_new


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
