"""Where an image is looked for: the site's mirrors in their order, then the address that the machine names.

A mirror is a convenience: one that fails or lies is passed over. Only the last source can be at fault for the vm.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import structlog

from broker.client.session import Session
from launcher.images.download import download
from launcher.images.errors import BadImage, ImageRefused, ImageUnavailable
from launcher.images.folder import open_regular
from launcher.images.part import Part
from launcher.images.source import Address, Image, SourceFailed, SourceLied
from launcher.images.threads import finish_in_thread

log = structlog.get_logger()

_MIRROR_TRIES: Final = 2
_MIRROR_BYTES_S: Final = 64 << 10
"""A mirror that gives less is no help: there is another source behind it."""
_CHUNK_BYTES: Final = 4 << 20


class Mirrors:
    """The site's mirrors: `https://HOST/FOLDER` or `file:///FOLDER`, with files `sha256-HEX`.

    `session` may call those that are no folders; it is to trust their origins, as the site named them.
    """

    def __init__(self, addresses: Sequence[str] = (), session: Session | None = None) -> None:
        self._addresses = tuple(address.rstrip("/") for address in addresses)
        self._session = session

    def read_only_files(self, image: Image) -> list[Path]:
        """Return where the image may lie on read-only file systems, which nobody changes under a vm."""
        folders = [folder for folder in map(mirror_folder, self._addresses) if folder is not None]
        return [folder / image.file_name for folder in folders if _is_read_only(folder)]

    async def bring(self, image: Image, part: Part) -> bool:
        """Fill `part` from the first mirror that has the image; tell whether one did."""
        for mirror in self._addresses:
            try:
                await self._bring_from(mirror, image, part)
            except SourceFailed as error:
                # The next source goes on where this one stopped: the digest judges the whole.
                log.warning("mirror_passed_over", mirror=mirror, image=image.digest, reason=str(error))
            except SourceLied as error:
                log.warning("mirror_lied", mirror=mirror, image=image.digest, reason=str(error))
            else:
                log.info("image_fetched", source=mirror, image=image.digest)
                return True
        return False

    async def _bring_from(self, mirror: str, image: Image, part: Part) -> None:
        folder = mirror_folder(mirror)
        if folder is not None:
            await _copy(folder / image.file_name, image, part)
        elif self._session is not None:
            address = Address(self._session, f"{mirror}/{image.file_name}")
            await download(address, image, part, tries=_MIRROR_TRIES, least_bytes_s=_MIRROR_BYTES_S)


async def bring(mirrors: Mirrors, address: Address, image: Image, part: Part) -> bool:
    """Fill `part` from the mirrors or the address; tell whether that is where anybody may have it.

    Raises:
        BadImage, ImageRefused, ImageUnavailable: as `bring_from_owner`.
    """
    # Of bytes that an earlier launcher left whole, nobody is asked: it may have had them by a signed address.
    is_asked = part.have_bytes < image.size_bytes
    if await mirrors.bring(image, part):
        return is_asked
    await bring_from_owner(address, image, part)
    return is_asked and address.is_public


async def bring_from_owner(address: Address, image: Image, part: Part) -> None:
    """Fill `part` from the address that the machine names.

    Raises:
        BadImage: it gives something else than the machine names.
        ImageRefused: it is the owner's, and does not give it to anybody.
        ImageUnavailable: it is away.
    """
    try:
        await download(address, image, part)
    except SourceLied as error:
        raise BadImage(f"image {image.digest} is damaged where it is kept: {error}; upload it again") from error
    except SourceFailed as error:
        if address.is_foreign and error.is_lasting:
            raise ImageRefused(f"the machine's image {image.digest} cannot be had: {error}") from error
        raise ImageUnavailable(f"image {image.digest} could not be downloaded: {error}") from error
    log.info("image_fetched", source="owner" if address.is_foreign else "broker", image=image.digest)


def mirror_folder(mirror: str) -> Path | None:
    """Return the folder that a mirror's address names, None when it is an HTTP server's."""
    parts = urlsplit(mirror)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def _is_read_only(folder: Path) -> bool:
    try:
        return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    except OSError:
        return False


async def _copy(source: Path, image: Image, part: Part) -> None:
    with _opened(source) as descriptor:
        await copy_file(descriptor, source, image, part)


async def copy_file(descriptor: int, source: Path, image: Image, part: Part) -> None:
    """Fill `part` from an open file, whatever happens to that meanwhile.

    Raises:
        SourceFailed: it cannot be read to its end.
        SourceLied: it is not the image; nothing of it is kept.
        OSError: the part cannot be written.
    """
    size = os.fstat(descriptor).st_size
    if size != image.size_bytes:
        raise SourceLied(f"{source} has {size} bytes, not the {image.size_bytes} that were named")
    part.restart()
    while wanted := min(_CHUNK_BYTES, size - part.have_bytes):
        chunk = await finish_in_thread(_read, descriptor, wanted, part.have_bytes, source)
        if not chunk:
            raise SourceFailed(f"{source} ended after {part.have_bytes} of {size} bytes")
        await part.append(chunk, str(source))
    if part.digest != image.digest:
        got = part.digest
        part.restart()
        raise SourceLied(f"the digest of {source} is {got}")


@contextmanager
def _opened(source: Path) -> Iterator[int]:
    try:
        # A link is the site's own: CVMFS is full of them.
        descriptor = open_regular(source, follow=True)
    except OSError as error:
        raise SourceFailed(f"{source} cannot be read: {error.strerror}", is_lasting=True) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(descriptor: int, size_bytes: int, offset: int, source: Path) -> bytes:
    try:
        return os.pread(descriptor, size_bytes, offset)
    except OSError as error:
        raise SourceFailed(f"{source} cannot be read: {error.strerror}") from error
