"""What a vm's disks may take on the node, and one loop that looks after the files of all vms of a launcher.

An overlay grows as its guest writes, up to the size that the guest sees, which may be far more than the stream asked
for and the slot set aside. Nobody tells when it does, so every folder is looked through again and again: a file counts
by the blocks that it takes. Console logs are cut in passing. One loop does it all, so that idle vms cost little.

What holds: a guest that writes at R MiB/s takes at most its budget, and R MiB/s for a look's interval and the time in
which libvirt destroys a vm, one or two seconds; and never more than its disks have room for.

Source: stat(2), st_blocks.
"""

import asyncio
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn

from launcher.node.console import TRIM_BYTES, Console

LOOK_S: Final = 1.0
MAX_FILES: Final = 256
"""A vm's folder holds a handful; a look ends here, so that no folder can make the looks at the others late."""

_BLOCK_BYTES: Final = 512
_MIB: Final = 1 << 20


class Budget:
    """One vm's files while it runs: `limit_mib` for all that lies in its folder, subfolders apart."""

    def __init__(self, folder: Path, limit_mib: int, console: Console) -> None:
        self._folder = folder
        self._limit_mib = limit_mib
        self._console = console
        self._broken: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def exceeded(self) -> str:
        """Wait until the files take more than they may; return a sentence that says so."""
        return await asyncio.shield(self._broken)

    def look(self) -> str | None:
        """Cut the console's log if it has to be; return why the files are too much, None when they are not. Blocks."""
        taken_bytes = files = 0
        with os.scandir(self._folder) as entries:
            for entry in entries:
                files += 1
                if files > MAX_FILES:
                    return f"the vm's folder on the node holds more than {MAX_FILES} files"
                status = _status(entry)
                if status is None or not stat.S_ISREG(status.st_mode):
                    continue
                taken_bytes += status.st_blocks * _BLOCK_BYTES
                if entry.name == self._console.name and status.st_size > TRIM_BYTES:
                    self._console.trim()
        if taken_bytes <= self._limit_mib * _MIB:
            return None
        return (
            f"the vm's disks took {-(-taken_bytes // _MIB)} MiB on the node, more than the {self._limit_mib} MiB of "
            "the stream's needs.disk_mib: raise it, or have the program write less"
        )

    def settle(self, sentence: str) -> None:
        """Tell who waits that the budget is exceeded."""
        if not self._broken.done():
            self._broken.set_result(sentence)


class Budgets:
    """The vms' budgets, looked after by whoever serves."""

    def __init__(self) -> None:
        self._watched: set[Budget] = set()
        self._some = asyncio.Event()

    @contextmanager
    def watching(self, budget: Budget) -> Iterator[None]:
        """Have a vm's files looked after for the block."""
        self._watched.add(budget)
        self._some.set()
        try:
            yield
        finally:
            self._watched.remove(budget)

    async def serve(self) -> NoReturn:
        """Look through the folders, for ever; sleep while there are none."""
        while True:
            if not self._watched:
                self._some.clear()
                await self._some.wait()
            for budget, sentence in await asyncio.to_thread(_broken, tuple(self._watched)):
                budget.settle(sentence)
            await asyncio.sleep(LOOK_S)


def _broken(budgets: tuple[Budget, ...]) -> list[tuple[Budget, str]]:
    found = []
    for budget in budgets:
        try:
            sentence = budget.look()
        except OSError:
            # The vm has just ended and its folder is gone; one that cannot be read is told by whatever needs it next.
            continue
        if sentence is not None:
            found.append((budget, sentence))
    return found


def _status(entry: "os.DirEntry[str]") -> os.stat_result | None:
    try:
        return entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
