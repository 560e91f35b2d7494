"""Sources of bytes that a test makes up."""

from collections.abc import AsyncIterator

from broker.files.source import Chunks, Source


def chunks(*parts: bytes, broken: bool = False) -> Source:
    """Return a source of these chunks; one that is `broken` ends as a lost connection does."""
    return Chunks(_each(parts, broken))


async def _each(parts: tuple[bytes, ...], broken: bool) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    if broken:
        raise ConnectionResetError
