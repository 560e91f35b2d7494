"""Bytes in and out: the inputs fetched, the outputs put, each try with an address signed just before.

An input that was cut goes on where it was. An output begins anew, and a large one is announced before it is sent.

A put is create-only, so its repetition may meet the file that an earlier try had already written. The digest tells,
where the server gives it; where it does not, the target is this run's alone: only an earlier try can have written it.
Source: RFC 9530 (Repr-Digest), RFC 9110 section 13.1.2 (If-None-Match).
"""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from broker.client.download import Download
from broker.client.errors import CallError, shown_address
from broker.client.lease import LeaseClient
from broker.client.repetition import answered, repeated
from broker.client.session import ONCE, ApiError, Patience, Session
from broker.client.transfer import RepeatJudge, Sending, Upload, put
from broker.wire.leases import ClaimAnswer, SignedUrl, UploadFacts, UrlsAnswer
from broker.wire.states import FailureCode
from guest.steps.carrier import Delivered, Fetched
from guest.steps.failure import StepFailed
from guest.steps.outputs import Output
from guest.steps.plugins import Plugins
from guest.steps.secrets import Secrets

FETCH_PATIENCE = Patience(attempts=8, total_s=600.0, first_delay_s=0.5, max_delay_s=60.0)
UPLOAD_PATIENCE = Patience(attempts=30, total_s=86_400.0, first_delay_s=0.5, max_delay_s=60.0)
"""Longer than for the input: there is work to lose."""
SIGNING_PATIENCE = Patience(attempts=100_000, total_s=86_400.0)
"""A broker that is away is waited for; the run limit is what ends it."""
_UNITS = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))


