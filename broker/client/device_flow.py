"""Logging in at one's institution, in a browser on any machine: OpenID Connect by the device flow.

The institution's own page asks for whatever it asks for; this program learns nothing but its word on who it was.

Source: RFC 8628; OpenID Connect Core 1.0, section 2; OpenID Connect Discovery 1.0, section 4.
"""

import asyncio
import re
import ssl
import time
from collections.abc import Callable
from typing import TypeVar

import aiohttp
import msgspec
from yarl import URL

from broker.client.errors import read_bounded

T = TypeVar("T")

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_SCOPE = "openid profile email"
_MAX_ANSWER_BYTES = 262_144
_TIMEOUT_S = 20.0
_LONGEST_S = 1_800.0
"""However long the institution lets its code live, nobody is waited for longer."""
_ERROR = re.compile(r"[a-z_]{1,64}")
"""RFC 6749, section 5.2, and RFC 8628, section 3.5, have errors of this form."""
_LEAST_INTERVAL_S, _INTERVAL_S, _SLOWER_S = 1.0, 5.0, 5.0


class LoginFailed(Exception):
    """The institution did not say who it was; the text is a sentence for the person."""


class _Configuration(msgspec.Struct, frozen=True):
    issuer: str
    token_endpoint: str
    device_authorization_endpoint: str = ""


class Prompt(msgspec.Struct, frozen=True):
    """What the person is asked to do: open the address, and type the code there."""

    device_code: str
    user_code: str
    verification_uri: str
    expires_in: float
    verification_uri_complete: str = ""
    interval: float = _INTERVAL_S


class _Tokens(msgspec.Struct, frozen=True):
    id_token: str = ""


class _Refusal(msgspec.Struct, frozen=True):
    error: str = ""


class DeviceFlow:
    """One login at one institution. `ca_pem` is trusted beside the system's authorities."""

    def __init__(self, issuer: str, client_id: str, ca_pem: str | None = None) -> None:
        self._issuer = issuer
        self._client_id = client_id
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
        except (aiohttp.ClientError, TimeoutError) as error:
            raise LoginFailed(f"{self._issuer} does not answer: {str(error) or 'in time'}") from error

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
        return self._read(status, body, Prompt)

    async def _wait(self, http: aiohttp.ClientSession, configuration: _Configuration, prompt: Prompt) -> str:
        form = {"grant_type": GRANT, "device_code": prompt.device_code, "client_id": self._client_id}
        interval_s = max(prompt.interval, _LEAST_INTERVAL_S)
        ends_s = time.monotonic() + min(prompt.expires_in, _LONGEST_S)
        while time.monotonic() < ends_s:
            await asyncio.sleep(interval_s)
            status, body = await self._post(http, configuration.token_endpoint, form)
            if status == 200:
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
                case _:
                    self._read(status, body, _Tokens)
        raise LoginFailed("the code was not used in time: run the command again")

    def _named(self, tokens: _Tokens) -> str:
        if not tokens.id_token:
            raise LoginFailed(f"{self._issuer} did not say who you are (no id_token): tell who runs the broker")
        return tokens.id_token

    async def _post(self, http: aiohttp.ClientSession, url: str, form: dict[str, str]) -> tuple[int, bytes]:
        async with http.post(_secure(url), data=form, ssl=self._tls, allow_redirects=False) as answer:
            return answer.status, await read_bounded(answer, _MAX_ANSWER_BYTES)

    def _read(self, status: int, body: bytes, kind: type[T]) -> T:
        if status != 200:
            said = _refusal(body)
            # Its own words are not shown: they are a stranger's, and may act on a terminal.
            known = said.error if _ERROR.fullmatch(said.error) else f"status {status}"
            raise LoginFailed(f"{self._issuer} refused: {known}")
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise LoginFailed(f"{self._issuer} answered what this program cannot read: {error}") from error


def _secure(url: str) -> URL:
    try:
        address = URL(url)
    except ValueError:
        address = URL()
    if address.scheme != "https" or not address.host:
        raise LoginFailed(f"the institution's address {url!r} is none with TLS: tell who runs the broker")
    return address


def _refusal(body: bytes) -> _Refusal:
    try:
        return msgspec.json.decode(body, type=_Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Refusal()
