"""Objects in an S3 bucket. The broker writes what comes through it, and asks after what was uploaded straight there.

What is trusted: that S3 stores under a key, whole or not at all, what it was sent; that it refuses a PUT whose bytes
have not the SHA-256 that the request's signed header names; and that the checksum it tells of an object is the one it
verified. `check` tries the last two at each start, since not everything that speaks S3 does so.
Source: "Checking object integrity in Amazon S3", Amazon S3 User Guide.
"""

import asyncio
import base64
import hashlib
import re
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple, Protocol
from weakref import WeakValueDictionary

import aiohttp
import obstore
import structlog
from obstore.exceptions import BaseError
from obstore.store import S3Store
from yarl import URL

from broker.domain.errors import Rejected, Unavailable
from broker.files.incoming import too_large
from broker.files.objects import Arrival, Facts, ObjectName
from broker.files.room import Admit
from broker.files.source import Chunks, Source
from broker.wire.names import NAME_PATTERN, Digest, UserName
from broker.wire.problems import ProblemCode

PART_BYTES = 8 * 1024 * 1024
"""S3 takes 10,000 parts of one object, enough for the largest file; each upload through here has a few in memory."""
_PARTS_AT_ONCE = 2
_BLOCK_BYTES = 1_048_576
_CALL_S = 30.0
_ORPHANED = timedelta(days=1)
_KEY = re.compile(f"({NAME_PATTERN})/([0-9a-f]{{64}})/([0-9a-f]{{32}})")
_OWNER = ".owner"
_UPLOADS_AT_ONCE, _OF_ONE_USER = 16, 2
"""Large uploads through one process that have parts in memory, some 50 MiB each; others wait, and keep their place. Of
one user there are few: who sends slowly holds up their own."""
_PROBE = b"whether this bucket can be written"
_FAULTS = (BaseError, OSError, TimeoutError, aiohttp.ClientError)

log = structlog.get_logger(__name__)


class BadBucket(Exception):
    """The bucket cannot keep files; its text is a sentence that says what to do."""


class Address(NamedTuple):
    """A signed address of one object, and the headers that have to go with it."""

    url: str
    headers: Mapping[str, str]


class Signer(Protocol):
    """Signs requests for objects, for whoever has no key."""

    def head(self, key: str) -> Address:
        """Sign the question what an object is."""

    def put(self, key: str, size_bytes: int, digest: Digest) -> Address:
        """Sign the writing of an object that is not there yet, with bytes of this size and digest alone."""


class _Incoming:
    """Bytes on their way to S3: counted, bounded, hashed."""

    def __init__(self, source: Source, limit_bytes: int, admit: Admit) -> None:
        self._source = source
        self._limit_bytes = limit_bytes
        self._admit = admit
        self._hasher = hashlib.sha256()
        self.size_bytes = 0

    @property
    def digest(self) -> Digest:
        return Digest(f"sha256:{self._hasher.hexdigest()}")

    async def parts(self) -> AsyncIterator[bytes]:
        """Yield blocks of a part's size; the last one may be smaller."""
        held: list[bytes] = []
        held_bytes = 0
        async for chunk in self._source.chunks():
            self.size_bytes += len(chunk)
            if self.size_bytes > self._limit_bytes:
                raise too_large(self._limit_bytes)
            held.append(chunk)
            held_bytes += len(chunk)
            if held_bytes >= PART_BYTES:
                yield await self._joined(held)
                held, held_bytes = [], 0
        yield await self._joined(held)

    async def _joined(self, held: list[bytes]) -> bytes:
        await self._admit(self.size_bytes)
        block = b"".join(held)
        await asyncio.to_thread(self._hasher.update, block)
        return block


class _S3Arrival:
    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.is_kept = False

    def keep(self) -> None:
        self.is_kept = True

    def drop(self) -> None:
        self.is_kept = False


