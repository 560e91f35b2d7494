"""One HTTP session with a broker.

Every request of this API may be repeated: reads by nature, the others by a name or a key that their sender makes. So a
lost connection, and an answer that says "later", are tried again with jittered back-off, bounded in number and time.
"""

import asyncio
import io
import random
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import aiohttp
import msgspec
from yarl import URL

from broker.client.errors import (
    ApiError,
    CallError,
    Unreachable,
    error_of,
    may_help_to_repeat,
    read_bounded,
    shown_address,
    shown_url,
    synthetic_problem,
    translated,
)
from broker.client.expecting import ExpectingRequest

__all__ = ["ONCE", "ApiError", "CallError", "Patience", "Reply", "Session", "Unreachable"]

T = TypeVar("T")

MAX_ANSWER_BYTES = 64 * 1024 * 1024
CONNECT_TIMEOUT_S = 15.0
MAX_RETRY_AFTER_S = 60.0
MAX_REDIRECTS = 9
_LARGE_BYTES = 1_048_576
_UNAUTHENTICATED = 401


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a call is repeated: at most `attempts` times and not beyond `total_s` from its start."""

    attempts: int = 6
    total_s: float = 60.0
    first_delay_s: float = 0.25
    max_delay_s: float = 10.0

    def delay_s(self, attempt: int, retry_after_s: float | None) -> float:
        """Wait before attempt number `attempt + 1`: at least what the server asked, else exponential with jitter."""
        backoff_s = min(self.max_delay_s, self.first_delay_s * 2.0 ** min(attempt - 1, 30))
        jittered_s = backoff_s * random.uniform(0.5, 1.0)  # noqa: S311 # spreads load, keeps no secret
        return max(jittered_s, min(retry_after_s or 0.0, MAX_RETRY_AFTER_S))


ONCE = Patience(attempts=1)


class Reply(NamedTuple):
    """An answer below 400. `request_id` is the broker's `X-Request-Id`, empty when it gave none."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    request_id: str


class TokenSource(Protocol):
    """Where a session has its token from, when that changes while it is used."""

    async def token(self) -> str:
        """Return the token to show now."""

    async def renewed(self, refused: str) -> str:
        """Return another one than the one that the broker refused."""


