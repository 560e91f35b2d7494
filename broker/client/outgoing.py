"""The broker's own requests to addresses that users or outsiders have a say in: callbacks, the keys of issuers.

Each is one bounded exchange over TLS with the public Internet; the operator alone can trust an origin to be elsewhere,
or to speak plain HTTP. Certificates are always verified. Nothing is kept between requests but connections: no cookies,
and neither the environment's proxies nor anybody's `.netrc` count. What the other side answered is returned, and is in
no error's text: whoever reads the error may be somebody else.
"""

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, NamedTuple, Self

import aiohttp
from yarl import URL

from broker.client.errors import Unreachable, read_bounded, shown_address, shown_url, translated
from broker.client.guarded import GuardedConnector
from broker.client.judging import Judge, Resolve, resolve_by_system
from broker.client.origins import Origin

CONNECT_LIMIT_S: Final = 5.0
_ADVICE: Final = "only the broker's operator can let it go there, by the setting `outgoing_trusted`"
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_TOLD_WHOLE: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.InvalidURL,
    aiohttp.ServerTimeoutError,
)
"""Errors whose text is ours or the operating system's, and nothing that the other side sent."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one request may take: of its answer's body, of time from its start to the last byte, and of redirects."""

    size_bytes: int = 262_144
    total_s: float = 10.0
    redirects: int = 0


USUAL: Final = Bounds()
_REST_S: Final = 1.0
"""What is left of an answer that nobody looks at is waited for so long, for the connection's sake."""