class S3Objects:
    """Objects below one prefix of a bucket. What obstore cannot ask goes by `session`, open as long as this is."""

    def __init__(self, store: S3Store, signer: Signer, session: aiohttp.ClientSession) -> None:
        self._store = store
        self._places = asyncio.Semaphore(_UPLOADS_AT_ONCE)
        self._places_of: WeakValueDictionary[UserName, asyncio.Semaphore] = WeakValueDictionary()
        self._signer = signer
        self._session = session

    @asynccontextmanager
    async def arriving(
        self, name: ObjectName, source: Source, *, limit_bytes: int, expected: Digest | None, admit: Admit
    ) -> AsyncIterator[Arrival]:
        incoming = _Incoming(source, limit_bytes, admit)
        try:
            etag = await self._write(name, incoming.parts())
        except (BaseError, FileNotFoundError) as error:
            raise _away(error) from error
        arrival = _S3Arrival(Facts(incoming.size_bytes, incoming.digest, etag))
        try:
            if expected is not None and incoming.digest != expected:
                raise Rejected(
                    ProblemCode.DIGEST_MISMATCH,
                    f"the bytes that arrived have {incoming.digest}, announced was {expected}: send again",
                )
            yield arrival
        finally:
            if not arrival.is_kept:
                await self.remove(name)

    @asynccontextmanager
    async def adopting(self, name: ObjectName, proved: Path, facts: Facts) -> AsyncIterator[Arrival]:
        async with self.arriving(
            name, Chunks(_read(proved)), limit_bytes=facts.size_bytes, expected=facts.digest, admit=_admitted
        ) as arrival:
            yield arrival

    async def remove(self, name: ObjectName) -> None:
        try:
            async with asyncio.timeout(_CALL_S):
                await obstore.delete_async(self._store, key_of(name))
        except FileNotFoundError:
            return
        except _FAULTS as error:
            log.warning("object_not_removed", key=key_of(name), reason=_reason(error))

    def location(self, name: ObjectName) -> None:  # noqa: ARG002 # none of them is on this disk
        return None

    async def find(self, name: ObjectName) -> Facts | None:
        """Return what S3 verified of an object that was written by one PUT; None when it is not there.

        Raises:
            Unavailable: S3 does not tell.
        """
        try:
            return await self._head(key_of(name))
        except _FAULTS as error:
            raise _away(error) from error

    async def listed(self) -> AsyncIterator[list[ObjectName]]:
        """Yield pages of the objects that are older than a day, those that nobody may name among them.

        Raises:
            Unavailable: S3 does not tell.
        """
        before = datetime.now(UTC) - _ORPHANED
        try:
            async for page in obstore.list(self._store):
                names = [_name_of(each["path"]) for each in page if each["last_modified"] < before]
                yield [name for name in names if name is not None]
        except BaseError as error:
            raise _away(error) from error

    async def check(self) -> None:
        """Write an object as a guest would, ask after it, and remove it.

        Raises:
            BadBucket: this fails, or S3 does not verify what it is sent.
        """
        key = f".probe-{secrets.token_hex(8)}"
        digest = Digest(f"sha256:{hashlib.sha256(_PROBE).hexdigest()}")
        try:
            async with asyncio.timeout(_CALL_S):
                # Who may not list a bucket is answered 403 for what is not there.
                await self._head(key)
                await anext(aiter(obstore.list(self._store, chunk_size=1)), None)
                status = await self._put(key, digest, bytes(len(_PROBE)))
                if status < HTTPStatus.BAD_REQUEST:
                    await obstore.delete_async(self._store, key)
                    raise BadBucket("it takes bytes that have not the SHA-256 which was signed for them")
                await self._check_written(key, digest)
        except _FAULTS as error:
            raise BadBucket(f"it cannot be reached, or not listed: {_reason(error)}") from error

    async def claim(self, owner: str) -> None:
        """Note in the bucket whose it is: who sweeps it removes what no record of theirs names.

        Raises:
            BadBucket: it is another's already, or does not answer.
        """
        try:
            async with asyncio.timeout(_CALL_S):
                try:
                    there = bytes(await (await obstore.get_async(self._store, _OWNER)).bytes_async()).decode(
                        errors="replace"
                    )
                except FileNotFoundError:
                    await obstore.put_async(self._store, _OWNER, owner.encode(), use_multipart=False)
                    return
        except _FAULTS as error:
            raise BadBucket(f"it does not tell whose it is: {_reason(error)}") from error
        if there != owner:
            raise BadBucket(
                "another broker, or another data folder, keeps its files there: give each a prefix of its own, or, if "
                f"that one is gone for good with its records, remove the object {_OWNER}"
            )

    async def _check_written(self, key: str, digest: Digest) -> None:
        status = await self._put(key, digest, _PROBE)
        if status >= HTTPStatus.BAD_REQUEST:
            raise BadBucket(f"it cannot be written: a PUT is answered {status}")
        found = await self._head(key)
        await obstore.delete_async(self._store, key)
        if found is None or found.digest != digest:
            raise BadBucket("it does not tell the SHA-256 of what it was sent (x-amz-checksum-sha256)")

    async def _put(self, key: str, digest: Digest, content: bytes) -> int:
        address = self._signer.put(key, len(_PROBE), digest)
        url = URL(address.url, encoded=True)
        async with self._session.put(url, data=content, headers=address.headers, allow_redirects=False) as answer:
            return answer.status

    async def _write(self, name: ObjectName, parts: AsyncIterator[bytes]) -> str:
        key, first = key_of(name), await anext(parts)
        if len(first) < PART_BYTES:
            put = await obstore.put_async(self._store, key, first, use_multipart=False)
        else:
            own = self._places_of.get(name.user) or asyncio.Semaphore(_OF_ONE_USER)
            self._places_of[name.user] = own
            async with own, self._places:
                put = await obstore.put_async(
                    self._store,
                    key,
                    _chained(first, parts),
                    use_multipart=True,
                    chunk_size=PART_BYTES,
                    max_concurrency=_PARTS_AT_ONCE,
                )
        return put["e_tag"] or ""

    async def _head(self, key: str) -> Facts | None:
        address = self._signer.head(key)
        async with (
            asyncio.timeout(_CALL_S),
            self._session.head(
                URL(address.url, encoded=True), headers=address.headers, allow_redirects=False
            ) as answer,
        ):
            if answer.status == HTTPStatus.NOT_FOUND:
                return None
            if answer.status != HTTPStatus.OK:
                raise aiohttp.ClientError(f"a HEAD is answered {answer.status}")
            digest = _digest_of(answer.headers.get("x-amz-checksum-sha256", ""))
            size_bytes = int(answer.headers.get("Content-Length", "-1"))
            return Facts(size_bytes, digest, answer.headers.get("ETag", ""))


