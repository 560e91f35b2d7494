"""Kernel modules, where an image has a modprobe: udev may be slow or missing, and not every device has its event."""

import shutil
import subprocess

MODPROBE_TIMEOUT_S = 30
MODPROBE_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"


def load_module(name: str) -> None:
    """Load what is there as a module; that it is not, or that there is no modprobe, shows in what is missing later."""
    modprobe = shutil.which("modprobe", path=MODPROBE_PATH)
    if modprobe is None:
        return
    try:
        subprocess.run([modprobe, "-q", name], check=False, timeout=MODPROBE_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"vmbroker: modprobe {name} failed: {error}", flush=True)
