"""The cache: images by digest, each brought once however many vms and launchers want it at a time.

A digest is the only authority over the bytes. A file that only this account or root can write to is used where it is,
once it was hashed; another account's is copied first, and the copy hashed. What is used is held by a shared lock for as
long as a vm's overlay stands on it, and nobody evicts it meanwhile.
"""

import asyncio
import fcntl
import os
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path
from typing import Final, Self
from weakref import WeakValueDictionary

import structlog

from launcher.durable import rename_durably
from launcher.images.errors import BadImage, CacheFailed, cache_failure
from launcher.images.folder import CacheFolder, is_named, is_safe, open_regular
from launcher.images.inspect import Limits, RunAsQemu, virtual_size
from launcher.images.locks import locked, try_lock
from launcher.images.overlays import Backing, Overlays
from launcher.images.part import Part, opened_part
from launcher.images.room import Room
from launcher.images.source import Address, Image, SourceFailed, SourceLied
from launcher.images.sources import Mirrors, bring, copy_file
from launcher.images.threads import finish_in_thread
from launcher.images.verified import Identity, Verified, digest_of

log = structlog.get_logger()

_ROUNDS: Final = 3
_EVICTION_S: Final = 5.0
"""Longest that a launcher which evicts holds an image."""
_POLL_S: Final = 0.05
_MOST_REMEMBERED: Final = 1_000


class HeldImage:
    """A verified image that stays where it is until this is closed: at the end of a `with` block."""

    def __init__(self, path: Path, image: Image, descriptor: int) -> None:
        self.path = path
        self.image = image
        self.virtual_bytes = 0
        self.descriptor = descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)


