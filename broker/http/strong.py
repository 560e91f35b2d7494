"""A file's answer whose `ETag` is the digest of its bytes.

aiohttp makes an `ETag` of a file's time and size, which differs between two homes of the same bytes. By the digest a
download that was cut goes on at whatever process, or restored copy, has these bytes, and never at others.
"""

from datetime import UTC, datetime
from pathlib import Path

from aiohttp import ETag, hdrs, web
from aiohttp.abc import AbstractStreamWriter

from broker.wire.names import Digest


def entity_tag(digest: Digest) -> str:
    """Return the strong `ETag` of bytes, quotes and all. Source: RFC 9110, section 8.8.3."""
    return f'"{_value(digest)}"'


class DigestResponse(web.FileResponse):
    """aiohttp's answer with a file, and its ranges and conditions, by the digest."""

    def __init__(self, location: Path, *, digest: Digest, headers: dict[str, str], chunk_size: int = 262_144) -> None:
        super().__init__(location, chunk_size=chunk_size, headers=headers)
        self._own = _value(digest)

    @property
    def etag(self) -> ETag | None:
        return super().etag

    @etag.setter
    def etag(self, _: ETag | str | None) -> None:
        self.headers[hdrs.ETAG] = f'"{self._own}"'

    def _etag_match(  # type: ignore[override] # aiohttp's is static, and is called by `self`, too
        self, _: str, etags: tuple[ETag, ...], *, weak: bool
    ) -> bool:
        return web.FileResponse._etag_match(self._own, etags, weak=weak)  # noqa: SLF001 # the one place where tags meet

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send it; whole where `If-Range` names other bytes, which aiohttp reads as a date alone."""
        if not isinstance(request, web.Request) or not self.is_range_of_others(request):
            return await super().prepare(request)
        headers = request.headers.copy()
        headers.popall(hdrs.RANGE, None)
        whole = request.clone(headers=headers)
        try:
            return await super().prepare(whole)
        finally:
            request.update(whole)  # what was noted of the answer is asked of the request that came

    def is_range_of_others(self, request: web.Request) -> bool:
        """Tell whether the range that is asked for is one of other bytes: all of these are sent then."""
        named = request.headers.get(hdrs.IF_RANGE, "").strip()
        if not named or hdrs.RANGE not in request.headers:
            return False
        if named.startswith(('"', "W/")):
            return named != f'"{self._own}"'
        return request.if_range is None  # neither a tag nor a date


def http_date(epoch_s: float) -> str:
    """Write a time as HTTP does. Source: RFC 9110, section 5.6.7."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")


def _value(digest: Digest) -> str:
    return digest.removeprefix("sha256:")
