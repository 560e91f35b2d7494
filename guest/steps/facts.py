"""What the client can tell of the vm it is in."""

import os
from pathlib import Path

PROGRAM_NAME = "vmbroker-guest"
_VERSION_FILE = Path(__file__).parent.parent / "VERSION"


def client_version() -> str:
    """Return the version: of the guest disk where that brought us, else of the installed distribution."""
    try:
        return _VERSION_FILE.read_text().strip()
    except FileNotFoundError:
        from importlib.metadata import version  # noqa: PLC0415 # costs a vm's start-up, and is never needed there

        return version("vmbroker")


def client_name() -> str:
    return f"{PROGRAM_NAME}/{client_version()}"


def guest_os(release_file: Path = Path("/etc/os-release")) -> str:
    """Return the system's own name for itself. Source: os-release(5), PRETTY_NAME."""
    try:
        lines = release_file.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            return value.strip().strip("\"'")[:200]
    return f"{os.uname().sysname} {os.uname().release}"


def uptime_s() -> float:
    """Return the seconds since the kernel started."""
    return float(Path("/proc/uptime").read_text().split()[0])


def memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def peak_rss_bytes() -> int:
    """Return the most memory this process ever had. Source: proc(5), VmHWM."""
    for line in Path("/proc/self/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == "VmHWM":
            return int(value.split()[0]) * 1024
    return 0


def has_network_device(devices: Path = Path("/sys/class/net")) -> bool:
    """Tell whether there is a device behind any of the network's interfaces; loopback and tunnels have none."""
    return any(devices.glob("*/device"))
