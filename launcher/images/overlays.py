"""Overlays: what a vm writes, over an image that stays as it is.

An overlay without content depends on nothing but the image's path, format and size. So `qemu-img` makes the first over
each image, without opening it, and the others are copies of that one, kept in memory.

Source: qemu-img(1), "create", option `-u`.
"""

import asyncio
import os
import shutil
from pathlib import Path
from typing import Final, NamedTuple

from launcher.images.errors import CacheFailed, cache_failure
from launcher.packages import Part, lacks
from launcher.processes import communicated

_TIMEOUT_S: Final = 60
_PAGE_BYTES: Final = 4_096
_MOST_BYTES: Final = 4 << 20
_MOST_TEMPLATES: Final = 64


class Backing(NamedTuple):
    """The image under an overlay."""

    path: Path
    format: str
    virtual_bytes: int


class Overlays:
    """Makes overlays of a few hundred KiB, whatever the image's size."""

    def __init__(self) -> None:
        self._templates: dict[Backing, bytes] = {}

    async def make(self, overlay: Path, backing: Backing) -> None:
        """Make an empty overlay, which only the launcher's account can open yet.

        Raises:
            CacheFailed: the node has no `qemu-img`, or no room in the vm's folder.
        """
        template = self._templates.get(backing)
        try:
            if template is None:
                await _create(overlay, backing)
                self._remember(backing, await asyncio.to_thread(overlay.read_bytes))
            else:
                await asyncio.to_thread(_write, overlay, template)
        except OSError as error:
            raise cache_failure(overlay.parent, error) from error

    def _remember(self, backing: Backing, template: bytes) -> None:
        if len(template) <= _MOST_BYTES:
            while len(self._templates) >= _MOST_TEMPLATES:
                del self._templates[next(iter(self._templates))]
            self._templates[backing] = template


def _write(overlay: Path, template: bytes) -> None:
    descriptor = os.open(overlay, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, len(template))
        for offset in range(0, len(template), _PAGE_BYTES):
            page = template[offset : offset + _PAGE_BYTES]
            if any(page):
                os.pwrite(descriptor, page, offset)
    finally:
        os.close(descriptor)


async def _create(overlay: Path, backing: Backing) -> None:
    program = shutil.which("qemu-img")
    if program is None:
        raise CacheFailed(lacks("qemu-img", Part.QEMU_IMG))
    process = await asyncio.create_subprocess_exec(
        *(program, "create", "-q", "-u", "-f", "qcow2", "-F", backing.format, "-b", str(backing.path)),
        *(str(overlay), str(backing.virtual_bytes)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        umask=0o077,
    )
    try:
        said, _ = await communicated(process, _TIMEOUT_S)
    except TimeoutError as error:
        raise CacheFailed(f"qemu-img did not make an overlay within {_TIMEOUT_S} s") from error
    if process.returncode != 0:
        raise CacheFailed(f"no overlay could be made over {backing.path.name}: {said.decode(errors='replace').strip()}")