class Answer(NamedTuple):
    """What was answered, whatever its status, but for redirects. Names of headers are found in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class OutgoingClient:
    """Use it as an async context manager.

    Args:
        trusted: Origins that are reached at whatever address they have, and by plain HTTP where the URL says so.
        ca_pem: Authorities that are trusted besides the system's.
        resolve: How names are resolved.
        connections: So many are open at once; further requests wait, within their bounds.
    """

    def __init__(
        self,
        trusted: Iterable[Origin] = (),
        ca_pem: str | None = None,
        resolve: Resolve = resolve_by_system,
        *,
        connections: int = 100,
    ) -> None:
        self._connections = connections
        self._judge = Judge(trusted, _ADVICE, resolve)
        self._tls = ssl.create_default_context()
        if ca_pem:
            self._tls.load_verify_locations(cadata=ca_pem)
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            connector=GuardedConnector(self._judge, limit=self._connections),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # a small answer that unfolds to a large one stays small
            headers={"Accept-Encoding": "identity", "User-Agent": "vmbroker"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.close()

    async def get(self, url: str, *, headers: Mapping[str, str] | None = None, bounds: Bounds = USUAL) -> Answer:
        """Get what is at an address. Redirects are followed as far as the bounds say, each one judged anew.

        A redirect to another origin takes no `headers` along.

        Raises:
            Unreachable: no answer within the bounds, or none is asked for there; `is_lasting` when trying again
                cannot help.
        """
        return await self._bounded("GET", url, None, headers or {}, bounds)

    async def head(self, url: str, *, headers: Mapping[str, str] | None = None, bounds: Bounds = USUAL) -> Answer:
        """Ask what a `get` would answer, without its body; a redirect is an error.

        Raises:
            Unreachable: as `get`.
        """
        return await self._bounded("HEAD", url, None, headers or {}, Bounds(bounds.size_bytes, bounds.total_s))

    async def post(
        self, url: str, body: bytes, *, headers: Mapping[str, str] | None = None, bounds: Bounds = USUAL
    ) -> Answer:
        """Send a body to an address, once; a redirect is an error.

        Raises:
            Unreachable: as `get`; the body may have arrived all the same.
        """
        once = Bounds(bounds.size_bytes, bounds.total_s)
        return await self._bounded("POST", url, body, headers or {}, once)

    async def tell(
        self, url: str, body: bytes, *, headers: Mapping[str, str] | None = None, bounds: Bounds = USUAL
    ) -> Answer:
        """Send a body to an address, once, where the answer's head alone counts: of any status, a redirect's too.

        Its `body` is empty. What else the other side says is dropped, and the connection with it when that is more
        than the bounds allow, or takes long.

        Raises:
            Unreachable: as `get`, but for redirects; the body may have arrived all the same.
        """
        target = self._checked(url)
        try:
            async with asyncio.timeout(bounds.total_s):
                response = await self._asked("POST", target, body, headers or {})
        except TimeoutError as error:
            raise _late(target, bounds) from error
        except aiohttp.ClientError as error:
            raise _in_our_words(error, target) from error
        async with response:
            await _drop(response, bounds)
            return Answer(response.status, response.headers, b"")

    def check(self, url: str) -> None:
        """Check an address as far as it can be without asking for it, or for its name.

        Raises:
            Unreachable: nothing is ever sent there.
        """
        self._checked(url)

    async def _bounded(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], bounds: Bounds
    ) -> Answer:
        target = self._checked(url)
        try:
            async with asyncio.timeout(bounds.total_s):
                return await self._follow(method, target, body, headers, bounds)
        except TimeoutError as error:
            raise _late(target, bounds) from error

    async def _follow(
        self, method: str, target: URL, body: bytes | None, headers: Mapping[str, str], bounds: Bounds
    ) -> Answer:
        first = target
        for _ in range(bounds.redirects + 1):
            found = await self._once(method, target, body, headers, bounds)
            if isinstance(found, Answer):
                return found
            target = self._checked(found, target)
            headers = headers if target.origin() == first.origin() else {}
        raise Unreachable(f"{shown_url(first)} leads elsewhere, which is not followed", is_lasting=True)

    async def _once(
        self, method: str, target: URL, body: bytes | None, headers: Mapping[str, str], bounds: Bounds
    ) -> Answer | str:
        """Return the answer, or where it leads."""
        try:
            async with await self._asked(method, target, body, headers) as response:
                if response.status in _REDIRECTS and "Location" in response.headers:
                    return response.headers["Location"]
                return Answer(response.status, response.headers, await read_bounded(response, bounds.size_bytes))
        except aiohttp.ClientError as error:
            raise _in_our_words(error, target) from error

    async def _asked(
        self, method: str, target: URL, body: bytes | None, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        """Return an answer whose head came."""
        assert self._http is not None, "an OutgoingClient is used inside `async with`"
        return await self._http.request(
            method,
            target,
            data=body,
            headers=headers,
            allow_redirects=False,
            ssl=self._tls if target.scheme == "https" else True,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_LIMIT_S),
        )

    def _checked(self, url: str, base: URL | None = None) -> URL:
        """Read an address, and refuse one that may not be asked; `base` is what a redirect is relative to."""
        shown = shown_address(url) if base is None else f"the redirect of {shown_url(base)}"
        try:
            # What is quoted already is sent as it is.
            target = URL(url, encoded=base is None and url.isascii() and url.isprintable() and " " not in url)
            target = target if base is None else base.join(target)
            origin = Origin((target.raw_host or "").lower().rstrip("."), target.port or 0)
        except ValueError as error:
            raise Unreachable(f"{shown} is no address", is_lasting=True) from error
        if target.scheme not in {"http", "https"} or not origin.host:
            raise Unreachable(f"{shown} is no http or https address", is_lasting=True)
        if target.raw_user is not None or target.raw_password is not None:
            raise Unreachable(f"{shown} has a user's name in it, which is refused", is_lasting=True)
        if target.scheme == "http" and not self._judge.trusts(origin):
            raise Unreachable(f"{shown} is without TLS: {_ADVICE}", is_lasting=True)
        return target.with_fragment(None)


async def _drop(response: aiohttp.ClientResponse, bounds: Bounds) -> None:
    """Read the rest of a short answer, so that its connection serves the next request; else the connection is closed.

    The answer counts however its rest ends: a server that is done with what it was told may break off.
    """
    try:
        async with asyncio.timeout(_REST_S):
            await read_bounded(response, bounds.size_bytes)
    except (TimeoutError, Unreachable, aiohttp.ClientError):
        response.close()


def _late(target: URL, bounds: Bounds) -> Unreachable:
    return Unreachable(f"{shown_url(target)} was not answered within {bounds.total_s:g} s")


def _in_our_words(error: aiohttp.ClientError, target: URL) -> Unreachable:
    if isinstance(error, _TOLD_WHOLE):
        told = translated(error, target)
        assert isinstance(told, Unreachable), "there is no answer yet"
        return told
    return Unreachable(f"the connection to {shown_url(target)} broke: {type(error).__name__}")
