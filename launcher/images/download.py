"""Bring one image from one address, resumed where it was cut.

Source: RFC 9110 sections 13.1.5 (If-Range), 14.2 (Range) and 14.4 (Content-Range).
"""

import asyncio
import re
from http import HTTPStatus
from typing import Final

import aiohttp

from broker.client.errors import shown_address
from broker.client.session import ApiError, CallError, Unreachable
from launcher.images.part import Part
from launcher.images.source import Address, Image, SourceFailed, SourceLied

TRIES: Final = 5
_PAUSE_S: Final = 1.0
_CHUNK_BYTES: Final = 1 << 20
_IDLE_S: Final = 60
"""A source that sends nothing for this long is cut off and asked again."""
_PROGRESS_BYTES: Final = 1 << 20
"""What a try must bring to count as none."""
_PACE_S: Final = 60.0
"""How long a source is watched before it is found too slow."""
_SIGNATURE_OVER: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_LATER: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)\Z", re.IGNORECASE)


async def download(address: Address, image: Image, part: Part, *, tries: int = TRIES, least_bytes_s: int = 0) -> None:
    """Fill `part` from the address until its digest is the image's.

    As long as it gets on, a connection may break any number of times; `tries` without progress end it, and so does a
    minute of less than `least_bytes_s`.

    Raises:
        SourceFailed: it did not give all of it; what came is kept for the next source.
        SourceLied: it gave something else; nothing of it is kept.
        OSError: the part cannot be written.
    """
    transfer = _Transfer(address, image, part, _Pace(least_bytes_s))
    while True:
        await transfer.bring(tries)
        if part.digest == image.digest:
            return
        are_others = bool(part.givers - {transfer.shown})
        got = part.digest
        part.restart()
        # What several sources gave together is asked of this one alone once more: then it is known who lied.
        if not are_others:
            raise SourceLied(f"{transfer.shown} gives bytes whose digest is {got}")


class _Pace:
    """How much a source gives in a while, broken connections and pauses included."""

    def __init__(self, least_bytes_s: int) -> None:
        self._least_bytes_s = least_bytes_s
        self._clock = asyncio.get_running_loop().time
        self._began_s = self._clock()
        self._bytes = 0

    def check(self, got_bytes: int, shown: str) -> None:
        self._bytes += got_bytes
        took_s = self._clock() - self._began_s
        if took_s < _PACE_S:
            return
        if self._bytes < self._least_bytes_s * took_s:
            raise SourceFailed(f"{shown} gave {self._bytes} bytes in {took_s:.0f} s: too slow")
        self._began_s, self._bytes = self._clock(), 0


class _Transfer:
    def __init__(self, address: Address, image: Image, part: Part, pace: _Pace) -> None:
        self._address = address
        self._image = image
        self._part = part
        self._pace = pace
        self._url = address.url
        self._etag: str | None = None
        self.shown = shown_address(address.url)

    async def bring(self, tries: int) -> None:
        """Ask for the rest until all has come."""
        failures, most = 0, self._part.have_bytes
        while self._part.have_bytes < self._image.size_bytes:
            try:
                await self._ask()
            except CallError as error:
                # Beyond what any try had: a source that always begins anew gets nowhere.
                gained, most = self._part.have_bytes - most, max(most, self._part.have_bytes)
                failures = 1 if gained >= _PROGRESS_BYTES else failures + 1
                await self._recover(error, is_last=failures >= tries)
                await asyncio.sleep(_PAUSE_S * 2 ** min(failures - 1, 4))

    async def _recover(self, error: CallError, *, is_last: bool) -> None:
        """Prepare the next try, unless it cannot help."""
        status = error.status if isinstance(error, ApiError) else None
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and self._part.have_bytes and not is_last:
            self._part.restart()
        elif status in _SIGNATURE_OVER and self._address.renew is not None and not is_last:
            await self._renew()
        elif is_last or _is_lasting(error):
            raise SourceFailed(str(error), is_lasting=_is_lasting(error)) from error

    async def _renew(self) -> None:
        assert self._address.renew is not None
        try:
            self._url = await self._address.renew()
        except CallError as error:
            raise SourceFailed(f"no fresh address for the image could be had: {error}") from error

    async def _ask(self) -> None:
        """Send one request for what is missing, and take what comes."""
        headers = {}
        if self._part.have_bytes:
            headers["Range"] = f"bytes={self._part.have_bytes}-"
            if self._etag is not None:
                headers["If-Range"] = self._etag
        async with self._address.session.open("GET", self._url, headers=headers, idle_timeout_s=_IDLE_S) as response:
            self._check(response)
            tag = response.headers.get("ETag", "")
            self._etag = tag if tag.startswith('"') else None
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                if self._part.have_bytes + len(chunk) > self._image.size_bytes:
                    self._lied("more")
                await self._part.append(chunk, self.shown)
                self._pace.check(len(chunk), self.shown)
        if self._part.have_bytes < self._image.size_bytes:
            raise Unreachable(f"{self.shown} ended after {self._part.have_bytes} of {self._image.size_bytes} bytes")

    def _check(self, response: aiohttp.ClientResponse) -> None:
        """Refuse an answer that is not the rest of the image; an answer with all of it begins anew."""
        have, whole = self._part.have_bytes, self._image.size_bytes
        match response.status:
            case HTTPStatus.OK:
                if have:
                    self._part.restart()
                total = response.content_length
            case HTTPStatus.PARTIAL_CONTENT:
                told = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
                if told is None or int(told[1]) != have:
                    self._part.restart()
                    raise Unreachable(f"{self.shown} answered with another range than it was asked for")
                total = None if told[2] == "*" else int(told[2])
            case status:
                raise Unreachable(f"{self.shown} answered {status} to a request for an image")
        if total is not None and total != whole:
            self._lied(f"{total}")

    def _lied(self, got: str) -> None:
        self._part.restart()
        raise SourceLied(f"{self.shown} has not the {self._image.size_bytes} bytes that were named: got {got}")


def _is_lasting(error: CallError) -> bool:
    match error:
        case ApiError():
            return error.status < HTTPStatus.INTERNAL_SERVER_ERROR and error.status not in _LATER
        case Unreachable():
            return error.is_lasting
    return False
