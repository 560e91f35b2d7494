"""What a stream's S3 says of outputs that a guest claims to have put there: asked before a result is accepted."""

import asyncio
from collections.abc import Sequence

import structlog

from broker.auth.s3_urls import S3Urls, checksum_of
from broker.client.errors import Unreachable
from broker.client.outgoing import Answer, Bounds
from broker.domain.errors import Conflict, Unavailable
from broker.domain.targets import S3_SCHEME, bucket_and_key, scheme_of
from broker.http.call import Services
from broker.http.handing_out import withhold
from broker.http.s3_signing import NoS3Keys, signer
from broker.store import Claimed
from broker.wire.items import OutputFile
from broker.wire.names import check_digest
from broker.wire.problems import ProblemCode

_AT_ONCE = 32
"""A thousand outputs are looked at in time where an answer takes most of a second."""
_ALL_S = 30.0
_LATE = "the stream's S3 did not tell of its outputs in time: try again"
_ONE = Bounds(size_bytes=4_096, total_s=10.0)
_LIFE_S = 60
_FOUND, _NOT_FOUND = 200, 404
_SERVER_ERROR = 500

log = structlog.get_logger(__name__)


def unverified(detail: str) -> Conflict:
    return Conflict(ProblemCode.OUTPUT_NOT_VERIFIED, detail)


async def verify_in_s3(services: Services, claimed: Claimed, outputs: Sequence[OutputFile]) -> None:
    """Ask the bucket for size and checksum of those outputs that are in it.

    What it does not tell is not verified: a checksum that it did not keep, an object that these keys may not read, a
    bucket that the operator does not let the broker reach.

    Raises:
        Conflict: OUTPUT_NOT_VERIFIED: the object is not there, or another one. SECRET_WITHHELD: the keys are gone.
        Unavailable: the bucket did not answer; repeat it.
    """
    wanted = [output for output in outputs if scheme_of(output.url) == S3_SCHEME]
    if not wanted or claimed.spec.s3 is None:
        return
    try:
        urls = await signer(services, claimed.item.ref.stream.user, claimed.spec.s3)
    except NoS3Keys as error:
        await withhold(services, claimed, f"its stream's S3 cannot be used: {error}")
    turns = asyncio.Semaphore(_AT_ONCE)

    async def look(output: OutputFile) -> None:
        async with turns:
            await _look(services, urls, output)

    try:
        async with asyncio.timeout(_ALL_S), asyncio.TaskGroup() as group:
            for output in wanted:
                group.create_task(look(output))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    except TimeoutError as error:
        raise Unavailable(ProblemCode.STORE_UNAVAILABLE, _LATE) from error


async def _look(services: Services, urls: S3Urls, output: OutputFile) -> None:
    signed = urls.sign_head(*bucket_and_key(output.url), life_s=_LIFE_S)
    try:
        answer = await services.outgoing.head(signed.url, headers=signed.headers, bounds=_ONE)
    except Unreachable as error:
        if error.is_lasting:
            log.info("output_not_looked_at", url=output.url, reason=str(error))
            return
        raise Unavailable(ProblemCode.STORE_UNAVAILABLE, _LATE) from error
    _compare(answer, output)


def _compare(answer: Answer, output: OutputFile) -> None:
    if answer.status == _NOT_FOUND:
        raise unverified(f"{output.name!r} was not uploaded to {output.url}")
    if answer.status >= _SERVER_ERROR:
        raise Unavailable(ProblemCode.STORE_UNAVAILABLE, f"the S3 of {output.url} answers {answer.status}: try again")
    if answer.status != _FOUND:
        log.info("output_not_looked_at", url=output.url, status=answer.status)
        return
    if answer.headers.get("Content-Length") != str(output.size_bytes):
        raise unverified(f"{output.name!r} at {output.url} has another size than {output.size_bytes} bytes")
    checksum = answer.headers.get("x-amz-checksum-sha256")
    # One of an object that was put in parts is of the parts' checksums, and has their count behind a dash.
    if checksum is not None and "-" not in checksum and checksum != checksum_of(check_digest(output.digest)):
        raise unverified(f"{output.name!r} at {output.url} has another digest than {output.digest}")
