"""What must hold on a node before it takes an item: found out at start, told in one sentence, not at an item's cost."""

import asyncio
import shutil
from pathlib import Path

from launcher.hypervisor.account import Account
from launcher.images import CacheFailed
from launcher.packages import Part, lacks

_TIMEOUT_S = 10


async def check_images_usable(account: Account, image: Path) -> None:
    """Return when images can be looked into, and read by the account that QEMU runs under.

    Raises:
        CacheFailed: they cannot; the text says what to do.
    """
    if shutil.which("qemu-img") is None:
        raise CacheFailed(lacks("qemu-img", Part.QEMU_IMG))
    if not await _can_read(account, image):
        raise CacheFailed(
            f"QEMU's account (uid {account.uid}) cannot read {image}: let it pass through every folder of that path, "
            "or name another --cache"
        )


async def _can_read(account: Account, path: Path) -> bool:
    process = await asyncio.create_subprocess_exec(
        *("test", "-r", str(path)),
        user=None if account.is_own else account.uid,
        group=None if account.is_own else account.gid,
        extra_groups=None if account.is_own else account.groups,
    )
    async with asyncio.timeout(_TIMEOUT_S):
        return await process.wait() == 0
