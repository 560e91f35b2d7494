"""Switching the vm off."""

import ctypes
import os
import subprocess
import time
from pathlib import Path

RB_POWER_OFF = 0x4321FEDC
"""Source: reboot(2)."""
SETTLE_S = 0.2


def power_off() -> None:
    """Switch the machine off; returns only when every way failed.

    Not an orderly shutdown: the disk is an overlay that is thrown away, and services may take long to stop. reboot(2)
    works whatever PID 1 is; the others serve where a security policy keeps it from us.
    """
    time.sleep(SETTLE_S)  # what was written last still travels through journald to the console
    os.sync()
    ctypes.CDLL(None).reboot(RB_POWER_OFF)
    for command in (["systemctl", "poweroff", "--force", "--force"], ["poweroff", "-f"]):
        try:
            subprocess.run(command, check=False, timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            continue
    try:
        Path("/proc/sysrq-trigger").write_text("o")
    except OSError as error:
        print(f"vmbroker: this vm cannot be switched off from within: {error.strerror}", flush=True)