class Transfers:
    """The transfers of one lease; the caller bounds the whole by the run limit."""

    def __init__(
        self,
        session: Session,
        client: LeaseClient,
        claimed: ClaimAnswer,
        secrets: Secrets,
        plugins: Plugins,
        *,
        fetch_patience: Patience = FETCH_PATIENCE,
        upload_patience: Patience = UPLOAD_PATIENCE,
    ) -> None:
        self._session = session
        self._client = client
        self._claimed = claimed
        self._secrets = secrets
        self._plugins = plugins
        self._fetch_patience = fetch_patience
        self._upload_patience = upload_patience
        self._downloads: list[Download] = []
        self._uploads: list[tuple[Sending, int]] = []

    async def fetch_input(self, path: Path, name: str = "") -> Fetched:
        """Stream the input, or the further one of that name, to `path`.

        Raises:
            StepFailed: with the sentence that the researcher reads.
            CallError: the broker refused to sign an address, or stayed away.
        """
        given = self._claimed.inputs[name] if name else self._claimed.input
        assert given is not None
        download = Download(path)
        self._downloads.append(download)

        async def once() -> Fetched:
            signed = await self._signed_input(name)
            if self._plugins.have(signed.url):
                return await self._plugins.fetch(signed, path)
            facts = await download.go_on(self._session, signed)
            return Fetched(path, facts.size_bytes, facts.digest)

        try:
            return await repeated(once, self._fetch_patience, RepeatJudge(), lambda: download.arrived_bytes)
        except CallError as error:
            raise StepFailed(FailureCode.INPUT_UNAVAILABLE, _fetch_sentence(name, given.url, error)) from error
        except OSError as error:
            raise StepFailed(
                FailureCode.INPUT_UNAVAILABLE, f"{_called(name)} cannot be written to the vm's disk: {error.strerror}"
            ) from error

    async def put_output(self, output: Output) -> Delivered:
        """Upload one file, create-only.

        Raises:
            StepFailed: it could not be uploaded.
        """
        try:
            digest = await asyncio.to_thread(output.sha256)
        except OSError as error:
            raise _unreadable(output, error) from error
        has_tried, sending = False, Sending()
        self._uploads.append((sending, output.size_bytes))

        async def once() -> str:
            nonlocal has_tried
            signed = await self._signed_output(output, digest)
            may_be_ours, has_tried = has_tried, True
            await self._upload(signed, output, digest, may_be_ours=may_be_ours, sending=sending)
            return signed.target

        try:
            target = await repeated(once, self._upload_patience, RepeatJudge())
        except CallError as error:
            raise StepFailed(
                FailureCode.UPLOAD_FAILED, f"the output {output.name} could not be uploaded: {error}"
            ) from error
        except OSError as error:
            raise _unreadable(output, error) from error
        return Delivered(output.name, output.size_bytes, f"sha256:{digest.hex()}", target)

    def progress(self) -> str:
        """Tell how far the outputs have come, or else the inputs."""
        if self._uploads:
            return _how_far(
                sum(sending.sent_bytes for sending, _ in self._uploads), sum(size for _, size in self._uploads)
            )
        totals = [download.total_bytes for download in self._downloads]
        known = [total for total in totals if total is not None]
        arrived_bytes = sum(download.arrived_bytes for download in self._downloads)
        return _how_far(arrived_bytes, sum(known) if len(known) == len(totals) else None)

    async def _signed_input(self, name: str) -> SignedUrl:
        try:
            answer = await self._urls({})
        except CallError as error:
            raise StepFailed(
                FailureCode.INPUT_UNAVAILABLE, f"the broker gave no address for {_called(name)}: {error}"
            ) from error
        signed = answer.inputs.get(name) if name else answer.input
        if signed is None:
            raise StepFailed(FailureCode.INPUT_UNAVAILABLE, f"the broker gave no address for {_called(name)}")
        return signed

    async def _signed_output(self, output: Output, digest: bytes) -> SignedUrl:
        name, facts = output.name, UploadFacts(size_bytes=output.size_bytes, digest=f"sha256:{digest.hex()}")
        try:
            answer = await self._urls({name: facts})
        except CallError as error:
            raise StepFailed(
                FailureCode.UPLOAD_FAILED, f"the broker gave no address for the output {name}: {error}"
            ) from error
        if name not in answer.outputs:
            raise StepFailed(FailureCode.UPLOAD_FAILED, f"the broker gave no address for the output {name}")
        return answer.outputs[name]

    async def _urls(self, uploads: Mapping[str, UploadFacts]) -> UrlsAnswer:
        lease, outputs = self._claimed.lease, list(uploads)
        answer = await answered(
            lambda: self._client.urls(lease, outputs, self._secrets.versions, uploads=uploads, patience=ONCE),
            SIGNING_PATIENCE,
        )
        self._secrets.take(answer.secrets)
        return answer

    async def _upload(
        self, signed: SignedUrl, output: Output, digest: bytes, *, may_be_ours: bool, sending: Sending
    ) -> None:
        if self._plugins.have(signed.url):
            await self._plugins.put(signed, output.path)
            return
        descriptor = os.open(output.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            upload = Upload(file, output.size_bytes, digest)
            await put(self._session, signed, upload, may_be_ours=may_be_ours, sending=sending)


def _unreadable(output: Output, error: OSError) -> StepFailed:
    """Say so where something of the program's that still runs took its output away."""
    sentence = f"the output {output.name} cannot be read: {error.strerror or error}"
    return StepFailed(FailureCode.OUTPUT_REFUSED, sentence)


def _called(name: str) -> str:
    return f"the input {name}" if name else "the input"


def _fetch_sentence(name: str, address: str, error: CallError) -> str:
    shown = f"{_called(name)} {shown_address(address)}"
    if isinstance(error, ApiError):
        return f"{shown} answered {error.status} {error.reason}".rstrip()
    return f"{shown} could not be fetched: {error}"


def _how_far(done_bytes: int, total_bytes: int | None) -> str:
    """Write both in the unit of the larger, as `1.2 of 3.0 GiB`; nothing before the first byte."""
    if not done_bytes:
        return ""
    largest = max(done_bytes, total_bytes or 0)
    unit, size = next(((unit, size) for unit, size in _UNITS if largest >= size), ("bytes", 1))
    done, total = (f"{count / size:.{1 if size > 1 else 0}f}" for count in (done_bytes, total_bytes or 0))
    return f"{done} {unit}" if total_bytes is None else f"{done} of {total} {unit}"
