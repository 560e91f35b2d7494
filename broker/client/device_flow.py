"""Logging in at one's institution, in a browser on any machine: OpenID Connect by the device flow.

The institution's own page asks for whatever it asks for; this program learns nothing but its word on who it was.

Source: RFC 8628; OpenID Connect Core 1.0, section 2; OpenID Connect Discovery 1.0, section 4.
"""

import asyncio
import re
import ssl
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, TypeVar

import aiohttp
import msgspec
from yarl import URL

from broker.client.errors import CallError, read_bounded, translated

T = TypeVar("T")

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_SCOPE = "openid profile email"
_MAX_ANSWER_BYTES = 262_144
_TIMEOUT_S = 20.0
_LONGEST_S = 1_800.0
"""However long the institution lets its code live, nobody is waited for longer."""
_ERROR = re.compile(r"[a-z_]{1,64}")
"""RFC 6749, section 5.2, and RFC 8628, section 3.5, have errors of this form."""
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_LEAST_INTERVAL_S, _INTERVAL_S, _SLOWER_S = 1.0, 5.0, 5.0


_MOST_INTERVAL_S = 60.0
_SHOWN_CHARS = 200
_PASSING = frozenset({HTTPStatus.TOO_MANY_REQUESTS, *range(500, 600)})
"""After these one asks again, as after a connection that broke: the person may have said yes meanwhile."""

_Address = Annotated[str, msgspec.Meta(max_length=2_048)]
_Secret = Annotated[str, msgspec.Meta(max_length=8_192)]
_Code = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
"""A person types it."""


class LoginFailed(Exception):
    """The institution did not say who it was; the text is a sentence for the person."""


class _Configuration(msgspec.Struct, frozen=True):
    issuer: _Address
    token_endpoint: _Address
    device_authorization_endpoint: _Address = ""


class Prompt(msgspec.Struct, frozen=True):
    """What the person is asked to do: open the address, and type the code there."""

    device_code: _Secret
    user_code: _Code
    verification_uri: _Address
    expires_in: float
    verification_uri_complete: _Address = ""
    interval: float = _INTERVAL_S


class _Tokens(msgspec.Struct, frozen=True):
    id_token: str = ""


class _Refusal(msgspec.Struct, frozen=True):
    error: str = ""


