"""A vm's console log: kept small while the guest writes it, and its tail for the verdict.

QEMU appends to the file without end, and a guest may write what it likes, so a log that grew too large is moved aside
and begun anew; between the two a few bytes may be lost. Only the tail is ever told.
"""

import asyncio
import os
from pathlib import Path
from typing import NoReturn

TRIM_BYTES = 4 << 20
KEPT_BYTES = 64 << 10
_LOOK_S = 2.0


class Console:
    """The log at `path`, and beside it the end of what was trimmed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._earlier = path.with_suffix(".earlier")

    def trim(self) -> None:
        """Begin the log anew when it is too large, keeping the end of the old one."""
        try:
            if self._path.stat().st_size > TRIM_BYTES:
                self._earlier.write_bytes(_end_of(self._path, KEPT_BYTES))
                os.truncate(self._path, 0)
        except FileNotFoundError:
            # QEMU has not opened it yet.
            return

    def tail(self, limit_bytes: int) -> bytes:
        """Return the last bytes that the guest wrote, empty when it wrote none."""
        now = _end_of(self._path, limit_bytes)
        return (_end_of(self._earlier, limit_bytes) + now)[-limit_bytes:]


async def keep_small(console: Console) -> NoReturn:
    """Trim the log whenever it is too large, until cancelled."""
    while True:
        await asyncio.sleep(_LOOK_S)
        await asyncio.to_thread(console.trim)


def _end_of(path: Path, limit_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - limit_bytes))
            return file.read(limit_bytes)
    except FileNotFoundError:
        return b""