class ImageCache:
    """A folder of images, shared by the launchers that may write to it, of whatever accounts.

    Args:
        folder: Its path; QEMU's account must be able to read there.
        run: How a program looks into an image.
        limit_mib: Most that the folder takes.
        mirrors: Where images are looked for first.
        memory: A folder of this account's alone, where it remembers what it has hashed.
    """

    def __init__(
        self,
        folder: Path,
        run: RunAsQemu,
        *,
        limit_mib: int | None = None,
        mirrors: Mirrors | None = None,
        memory: Path | None = None,
    ) -> None:
        self.folder = folder
        self._files = CacheFolder(folder)
        self._run = run
        self._room = Room(self._files, limit_mib)
        self._mirrors = mirrors or Mirrors()
        self._verified = Verified(memory)
        self._overlays = Overlays()
        self._gates: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._virtual_bytes: dict[tuple[str, str], int | str] = {}
        self._wrong: set[tuple[str, Identity]] = set()
        self._readable: set[Path] = set()

    @property
    def own_folder(self) -> Path:
        """The folder in it that this account alone writes to, and every account may read."""
        return self._files.own

    def prepare(self) -> None:
        """Make the folder, readable for every account of the node, because QEMU has one of its own.

        Raises:
            CacheFailed: the folder cannot be made, or is not safe to use.
        """
        self._files.prepare()
        try:
            self._room.remove_stale()
        except OSError as error:
            raise cache_failure(self.folder, error) from error

    async def fetch(self, image: Image, address: Address) -> HeldImage:
        """Return the image, verified and held, brought from a mirror or the address when it is not there.

        Raises:
            BadImage: its bytes or its header are refused.
            ImageRefused: the machine's address does not give it to anybody.
            ImageUnavailable: its source is away.
            CacheFailed: this node cannot keep it, or not look into it.
        """
        gate = self._gates.setdefault(image.digest, asyncio.Lock())
        async with gate:
            with ExitStack() as undo:
                held = undo.enter_context(await self._hold(image, address))
                held.virtual_bytes = await self._look_into(held)
                undo.pop_all()
                return held

    async def make_overlay(self, overlay: Path, held: HeldImage) -> None:
        """Make an empty qcow2 overlay over a held image.

        Raises:
            CacheFailed: it cannot be made.
        """
        await self._overlays.make(overlay, Backing(held.path, held.image.format, held.virtual_bytes))

    async def _hold(self, image: Image, address: Address) -> HeldImage:
        try:
            for _ in range(_ROUNDS):
                held = await self._held_here(image)
                if held is not None:
                    return held
                async with locked(self._files.lock(image), lambda: self._files.parts_of(image)):
                    held = await self._held_here(image)
                    if held is not None:
                        return held
                    await self._bring(image, address)
        except OSError as error:
            raise cache_failure(self.folder, error) from error
        raise CacheFailed(f"image {image.digest} is removed from the cache {self.folder} as often as it is brought")

    async def _held_here(self, image: Image) -> HeldImage | None:
        """Return the image if it is on this node already."""
        for path in self._files.places(image):
            held = await self._hold_file(path, image)
            if held is not None:
                self._files.note_use(image)
                return held
        for path in self._mirrors.read_only_files(image):
            if path in self._readable or await self._is_readable(path):
                held = await self._hold_file(path, image)
                if held is not None:
                    return held
        return None

    async def _is_readable(self, path: Path) -> bool:
        """Tell whether QEMU's account can read a file of the site's, and remember it."""
        if not path.exists() or (await self._run(("test", "-r", str(path)), Limits())).status != 0:
            return False
        self._readable.add(path)
        return True

    async def _hold_file(self, path: Path, image: Image) -> HeldImage | None:
        try:
            descriptor = open_regular(path, follow=not path.is_relative_to(self.folder))
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("image_not_usable", path=str(path), reason=error.strerror)
            return None
        with ExitStack() as undo:
            undo.callback(os.close, descriptor)
            if path.is_relative_to(self.folder) and not is_safe(descriptor):
                return None
            if not await self._is_good(descriptor, path, image):
                return None
            undo.pop_all()
            return HeldImage(path, image, descriptor)

    async def _is_good(self, descriptor: int, path: Path, image: Image) -> bool:
        """Lock a file against eviction, and tell whether it is the image."""
        if path.is_relative_to(self.folder) and not await _share(descriptor, path):
            return False
        identity = Identity.of(descriptor)
        if identity.size_bytes != image.size_bytes:
            log.warning("image_not_usable", path=str(path), reason=f"it has not {image.size_bytes} bytes")
            return False
        if (image.digest, identity) in self._wrong:
            return False
        return self._verified.knows(image.digest, identity) or await self._verify(descriptor, path, image)

    async def _verify(self, descriptor: int, path: Path, image: Image) -> bool:
        identity = Identity.of(descriptor)
        got = await digest_of(descriptor)
        is_same = Identity.of(descriptor) == identity
        if got == image.digest and is_same:
            self._verified.note(image.digest, identity)
            return True
        log.error(
            "image_tampered", path=str(path), owner_uid=os.fstat(descriptor).st_uid, reason=f"its digest is {got}"
        )
        if is_same:
            self._note_wrong(image, identity)
        return False

    def _note_wrong(self, image: Image, identity: Identity) -> None:
        if len(self._wrong) >= _MOST_REMEMBERED:
            self._wrong.clear()
        self._wrong.add((image.digest, identity))

    async def _look_into(self, held: HeldImage) -> int:
        """Return the disk's size, found out once for the same bytes as the same format."""
        key = (held.image.digest, held.image.format)
        if key not in self._virtual_bytes:
            if len(self._virtual_bytes) >= _MOST_REMEMBERED:
                self._virtual_bytes.clear()
            try:
                self._virtual_bytes[key] = await virtual_size(self._run, held.descriptor, held.path, held.image)
            except BadImage as error:
                self._virtual_bytes[key] = str(error)
        known = self._virtual_bytes[key]
        if isinstance(known, str):
            raise BadImage(known)
        return known

    async def _bring(self, image: Image, address: Address) -> None:
        path = self._files.part(image)
        async with AsyncExitStack() as stack:
            theirs = await self._hold_theirs(image, stack)
            async with locked(self.folder / "room.lock"):
                await finish_in_thread(self._room.make, image, path)
                # It has the size in its name: whoever makes room next leaves that to us.
                part = await stack.enter_async_context(opened_part(path, image))
            is_copy = theirs is not None and await self._copy_theirs(theirs, image, part)
            if not is_copy:
                await part.take_over()
                if await bring(self._mirrors, address, image, part):
                    self._files.note_public(image)
            # Everybody can use root's where it is. Of two others, each would replace the other's without an end.
            await self._install(part, image, is_for_all=not is_copy or os.geteuid() == 0)

    async def _hold_theirs(self, image: Image, stack: AsyncExitStack) -> int | None:
        """Open and hold the file of another account that has the image's name, if it may be the image."""
        shared, _ = self._files.places(image)
        try:
            descriptor = open_regular(shared)
        except OSError:
            return None
        stack.callback(os.close, descriptor)
        identity = Identity.of(descriptor)
        may_be_it = identity.size_bytes == image.size_bytes and (image.digest, identity) not in self._wrong
        return descriptor if not is_safe(descriptor) and may_be_it and await _share(descriptor, shared) else None

    async def _copy_theirs(self, descriptor: int, image: Image, part: Part) -> bool:
        """Fill `part` from another account's file, which that may change at any time; tell whether it is the image."""
        shared, _ = self._files.places(image)
        identity, owner_uid = Identity.of(descriptor), os.fstat(descriptor).st_uid
        try:
            await copy_file(descriptor, shared, image, part)
        except SourceFailed as error:
            log.warning("image_not_usable", path=str(shared), reason=str(error))
            return False
        except SourceLied as error:
            lie = str(error)
        else:
            log.info("image_fetched", source=str(shared), image=image.digest, owner_uid=owner_uid)
            return True
        log.error("image_tampered", path=str(shared), owner_uid=owner_uid, reason=lie)
        self._note_wrong(image, identity)
        return False

    async def _install(self, part: Part, image: Image, *, is_for_all: bool) -> None:
        """Give the whole image its name; this account's own, where another account's file has the shared one."""
        shared, own = self._files.places(image)
        self._files.note_use(image)
        part.seal()
        try:
            await finish_in_thread(rename_durably, part.path, shared if is_for_all else own)
        except (PermissionError, IsADirectoryError):
            await finish_in_thread(rename_durably, part.path, own)
        # The name may be another account's by now, the file that we hashed is not.
        self._verified.note(image.digest, Identity.of(part.descriptor))


async def _share(descriptor: int, path: Path) -> bool:
    """Take the lock that says "in use"; False when the file is being evicted, or somebody keeps it from us."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_EVICTION_S):
            while not try_lock(descriptor, fcntl.LOCK_SH):  # noqa: ASYNC110 - the holder is another process
                await asyncio.sleep(_POLL_S)
            return is_named(descriptor, path)
    return False
