"""Bytes in and out: the input fetched, the outputs put, each try with an address signed just before.

A put is create-only, so its repetition may meet the file that an earlier try had already written. The digest tells,
where the server gives it; where it does not, the target is this run's alone: only an earlier try can have written it.
Source: RFC 9530 (Repr-Digest), RFC 9110 section 13.1.2 (If-None-Match).
"""

import asyncio
import os
from pathlib import Path

from broker.client.errors import CallError, shown_address
from broker.client.lease import LeaseClient
from broker.client.repetition import answered, repeated
from broker.client.session import ONCE, ApiError, Patience, Session
from broker.client.transfer import RepeatJudge, Upload, fetch, put
from broker.wire.leases import ClaimAnswer, SignedUrl, UploadFacts, UrlsAnswer
from broker.wire.states import FailureCode
from guest.steps.carrier import Delivered, Fetched
from guest.steps.failure import StepFailed
from guest.steps.outputs import Output
from guest.steps.secrets import Secrets

FETCH_PATIENCE = Patience(attempts=8, total_s=600.0, first_delay_s=0.5, max_delay_s=60.0)
UPLOAD_PATIENCE = Patience(attempts=30, total_s=86_400.0, first_delay_s=0.5, max_delay_s=60.0)
"""Longer than for the input: there is work to lose."""
SIGNING_PATIENCE = Patience(attempts=100_000, total_s=86_400.0)
"""A broker that is away is waited for; the run limit is what ends it."""


class Transfers:
    """The transfers of one lease; the caller bounds the whole by the run limit."""

    def __init__(
        self,
        session: Session,
        client: LeaseClient,
        claimed: ClaimAnswer,
        secrets: Secrets,
        *,
        fetch_patience: Patience = FETCH_PATIENCE,
        upload_patience: Patience = UPLOAD_PATIENCE,
    ) -> None:
        self._session = session
        self._client = client
        self._claimed = claimed
        self._secrets = secrets
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
            return await repeated(once, self._fetch_patience, RepeatJudge())
        except CallError as error:
            raise StepFailed(FailureCode.INPUT_UNAVAILABLE, _fetch_sentence(given.url, error)) from error
        except OSError as error:
            raise StepFailed(
                FailureCode.INPUT_UNAVAILABLE, f"the input cannot be written to the vm's disk: {error.strerror}"
            ) from error

    async def put_output(self, output: Output) -> Delivered:
        """Upload one file, create-only.

        Raises:
            StepFailed: it could not be uploaded.
        """
        digest = await asyncio.to_thread(output.sha256)
        has_tried = False

        async def once() -> str:
            nonlocal has_tried
            facts = UploadFacts(size_bytes=output.size_bytes, digest=f"sha256:{digest.hex()}")
            signed = await self._signed_output(output.name, facts)
            may_be_ours, has_tried = has_tried, True
            await self._upload(signed, output, digest, may_be_ours=may_be_ours)
            return signed.target

        try:
            target = await repeated(once, self._upload_patience, RepeatJudge())
        except CallError as error:
            raise StepFailed(
                FailureCode.UPLOAD_FAILED, f"the output {output.name} could not be uploaded: {error}"
            ) from error
        return Delivered(output.name, output.size_bytes, f"sha256:{digest.hex()}", target)

    async def _signed_input(self) -> SignedUrl:
        try:
            signed = (await self._urls({})).input
        except CallError as error:
            raise StepFailed(
                FailureCode.INPUT_UNAVAILABLE, f"the broker gave no address for the input: {error}"
            ) from error
        if signed is None:
            raise StepFailed(FailureCode.INPUT_UNAVAILABLE, "the broker gave no address for the input")
        return signed

    async def _signed_output(self, name: str, facts: UploadFacts) -> SignedUrl:
        try:
            answer = await self._urls({name: facts})
        except CallError as error:
            raise StepFailed(
                FailureCode.UPLOAD_FAILED, f"the broker gave no address for the output {name}: {error}"
            ) from error
        if name not in answer.outputs:
            raise StepFailed(FailureCode.UPLOAD_FAILED, f"the broker gave no address for the output {name}")
        return answer.outputs[name]

    async def _urls(self, uploads: dict[str, UploadFacts]) -> UrlsAnswer:
        lease = self._claimed.lease
        answer = await answered(
            lambda: self._client.urls(lease, list(uploads), self._secrets.versions, uploads=uploads, patience=ONCE),
            SIGNING_PATIENCE,
        )
        self._secrets.take(answer.secrets)
        return answer

    async def _download(self, signed: SignedUrl, path: Path) -> Fetched:
        facts = await fetch(self._session, signed, path)
        return Fetched(path, facts.size_bytes, facts.digest)

    async def _upload(self, signed: SignedUrl, output: Output, digest: bytes, *, may_be_ours: bool) -> None:
        descriptor = os.open(output.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            await put(self._session, signed, Upload(file, output.size_bytes, digest), may_be_ours=may_be_ours)


def _fetch_sentence(address: str, error: CallError) -> str:
    shown = shown_address(address)
    if isinstance(error, ApiError):
        return f"the input {shown} answered {error.status} {error.reason}".rstrip()
    return f"the input {shown} could not be fetched: {error}"
