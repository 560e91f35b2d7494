"""`--install-guest`: the stub put into the image of a machine that is shut down, by libguestfs, on the desktop.

Source: virt-customize(1), guestfs(3) "ENVIRONMENT VARIABLES".
"""

import asyncio
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from broker.desktop.failure import DesktopFailure
from broker.desktop.programs import run
from broker.desktop.stub import install_script

TIMEOUT_S = 900.0
"""libguestfs boots a small system of its own, which takes minutes where there is no KVM."""
_PROGRAM = "virt-customize"
# libguestfs starts QEMU itself: a desktop's libvirt may run it under an account that cannot read the image.
_ENVIRONMENT = {"LIBGUESTFS_BACKEND": "direct"}
_EMULATED = {**_ENVIRONMENT, "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg"}


async def install_guest(image: Path, log: Callable[[str], None]) -> None:
    """Install the stub into `image`, a copy that may be changed and that no VM has open. Idempotent.

    Files that SELinux would not let systemd read are relabelled. `log` is told what goes on, a line at a time.

    Raises:
        DesktopFailure: virt-customize is missing or failed, e.g. because the image holds no Linux that it knows.
    """
    log(f"{image.name}: installing the guest's stub, which takes a minute or so")
    with tempfile.TemporaryDirectory(prefix="vmbroker-install-") as folder:
        script = Path(folder) / "install"
        await asyncio.to_thread(script.write_text, install_script())
        arguments = ("-a", str(image), "--no-network", "--run", str(script), "--selinux-relabel")
        ended = await run(_PROGRAM, *arguments, timeout_s=TIMEOUT_S, environment=_ENVIRONMENT)
        if ended.status != 0 and "guestfs_launch failed" in ended.err:
            # A /dev/kvm that is there need not work, and libguestfs asks no more than that it is there.
            log(f"{image.name}: libguestfs could not start with KVM; once more without")
            ended = await run(_PROGRAM, *arguments, timeout_s=TIMEOUT_S, environment=_EMULATED)
    if ended.status != 0:
        raise DesktopFailure(f"the stub could not be installed into {image}: {_reason(ended.err)}")
    log(f"{image.name}: the guest's stub is installed")


def _reason(complaints: str) -> str:
    """Return what is wrong in one sentence, with a way out where the cause is a known one."""
    if "no operating systems were found" in complaints:
        return "no operating system was found on it; install the stub inside the machine, by /guest/install"
    if "supermin" in complaints and not _kernels_can_be_read():
        return "libguestfs may not read the kernel in /boot; ask root for: chmod a+r /boot/vmlinuz-*"
    told = next(
        (line for line in complaints.splitlines() if line.startswith(("vmbroker: ", f"{_PROGRAM}: error: "))), ""
    )
    return told.removeprefix("vmbroker: ").removeprefix(f"{_PROGRAM}: error: ") or complaints.strip()[-300:]


def _kernels_can_be_read() -> bool:
    return any(os.access(kernel, os.R_OK) for kernel in Path("/boot").glob("vmlinuz-*"))
