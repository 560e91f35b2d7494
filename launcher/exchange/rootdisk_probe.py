"""Whether libguestfs works on this node: its appliance is built and booted once, which takes some 20 s under emulation.

That it worked is remembered until the node boots again, or the programs or their settings are others. That it did not
is found out anew each time: it is soon told, or the node was too busy.

Source: guestfish(1); Linux's /proc/sys/kernel/random/boot_id.
"""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Final

from launcher.exchange.programs import SYSTEM_PATH, Account, Bounds, ProgramFailed, run_program
from launcher.exchange.rootdisk import (
    KERNEL_VARIABLE,
    MODULES_VARIABLE,
    PROGRAM,
    guestfs_environment,
    why_not_installed,
)

MEMORY_FILE: Final = "rootdisk.json"

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_LIMIT_S: Final = 240.0
"""A busy node without KVM takes five times less."""


async def why_unusable(account: Account, emulator: str, cache_folder: Path, scratch: Path) -> str | None:
    """Say why libguestfs does not work here, None if it does, or did since the node booted.

    Args:
        account: Who it runs as.
        emulator: The path of QEMU.
        cache_folder: Where the answer is kept; must exist.
        scratch: A folder of the account's, for the appliance.
    """
    missing = await asyncio.to_thread(why_not_installed, account)
    if missing is not None:
        return missing
    if is_known_to_work(account, emulator, cache_folder):
        return None
    try:
        bounds = Bounds(seconds=_LIMIT_S, environment=guestfs_environment(scratch))
        ended = await run_program(account, (PROGRAM, "-a", "/dev/null", "run"), bounds)
    except ProgramFailed as error:
        return str(error)
    if ended.status != 0:
        return f"libguestfs cannot start its appliance: {ended.last_words()}"
    _remember(cache_folder / MEMORY_FILE, _circumstances(account, emulator))
    return None


def is_known_to_work(account: Account, emulator: str, cache_folder: Path) -> bool:
    """Tell whether libguestfs worked since the node booted; it is not tried."""
    # Without the program there is nothing to remember of it.
    return shutil.which(PROGRAM, path=SYSTEM_PATH) is not None and _recall(cache_folder / MEMORY_FILE) == (
        _circumstances(account, emulator)
    )


def _circumstances(account: Account, emulator: str) -> dict[str, str]:
    program = shutil.which(PROGRAM, path=SYSTEM_PATH) or PROGRAM
    return {
        "boot_id": _BOOT_ID.read_text(encoding="ascii").strip(),
        "account": f"{account.uid}:{account.gid}",
        **{path: str(Path(path).stat().st_mtime_ns) for path in (program, emulator)},
        **{name: os.environ.get(name, "") for name in (KERNEL_VARIABLE, MODULES_VARIABLE)},
    }


def _recall(memory: Path) -> object:
    try:
        return json.loads(memory.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _remember(memory: Path, key: dict[str, str]) -> None:
    draft = memory.with_name(f"{memory.name}.{secrets.token_hex(4)}")
    try:
        draft.write_text(json.dumps(key), encoding="utf-8")
        draft.replace(memory)
    finally:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
