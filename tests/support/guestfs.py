"""libguestfs on machines without a kernel of their own, such as containers: it gets one that was only unpacked."""

import os
import shutil
from pathlib import Path

from tests.support.grid import built_image


def guestfs_environment(folder: Path) -> dict[str, str]:
    """Return what to add to the environment of programs that use libguestfs; empty where /boot has a kernel for them.

    The kernel is put into `folder`, since QEMU's account cannot look into root's home, where the images are built.

    Source: supermin(1), "ENVIRONMENT VARIABLES".
    """
    if any(os.access(kernel, os.R_OK) for kernel in Path("/boot").glob("vmlinuz-*")):
        return {}
    kernel = folder / "kernel"
    shutil.copytree(built_image("exchange").parent / "kernel", kernel, copy_function=_link_or_copy)
    (modules,) = (kernel / "modules").iterdir()
    return {
        "SUPERMIN_KERNEL": str(kernel / "vmlinuz"),
        "SUPERMIN_KERNEL_VERSION": modules.name,
        "SUPERMIN_MODULES": str(modules),
    }


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
