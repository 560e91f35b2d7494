"""What must hold on a node before it takes an item: found out at start, told in one sentence, not at an item's cost."""

import os
import shutil
from pathlib import Path

from launcher.hypervisor.access import may
from launcher.hypervisor.account import Account
from launcher.images import CacheFailed
from launcher.packages import Part, lacks


async def check_images_usable(account: Account, image: Path) -> None:
    """Return when images can be looked into, and read by the account that QEMU runs under.

    Raises:
        CacheFailed: they cannot; the text says what to do.
    """
    if shutil.which("qemu-img") is None:
        raise CacheFailed(lacks("qemu-img", Part.QEMU_IMG))
    if not await may(account, os.R_OK, image):
        raise CacheFailed(
            f"QEMU's account (uid {account.uid}) cannot read {image}: let it pass through every folder of that path, "
            "or name another --cache"
        )
