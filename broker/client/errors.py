"""What can go wrong with a call, and the one place where aiohttp's errors and foreign answers become ours."""

import re
from contextlib import suppress

import aiohttp
import msgspec
from yarl import URL

from broker.wire.problems import MEDIA_TYPE, PROBLEMS, TYPE_PREFIX, Problem, ProblemCode

MAX_PROBLEM_BYTES = 1024 * 1024
RETRIED_STATUSES = frozenset({429, 502, 503, 504})

_S3_CODE = re.compile(rb"<Code>([A-Za-z]{1,64})</Code>")
_MAX_S3_ERROR_BYTES = 65_536

_CODE_OF_STATUS = {kind.status: code for code, kind in reversed(PROBLEMS.items())}


class CallError(Exception):
    """Root of what can go wrong with a call; its text is a sentence for a person."""


class ApiError(CallError):
    """The server answered with an error. A foreign server's answer is given a `problem` of the same status.

    `reason` is the phrase of the answer's status line; `is_brokers` whether the problem is a broker's own words;
    `s3_code` what an S3 server calls its error.
    """

    def __init__(
        self, problem: Problem, reason: str = "", *, is_brokers: bool = False, s3_code: str | None = None
    ) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.reason = reason
        self.is_brokers = is_brokers
        self.s3_code = s3_code

    @property
    def status(self) -> int:
        return self.problem.status

    @property
    def code(self) -> ProblemCode:
        return self.problem.code


class Unreachable(CallError):
    """No answer came, or none that counts; `is_lasting` when trying again cannot help (a certificate, an address)."""

    def __init__(self, sentence: str, *, is_lasting: bool = False) -> None:
        super().__init__(sentence)
        self.is_lasting = is_lasting


class Untrusted(Unreachable):
    """The server's certificate is not vouched for by an authority that is trusted here, or is not this server's."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, is_lasting=True)


def may_help_to_repeat(error: CallError) -> bool:
    """Tell whether the same request may succeed a little later."""
    match error:
        case ApiError():
            return error.status in RETRIED_STATUSES
        case Unreachable():
            return not error.is_lasting
    return False


def translated(error: aiohttp.ClientError, url: URL) -> CallError:
    shown = shown_url(url)
    match error:
        case aiohttp.ClientHttpProxyError():
            return Unreachable(
                f"the proxy refused the way to {shown}: {error.status} {error.message}",
                is_lasting=error.status not in RETRIED_STATUSES,
            )
        case aiohttp.ClientProxyConnectionError():
            return Unreachable(f"the proxy on the way to {shown} cannot be reached: {_reason(error)}")
        case aiohttp.ClientConnectorCertificateError():
            return Untrusted(f"the TLS certificate of {shown} is not accepted: {_tls_reason(error)}")
        case aiohttp.ClientSSLError():
            return Unreachable(
                f"{shown} does not speak TLS as we do: {_tls_reason(error)}; is it an http:// address?", is_lasting=True
            )
        case aiohttp.InvalidURL() | aiohttp.TooManyRedirects() | aiohttp.NonHttpUrlClientError():
            return Unreachable(f"{shown} cannot be called: {type(error).__name__}", is_lasting=True)
        case aiohttp.ClientConnectorError():
            return Unreachable(f"{shown} cannot be reached: {_reason(error)}")
        case aiohttp.ServerTimeoutError():
            return Unreachable(f"{shown} did not answer in time")
        case aiohttp.ClientPayloadError():
            return Unreachable(f"the connection to {shown} broke before the end of its answer")
        case aiohttp.ClientResponseError():
            # Its own text has the address, and with it a signature.
            return Unreachable(f"{shown} answered what cannot be read as HTTP")
    return Unreachable(f"the connection to {shown} broke: {str(error) or type(error).__name__}")


def _reason(error: aiohttp.ClientConnectorError) -> str:
    return error.strerror or str(error.os_error) or type(error.os_error).__name__


def _tls_reason(error: aiohttp.ClientSSLError) -> str:
    """Return OpenSSL's own word, without the name of its source file and of aiohttp's objects."""
    cause = error.certificate_error if isinstance(error, aiohttp.ClientConnectorCertificateError) else error.os_error
    told = getattr(cause, "verify_message", None) or getattr(cause, "reason", None)
    return str(told).lower().replace("_", " ") if told else type(cause).__name__


def shown_url(url: URL) -> str:
    """Return the address without what may be secret in it: credentials, and a signature in the query."""
    return str(url.with_user(None).with_query(None).with_fragment(None)) if url.absolute else str(url.path)


def shown_address(address: str) -> str:
    """Return an address of a person's (`https:`, `file:USER/PATH`) without what may be secret in it."""
    try:
        url = URL(address)
    except ValueError:
        return address.partition("?")[0]
    if url.host:
        return shown_url(url)
    # A file of ours may have a `?` in its name; of any other kind it begins a query.
    return address if address.startswith("file:") else address.partition("?")[0]


async def read_bounded(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > limit_bytes:
            raise Unreachable(
                f"{shown_url(response.url)} answered more than {limit_bytes} bytes, which is refused", is_lasting=True
            )
    return bytes(content)


async def error_of(response: aiohttp.ClientResponse) -> ApiError:
    """Make the error of an answer whose status is 400 or above."""
    reason = response.reason or ""
    text = f"{shown_url(response.url)} answered {response.status} {reason}".rstrip()
    request_id = response.headers.get("X-Request-Id", "")
    retry_after = response.headers.get("Retry-After", "")
    retry_after_s = int(retry_after) if retry_after.isascii() and retry_after.isdigit() else None
    problem = synthetic_problem(response.status, text, request_id, retry_after_s)
    is_brokers = False
    if response.content_type == MEDIA_TYPE:
        content = await read_bounded(response, MAX_PROBLEM_BYTES)
        with suppress(msgspec.DecodeError):
            said = msgspec.json.decode(content, type=Problem)
            problem = msgspec.structs.replace(
                said,
                request_id=said.request_id or request_id,
                retry_after_s=retry_after_s if said.retry_after_s is None else said.retry_after_s,
            )
            is_brokers = True
    s3_code = await _s3_code(response) if response.content_type == "application/xml" else None
    if s3_code is not None:
        reason = f"{reason} ({s3_code})"
    return ApiError(problem, reason, is_brokers=is_brokers, s3_code=s3_code)


async def _s3_code(response: aiohttp.ClientResponse) -> str | None:
    """Read what an S3 server calls its error. Source: "Error responses", Amazon S3 API Reference."""
    try:
        found = _S3_CODE.search(await read_bounded(response, _MAX_S3_ERROR_BYTES))
    except (Unreachable, aiohttp.ClientError):
        return None
    return None if found is None else found[1].decode()


def synthetic_problem(status: int, detail: str, request_id: str = "", retry_after_s: int | None = None) -> Problem:
    fallback = ProblemCode.INTERNAL if status >= 500 else ProblemCode.BAD_REQUEST
    code = _CODE_OF_STATUS.get(status, fallback)
    return Problem(
        type=f"{TYPE_PREFIX}{code.value}",
        title=PROBLEMS[code].title,
        status=status,
        detail=detail,
        code=code,
        request_id=request_id,
        retry_after_s=retry_after_s,
    )