class DeviceFlow:
    """One login at one institution.

    Args:
        issuer: The institution's, exactly as it names itself.
        client_id: What it knows the broker as.
        ca_pem: Trusted beside the system's authorities.
        sleep: Waits for so many seconds.
        clock: Seconds, growing.
    """

    def __init__(
        self,
        issuer: str,
        client_id: str,
        ca_pem: str | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._client_id = client_id
        self._sleep = sleep
        self._clock = clock
        self._tls = ssl.create_default_context()
        if ca_pem:
            self._tls.load_verify_locations(cadata=ca_pem)

    async def id_token(self, show: Callable[[Prompt], None]) -> str:
        """Ask for a code, `show` it, and wait until its person has used it; return the institution's word on them.

        Raises:
            LoginFailed: they refused, or were too slow, or the institution does not do this.
        """
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        try:
            async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as http:
                configuration = await self._configuration(http)
                prompt = await self._prompt(http, configuration)
                show(prompt)
                return await self._wait(http, configuration, prompt)
        except TimeoutError as error:
            raise LoginFailed(f"{self._issuer} does not answer in time: try again later") from error
        except aiohttp.ClientError as error:
            raise LoginFailed(str(translated(error, URL(self._issuer)))) from error
        except CallError as error:
            raise LoginFailed(str(error)) from error

    async def _configuration(self, http: aiohttp.ClientSession) -> _Configuration:
        url = _secure(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        async with http.get(url, ssl=self._tls, allow_redirects=False) as answer:
            found = self._read(answer.status, await read_bounded(answer, _MAX_ANSWER_BYTES), _Configuration)
        if found.issuer != self._issuer:
            raise LoginFailed(f"{self._issuer} says that it is another issuer: tell who runs the broker")
        if not found.device_authorization_endpoint:
            raise LoginFailed(
                f"{self._issuer} does not let programs log in by its device flow: ask for a one-time code"
            )
        return found

    async def _prompt(self, http: aiohttp.ClientSession, configuration: _Configuration) -> Prompt:
        form = {"client_id": self._client_id, "scope": _SCOPE}
        status, body = await self._post(http, configuration.device_authorization_endpoint, form)
        prompt = self._read(status, body, Prompt)
        for address in (prompt.verification_uri, prompt.verification_uri_complete):
            if address:
                _secure(address)  # a password is typed there
        return prompt

    async def _wait(self, http: aiohttp.ClientSession, configuration: _Configuration, prompt: Prompt) -> str:
        form = {"grant_type": GRANT, "device_code": prompt.device_code, "client_id": self._client_id}
        interval_s = min(max(prompt.interval, _LEAST_INTERVAL_S), _MOST_INTERVAL_S)
        ends_s = self._clock() + min(prompt.expires_in, _LONGEST_S)
        while (left_s := ends_s - self._clock()) > 0:
            await self._sleep(min(interval_s, left_s))
            status, body = await self._asked(http, configuration.token_endpoint, form)
            if status == HTTPStatus.OK:
                return self._named(self._read(status, body, _Tokens))
            match _refusal(body).error:
                case "authorization_pending":
                    continue
                case "slow_down":
                    interval_s += _SLOWER_S
                case "access_denied":
                    raise LoginFailed(f"you, or {self._issuer}, refused to log in: nothing was changed")
                case "expired_token":
                    break
                case _ if status in _PASSING:
                    interval_s = min(2 * interval_s, _MOST_INTERVAL_S)
                case _:
                    self._read(status, body, _Tokens)
        raise LoginFailed("the code was not used in time: run the command again")

    async def _asked(self, http: aiohttp.ClientSession, url: str, form: dict[str, str]) -> tuple[int, bytes]:
        """Ask whether the person is done; a connection that broke counts as a server that is away for a moment."""
        try:
            return await self._post(http, url, form)
        except aiohttp.ClientSSLError:
            raise
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError):
            return HTTPStatus.SERVICE_UNAVAILABLE, b""

    def _named(self, tokens: _Tokens) -> str:
        if not tokens.id_token:
            raise LoginFailed(f"{self._issuer} did not say who you are (no id_token): tell who runs the broker")
        return tokens.id_token

    async def _post(self, http: aiohttp.ClientSession, url: str, form: dict[str, str]) -> tuple[int, bytes]:
        async with http.post(_secure(url), data=form, ssl=self._tls, allow_redirects=False) as answer:
            return answer.status, await read_bounded(answer, _MAX_ANSWER_BYTES)

    def _read(self, status: int, body: bytes, kind: type[T]) -> T:
        if status != HTTPStatus.OK:
            said = _refusal(body)
            # Its own words are not shown: they are a stranger's, and may act on a terminal.
            known = said.error if _ERROR.fullmatch(said.error) else f"status {status}"
            raise LoginFailed(f"{self._issuer} refused: {known}")
        try:
            return msgspec.json.decode(body, type=kind)
        except _UNREADABLE as error:
            raise LoginFailed(f"{self._issuer} answered what this program cannot read: {error}") from error


def _secure(url: str) -> URL:
    try:
        address = URL(url)
    except ValueError:
        address = URL()
    if address.scheme != "https" or not address.host:
        shown = url[:_SHOWN_CHARS]
        raise LoginFailed(f"the institution's address {shown!r} is none with TLS: tell who runs the broker")
    return address


def _refusal(body: bytes) -> _Refusal:
    try:
        return msgspec.json.decode(body, type=_Refusal)
    except _UNREADABLE:
        return _Refusal()
