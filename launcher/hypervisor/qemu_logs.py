"""libvirt's log of each QEMU: kept small while the VM lives, and removed with it.

Without virtlogd nobody rotates these, and what a guest makes QEMU complain of has no end. libvirt opens them with
O_APPEND, so one that is emptied goes on from its beginning. The folder is QEMU's account's to fill with what it likes:
nothing is followed there, and a log that cannot be handled is told and left.
"""

import os
import stat
from pathlib import Path
from typing import Final

import structlog
from lxml import etree

log = structlog.get_logger()

LIMIT_BYTES: Final = 1024 * 1024


class QemuLogs:
    """The logs in `folder` of the VMs that were named here; every method but the first blocks on the file system."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths: dict[str, Path] = {}

    def expect(self, xml: str) -> None:
        """Learn which log the VM of this XML has; XML that libvirt will refuse has none."""
        try:
            domain = etree.fromstring(xml.encode(), etree.XMLParser(resolve_entities=False))
        except etree.XMLSyntaxError:
            return
        uuid, name = domain.findtext("uuid"), domain.findtext("name")
        if uuid and name and "/" not in name:
            self._paths[uuid] = self._path_of(name)

    def bound(self, uuid: str) -> None:
        """Empty the VM's log when it has grown too large."""
        path = self._paths.get(uuid)
        if path is None:
            return
        try:
            _empty_above(path, LIMIT_BYTES)
        except OSError as error:
            log.warning("qemu_log_not_bounded", path=str(path), reason=error.strerror)

    def remove(self, uuid: str) -> None:
        """Remove the log of a VM that is gone, and forget it."""
        path = self._paths.pop(uuid, None)
        if path is not None:
            self._unlink(path)

    def remove_named(self, name: str) -> None:
        """Remove the log of a VM that began after it was forgotten."""
        self._unlink(self._path_of(name))

    def _path_of(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _unlink(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("qemu_log_not_removed", path=str(path), reason=error.strerror)


def _empty_above(path: Path, limit_bytes: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_nlink <= 1 and status.st_size > limit_bytes:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)
