"""What was said: the console's tail and the booted XML of each vm, the program's log of each item.

Console and log are raw bytes, the last 64 KiB of them.
"""

import asyncio
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path

from broker.files.folders import make_private
from broker.wire.dispatches import MAX_CONSOLE_BYTES
from broker.wire.leases import MAX_LOG_BYTES
from broker.wire.names import DispatchId, ItemRef

_ITEMS_A_FOLDER = 1_000


class Tails:
    """Consoles and XML by dispatch (a vm that lost its item must not write over its successor's), logs by item."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tails"

    async def keep_console(self, dispatch: DispatchId, console: bytes) -> None:
        await asyncio.to_thread(_write, self._console(dispatch), console[-MAX_CONSOLE_BYTES:])

    async def keep_domain_xml(self, dispatch: DispatchId, xml: str) -> None:
        """Keep the XML with which a vm was booted."""
        await asyncio.to_thread(_write, self._domain_xml(dispatch), xml.encode())

    async def keep_log(self, item: ItemRef, log: bytes) -> None:
        """Keep the log of the item's last attempt; that of the one before is replaced."""
        await asyncio.to_thread(_write, self._log(item), log[-MAX_LOG_BYTES:])

    async def console(self, dispatch: DispatchId) -> bytes | None:
        return await asyncio.to_thread(_read, self._console(dispatch))

    async def domain_xml(self, dispatch: DispatchId) -> bytes | None:
        return await asyncio.to_thread(_read, self._domain_xml(dispatch))

    async def log(self, item: ItemRef) -> bytes | None:
        return await asyncio.to_thread(_read, self._log(item))

    async def remove(self, item: ItemRef, dispatches: Sequence[DispatchId]) -> None:
        """Remove whatever was kept of an item and of its vms; what is not there is no fault."""
        of_vms = (path(dispatch) for dispatch in dispatches for path in (self._console, self._domain_xml))
        await asyncio.to_thread(_remove, [self._log(item), *of_vms])

    def _console(self, dispatch: DispatchId) -> Path:
        return self._folder / "consoles" / dispatch[:2] / dispatch

    def _domain_xml(self, dispatch: DispatchId) -> Path:
        return self._folder / "domains" / dispatch[:2] / dispatch

    def _log(self, item: ItemRef) -> Path:
        thousand = str(item.number // _ITEMS_A_FOLDER)
        return self._folder / "logs" / item.stream.user / item.stream.name / thousand / str(item.number)


def _write(path: Path, tail: bytes) -> None:
    make_private(path.parent)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        beside.write_bytes(tail)
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