def key_of(name: ObjectName) -> str:
    """Return an object's key below the prefix. Both of its parts and the user's name are plain letters in every S3."""
    return f"{name.user}/{name.file}/{name.object_id}"


def _name_of(key: str) -> ObjectName | None:
    """Read a key of the broker's own; None of any other, which is somebody else's and stays."""
    match = _KEY.fullmatch(key)
    return ObjectName(UserName(match[1]), match[2], match[3]) if match else None


def _digest_of(field: str) -> Digest:
    """Read a checksum; that of an object in parts, or none, becomes a digest that no bytes have."""
    try:
        return Digest(f"sha256:{base64.b64decode(field, validate=True).hex()}")
    except ValueError:
        return Digest("sha256:")


async def _chained(first: bytes, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for part in parts:
        if part:
            yield part


async def _read(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while block := await asyncio.to_thread(file.read, _BLOCK_BYTES):
            yield block


async def _admitted(_: int) -> None:
    """Stand where a user's room is taken, which was done."""


def _reason(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientResponseError):
        # Its text has the signed address. Only one that is no HTTP comes as such an error.
        return "its answer cannot be read as HTTP"
    # obstore's text goes on for pages, with its innards.
    return str(error).partition("\n")[0][:300] or type(error).__name__


def _away(error: BaseException) -> Unavailable:
    log.warning("bucket_away", reason=_reason(error))
    return Unavailable(
        ProblemCode.STORE_UNAVAILABLE, "the bucket of the broker's files does not answer: try again", retry_after_s=10
    )
