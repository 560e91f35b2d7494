"""Bytes in and out: the input fetched, the outputs put, each try with an address signed just before.

A put is create-only, so its repetition may meet the file that an earlier try had already written. The digest tells,
where the server gives it; where it does not, the target is this run's alone: only an earlier try can have written it.
Source: RFC 9530 (Repr-Digest), RFC 9110 section 13.1.2 (If-None-Match).
"""

import asyncio
import base64
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from broker.client.errors import CallError, shown_address
from broker.client.lease import LeaseClient
from broker.client.session import ONCE, ApiError, Patience, Session
from broker.wire.items import OutputFile
from broker.wire.leases import ClaimAnswer, SignedUrl, UrlsAnswer
from broker.wire.states import FailureCode
from guest.steps.failure import StepFailed
from guest.steps.outputs import Output
from guest.steps.repetition import answered, is_passing, repeated

CHUNK_BYTES = 262_144
FETCH_PATIENCE = Patience(attempts=8, total_s=600.0, first_delay_s=0.5, max_delay_s=60.0)
UPLOAD_PATIENCE = Patience(attempts=30, total_s=86_400.0, first_delay_s=0.5, max_delay_s=60.0)
"""Longer than for the input: there is work to lose."""
SIGNING_PATIENCE = Patience(attempts=100_000, total_s=86_400.0)
"""A broker that is away is waited for; the run limit is what ends it."""
MAX_REFRESHES = 3
"""How often a 403 is taken for an address that grew old."""


@dataclass(frozen=True, slots=True)
class Fetched:
    path: Path
    size_bytes: int
    digest: str


class ContentDiffers(CallError):
    """What arrived is not what the server said it sends; another try may help."""


class Transfers:
    """The transfers of one lease; the caller bounds the whole by the run limit."""

    def __init__(
        self,
        session: Session,
        client: LeaseClient,
        claimed: ClaimAnswer,
        *,
        fetch_patience: Patience = FETCH_PATIENCE,
        upload_patience: Patience = UPLOAD_PATIENCE,
    ) -> None:
        self._session = session
        self._client = client
        self._claimed = claimed
        self._fetch_patience = fetch_patience
        self._upload_patience = upload_patience

    async def fetch_input(self, path: Path) -> Fetched:
        """Stream the input to `path`.

        Raises:
            StepFailed: with the sentence that the researcher reads.
            CallError: the broker refused to sign an address, or stayed away.
        """
        given = self._claimed.input
        assert given is not None

        async def once() -> Fetched:
            return await self._download(await self._signed_input(), path)

        try:
            return await repeated(once, self._fetch_patience, _Judge())
        except CallError as error:
            raise StepFailed(FailureCode.INPUT_UNAVAILABLE, _fetch_sentence(given.url, error)) from error
        except OSError as error:
            raise StepFailed(
                FailureCode.INPUT_UNAVAILABLE, f"the input cannot be written to the vm's disk: {error.strerror}"
            ) from error

    async def put_output(self, output: Output) -> OutputFile:
        """Upload one file, create-only.

        Raises:
            StepFailed: it could not be uploaded.
        """
        digest = await asyncio.to_thread(output.sha256)
        has_tried = False

        async def once() -> str:
            nonlocal has_tried
            signed = await self._signed_output(output.name)
            may_be_ours, has_tried = has_tried, True
            await self._upload(signed, output, digest, may_be_ours=may_be_ours)
            return signed.target

        try:
            target = await repeated(once, self._upload_patience, _Judge())
        except CallError as error:
            raise StepFailed(
                FailureCode.UPLOAD_FAILED, f"the output {output.name} could not be uploaded: {error}"
            ) from error
        return OutputFile(name=output.name, size_bytes=output.size_bytes, digest=f"sha256:{digest.hex()}", url=target)

    async def _signed_input(self) -> SignedUrl:
        try:
            signed = (await self._urls([])).input
        except CallError as error:
            raise StepFailed(
                FailureCode.INPUT_UNAVAILABLE, f"the broker gave no address for the input: {error}"
            ) from error
        if signed is None:
            raise StepFailed(FailureCode.INPUT_UNAVAILABLE, "the broker gave no address for the input")
        return signed

    async def _signed_output(self, name: str) -> SignedUrl:
        try:
            answer = await self._urls([name])
        except CallError as error:
            raise StepFailed(
                FailureCode.UPLOAD_FAILED, f"the broker gave no address for the output {name}: {error}"
            ) from error
        if name not in answer.outputs:
            raise StepFailed(FailureCode.UPLOAD_FAILED, f"the broker gave no address for the output {name}")
        return answer.outputs[name]

    async def _urls(self, outputs: list[str]) -> UrlsAnswer:
        return await answered(lambda: self._client.urls(self._claimed.lease, outputs, patience=ONCE), SIGNING_PATIENCE)

    async def _download(self, signed: SignedUrl, path: Path) -> Fetched:
        hasher, size_bytes = hashlib.sha256(), 0
        async with self._session.open(signed.method, signed.url, headers=signed.headers) as response:
            expected = _sha256_of(response.headers)
            with path.open("wb") as file:
                async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                    file.write(chunk)
                    hasher.update(chunk)
                    size_bytes += len(chunk)
        if expected is not None and expected != hasher.digest():
            raise ContentDiffers("the bytes that arrived do not match the digest that came with them")
        return Fetched(path, size_bytes, f"sha256:{hasher.hexdigest()}")

    async def _upload(self, signed: SignedUrl, output: Output, digest: bytes, *, may_be_ours: bool) -> None:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(output.size_bytes),
            "Repr-Digest": f"sha-256=:{base64.b64encode(digest).decode()}:",
            "If-None-Match": "*",
            **signed.headers,
        }
        descriptor = os.open(output.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            try:
                async with self._session.open(signed.method, signed.url, data=file, headers=headers):
                    return
            except ApiError as error:
                if error.status != HTTPStatus.PRECONDITION_FAILED:
                    raise
                there = await self._digest_there(signed)
                if there != digest and not (there is None and may_be_ours):
                    raise

    async def _digest_there(self, signed: SignedUrl) -> bytes | None:
        """Ask for the digest of what is there already; None when the address does not tell."""
        try:
            async with self._session.open("HEAD", signed.url, headers=signed.headers) as response:
                return _sha256_of(response.headers)
        except ApiError:
            return None


class _Judge:
    """Tells of one transfer whether to try it again; a 403 only a few times."""

    def __init__(self) -> None:
        self._refreshes = 0

    def __call__(self, error: CallError) -> bool:
        if isinstance(error, ApiError) and error.status == HTTPStatus.FORBIDDEN:
            self._refreshes += 1
            return self._refreshes <= MAX_REFRESHES
        return isinstance(error, ContentDiffers) or is_passing(error)


def _fetch_sentence(address: str, error: CallError) -> str:
    shown = shown_address(address)
    if isinstance(error, ApiError):
        return f"the input {shown} answered {error.status} {error.reason}".rstrip()
    return f"the input {shown} could not be fetched: {error}"


def _sha256_of(headers: Mapping[str, str]) -> bytes | None:
    """Read the SHA-256 of a `Repr-Digest` field, None without one."""
    for part in headers.get("Repr-Digest", "").split(","):
        name, _, value = part.strip().partition("=")
        if name == "sha-256" and value.startswith(":") and value.endswith(":"):
            try:
                return base64.b64decode(value.strip(":"), validate=True)
            except ValueError:
                return None
    return None
