"""The S3 bucket of users' files: opened with the key that an operator gave, and tried before anybody relies on it.

The key stays in the broker's processes. It signs addresses and the broker's own requests, and is in none of them.
"""

import json
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from broker.auth.s3_urls import BadCredentials, S3Credentials, S3Urls
from broker.domain.buckets import Bucket
from broker.files.bucket_store import bucket_store
from broker.files.folders import make_private
from broker.files.s3_objects import BadBucket, S3Objects
from broker.http.bucket_urls import BucketUrls
from broker.listening import CannotServe

_CONNECT_S = 10.0
_HOME = "home.json"
"""What is told in it is where the objects are which the records beside it name, and who says so in a bucket."""
_PLACES = 2
"""Its first parts: address and endpoint of a bucket."""


@asynccontextmanager
async def opened_bucket(bucket: Bucket) -> AsyncIterator[tuple[S3Objects, BucketUrls]]:
    """Give the bucket's objects, and what signs their addresses, for the block.

    Raises:
        CannotServe: there is no key that can be read.
    """
    key = _credentials(bucket)
    urls = BucketUrls(S3Urls(key, region=bucket.region, endpoint=bucket.endpoint), bucket)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield S3Objects(bucket_store(bucket, *key), urls, session), urls


async def check_home(folder: Path, bucket: Bucket | None) -> None:
    """Check that users' files are where they were, and that the bucket, if it is one, can be written.

    Raises:
        CannotServe: with the sentence for the operator.
    """
    make_private(folder)
    file = folder / _HOME
    before = json.loads(file.read_text()) if file.exists() else None
    told = None if bucket is None else [bucket.url, bucket.endpoint]
    is_same = (before if before is None else before[:_PLACES]) == told
    if not is_same and any((folder / "records").glob("*/*/*.json")):
        was = "the data folder" if before is None else " at ".join(part for part in before[:_PLACES] if part)
        raise CannotServe(
            f"the files of {folder} are in {was}, not in {'the data folder' if bucket is None else bucket.url}: "
            "set `files` and `files_endpoint` as they were, or begin with another data folder"
        )
    if bucket is None or told is None:
        file.write_text(json.dumps(told))
        return
    # Noted before it is written there: what a crash leaves in the bucket is known as this folder's own.
    owner = before[_PLACES] if is_same and before is not None and len(before) > _PLACES else secrets.token_hex(16)
    file.write_text(json.dumps([*told, owner]))
    async with opened_bucket(bucket) as (objects, _):
        try:
            await objects.check()
            await objects.claim(owner)
        except BadBucket as error:
            raise CannotServe(f"users' files cannot be kept in {bucket.url}: {error}") from error


def _credentials(bucket: Bucket) -> S3Credentials:
    if bucket.credentials is not None:
        try:
            return S3Credentials.parse(Path(bucket.credentials).read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise CannotServe(f"files_credentials: {bucket.credentials} cannot be read") from error
        except BadCredentials as error:
            raise CannotServe(f"files_credentials: {bucket.credentials}: {error}") from error
    key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not key or not secret:
        raise CannotServe(
            "files are in S3, and there is no key for it: set files_credentials, or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY"
        )
    return S3Credentials(key, secret, os.environ.get("AWS_SESSION_TOKEN") or None)