class Session:
    """Calls one broker; use it as an async context manager.

    `token` is sent to the broker's own origin and nowhere else; one that is renewed is tried anew, once, when the
    broker refuses it. `ca_pem` is trusted besides the system's authorities;
    certificates are always verified. `proxy` may carry its credentials: `http://user:password@10.0.2.2:3128`.
    `make_connector`, called inside the running loop, decides where connections may go; redirects are followed at most
    `redirects` times, each through it.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | TokenSource | None = None,
        ca_pem: str | None = None,
        proxy: str | None = None,
        patience: Patience | None = None,
        make_connector: Callable[[], aiohttp.BaseConnector] | None = None,
        redirects: int = MAX_REDIRECTS,
    ) -> None:
        self._base_url = URL(base_url.rstrip("/"))
        if self._base_url.scheme not in {"http", "https"} or not self._base_url.host:
            raise ValueError(f"{base_url!r} is no broker's address: write http://HOST:PORT or https://HOST")
        self._token = token
        self._ca_pem = ca_pem
        self._proxy = proxy
        self._patience = patience or Patience()
        self._make_connector = make_connector
        self._redirects = redirects
        self._tls: ssl.SSLContext | None = None
        self._http: aiohttp.ClientSession | None = None

    @property
    def base_url(self) -> str:
        return str(self._base_url)

    @property
    def redirects(self) -> int:
        return self._redirects

    async def __aenter__(self) -> Self:
        connector = None if self._make_connector is None else self._make_connector()
        self._http = aiohttp.ClientSession(
            connector=connector, proxy=self._proxy, cookie_jar=aiohttp.DummyCookieJar(), request_class=ExpectingRequest
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.close()

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: msgspec.Struct | None = None,
        answer: type[T],
        timeout_s: float = 30.0,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        token: str | None = None,
        patience: Patience | None = None,
    ) -> T:
        """Call the broker and decode its answer; repeats as `send` does.

        Raises:
            ApiError: the broker refused; show the sentence.
            Unreachable: no answer came within the patience.
        """
        content = None if body is None else msgspec.json.encode(body)
        reply = await self.send(
            method,
            path,
            body=content,
            timeout_s=timeout_s,
            headers=headers,
            query=query,
            token=token,
            patience=patience,
        )
        try:
            return msgspec.json.decode(reply.body, type=answer)
        except msgspec.DecodeError as error:
            raise ApiError(
                synthetic_problem(
                    502, f"{method} {self._shown(path)} was answered with something this client cannot read: {error}"
                )
            ) from error

    async def send(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        timeout_s: float = 30.0,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        token: str | None = None,
        patience: Patience | None = None,
    ) -> Reply:
        """Send one request until it is answered or the patience is at its end; `timeout_s` bounds each attempt.

        The body is JSON unless `headers` say otherwise.

        Raises:
            ApiError: the last answer was an error.
            Unreachable: the last attempt got no answer.
        """
        patience = patience or self._patience
        sent_headers = {"Content-Type": "application/json"} if body is not None else {}
        sent_headers.update(headers or {})
        started_at_s = time.monotonic()
        may_renew = token is None
        token = token or await self._own_token()
        for attempt in range(1, patience.attempts + 1):
            try:
                try:
                    return await self._attempt(method, path, body, timeout_s, sent_headers, query, token)
                except ApiError as error:
                    if not may_renew or token is None or (new := await self._renewed(error, token)) is None:
                        raise
                    token, may_renew = new, False
                    return await self._attempt(method, path, body, timeout_s, sent_headers, query, token)
            except CallError as error:
                delay_s = patience.delay_s(attempt, _retry_after_s(error))
                is_too_late = time.monotonic() - started_at_s + delay_s > patience.total_s
                if attempt == patience.attempts or is_too_late or not may_help_to_repeat(error):
                    raise
            await asyncio.sleep(delay_s)
        raise AssertionError("a patience has at least one attempt")

    @asynccontextmanager
    async def open(
        self,
        method: str,
        url: str,
        *,
        data: Any = None,  # whatever aiohttp can send: bytes, a file, an async iterator
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        token: str | None = None,
        idle_timeout_s: float = 60.0,
        is_bare: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send one request, once, and give its answer for streaming; `url` is a path of the broker or absolute.

        Losing the connection while the answer is read is translated too. `idle_timeout_s` bounds the silence between
        two reads; the whole is for the caller to bound. `is_bare`: nothing of the session's own goes along, no
        redirect is followed (the caller gets it), and the bytes are as they came, whatever their `Content-Encoding`.

        Raises:
            ApiError: the answer's status is 400 or above.
            Unreachable: no answer, or the connection broke.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=idle_timeout_s)
        sent_headers = {"Accept-Encoding": "identity", **(headers or {})}
        token = None if is_bare else token or await self._own_token()
        async with self._request(method, url, data, timeout, sent_headers, query, token, is_bare=is_bare) as response:
            yield response

    async def _own_token(self) -> str | None:
        return self._token if self._token is None or isinstance(self._token, str) else await self._token.token()

    async def _renewed(self, error: ApiError, refused: str) -> str | None:
        """Return another token than the session's own that was refused, or None when there is none."""
        if error.status != _UNAUTHENTICATED or self._token is None or isinstance(self._token, str):
            return None
        return await self._token.renewed(refused)

    async def _attempt(
        self,
        method: str,
        path: str,
        body: bytes | None,
        timeout_s: float,
        headers: Mapping[str, str],
        query: Mapping[str, str] | None,
        token: str | None,
    ) -> Reply:
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(timeout_s, CONNECT_TIMEOUT_S))
        try:
            async with self._request(method, path, _to_send(body), timeout, headers, query, token) as response:
                content = await read_bounded(response, MAX_ANSWER_BYTES)
                return Reply(response.status, content, response.headers, response.headers.get("X-Request-Id", ""))
        except TimeoutError as error:
            raise Unreachable(f"{self._shown(path)} did not answer in time") from error

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        url: str,
        data: Any,
        timeout: aiohttp.ClientTimeout,
        headers: Mapping[str, str],
        query: Mapping[str, str] | None,
        token: str | None,
        *,
        is_bare: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._http is None:
            raise RuntimeError("a Session is used inside `async with`")
        target = self._resolve(url)
        sent_headers = dict(headers)
        if token and target.origin() == self._base_url.origin():
            sent_headers["Authorization"] = f"Bearer {token}"
        try:
            async with self._http.request(
                method,
                target,
                data=data,
                headers=sent_headers,
                params=query,
                timeout=timeout,
                allow_redirects=self._redirects > 0 and not is_bare,
                max_redirects=self._redirects + 1,
                auto_decompress=not is_bare,
                ssl=self._tls_context() if target.scheme == "https" else True,
            ) as response:
                if response.status >= 400:
                    raise await error_of(response)
                yield response
        except aiohttp.ClientError as error:
            raise translated(error, target) from error

    def _resolve(self, url: str) -> URL:
        if url.startswith("/"):
            return URL(f"{self._base_url}{url}")
        try:
            # A signature covers the address byte by byte: what is quoted already must not be quoted anew.
            target = URL(url, encoded=url.isascii() and url.isprintable() and " " not in url)
        except ValueError as error:
            raise Unreachable(f"{shown_address(url)!r} is no address: {error}", is_lasting=True) from error
        if target.scheme not in {"http", "https"} or not target.host:
            raise Unreachable(f"{shown_url(target)!r} is no http or https address", is_lasting=True)
        return target

    def _shown(self, path: str) -> str:
        return shown_url(self._resolve(path))

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            if self._ca_pem:
                self._tls.load_verify_locations(cadata=self._ca_pem)
        return self._tls


def _to_send(body: bytes | None) -> bytes | io.BytesIO | None:
    """Return the body as aiohttp wants it: what is large is written in pieces, between which the loop goes on."""
    return io.BytesIO(body) if body is not None and len(body) > _LARGE_BYTES else body


def _retry_after_s(error: CallError) -> float | None:
    if isinstance(error, ApiError) and error.problem.retry_after_s is not None:
        return float(error.problem.retry_after_s)
    return None
