"""One image per content, made once for a cache folder and shared by all vms of the node."""

import asyncio
import fcntl
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from launcher.carried import carried
from launcher.durable import rename_durably
from launcher.guest_disk.contents import Entry, client_version, list_contents
from launcher.guest_disk.failure import CannotBuildGuestDisk
from launcher.guest_disk.image import make_image, make_tree

RECIPE = 3
"""Part of the digest: raise it when the same files are put onto the disk in another way."""
LOCK_TIMEOUT_S = 180.0
LOCK_INTERVAL_S = 0.1
KEPT_IMAGES = 3
_NAMESPACE = uuid.UUID("5c0fb3d6-6d0c-4a57-9f0e-5b7f4f6f0a11")


@dataclass(frozen=True, slots=True)
class GuestDisk:
    """A raw, read-only image. `digest` names what it was made of, `sha256:…`."""

    path: Path
    digest: str
    client_version: str


async def ensure_guest_disk(cache_folder: Path) -> GuestDisk:
    """Return the guest disk of this very launcher, made now unless the cache folder has it. Safe beside others.

    Raises:
        CannotBuildGuestDisk: this machine lacks what it is made of; show the text.
    """
    return await asyncio.to_thread(_ensure, cache_folder)


def _ensure(cache_folder: Path) -> GuestDisk:
    bundle, version = carried(), client_version()
    entries = [] if bundle else list_contents()
    digest = bundle.guest_disk_digest.removeprefix("sha256:") if bundle else _digest(entries, version)
    disk = GuestDisk(cache_folder / f"guest-disk-{digest[:32]}.img", f"sha256:{digest}", version)
    cache_folder.mkdir(parents=True, exist_ok=True)
    with locked(cache_folder / "guest-disk.lock"):
        if not disk.path.exists():
            _build(disk, entries, finished=bundle.guest_disk if bundle else None)
            _remove_old(cache_folder)
    return disk


def _digest(entries: list[Entry], version: str) -> str:
    whole = hashlib.sha256(f"{RECIPE}\n{version}\n".encode())
    for entry in entries:
        content = hashlib.sha256(entry.source.read_bytes()).hexdigest()
        whole.update(f"{entry.target}\0{content}\n".encode())
    return whole.hexdigest()


def _build(disk: GuestDisk, entries: list[Entry], finished: Path | None) -> None:
    """Make the image; a bundle's `finished` one is copied, for QEMU's account may not reach into the bundle."""
    scratch = disk.path.parent / "guest-disk.building"
    # Under the lock, what is there was left by a launcher that was killed.
    shutil.rmtree(scratch, ignore_errors=True)
    tree, draft = scratch / "tree", scratch / "draft.img"
    tree.mkdir(mode=0o755, parents=True)
    try:
        if finished is None:
            make_tree(tree, entries, disk.client_version)
            make_image(tree, draft, str(uuid.uuid5(_NAMESPACE, disk.digest)))
        else:
            shutil.copyfile(finished, draft)
        draft.chmod(0o444)
        rename_durably(draft, disk.path)
    finally:
        shutil.rmtree(scratch)


def _remove_old(cache_folder: Path) -> None:
    """Keep the newest few: another launcher of an earlier release may still start vms with its own."""
    images = sorted(cache_folder.glob("guest-disk-*.img"), key=lambda path: path.stat().st_mtime, reverse=True)
    for image in images[KEPT_IMAGES:]:
        image.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the cache folder's lock for the block.

    Raises:
        CannotBuildGuestDisk: another launcher holds it for too long.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline_s = time.monotonic() + LOCK_TIMEOUT_S
        while not _is_taken(descriptor):
            if time.monotonic() >= deadline_s:
                raise CannotBuildGuestDisk(f"another launcher has held {path} for {LOCK_TIMEOUT_S:.0f} s")
            time.sleep(LOCK_INTERVAL_S)
        yield
    finally:
        os.close(descriptor)


def _is_taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
