"""That a vm was started here is remembered until the node boots again, or something that it depends on is another.

That none could be started is found out anew each time: it is soon told, and somebody may have mended it.
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from broker.wire.states import Exchange
from launcher.advertise.answer import launcher_version
from launcher.durable import write_durably
from launcher.hypervisor.accelerator import BOOT_ID, describe_device
from launcher.hypervisor.account import Account
from launcher.hypervisor.private_daemon import SYSTEM_PATH
from launcher.settings import Settings

MEMORY_FILE: Final = "advertise.json"
_PROGRAMS: Final = ("libvirtd", "qemu-img", "mkfs.ext4", "debugfs", "virtiofsd")
_PLACES: Final = f"{SYSTEM_PATH}:/usr/libexec:/usr/lib/qemu"
_SYSCTLS: Final = (
    Path("/proc/sys/user/max_user_namespaces"),
    Path("/proc/sys/kernel/unprivileged_userns_clone"),
    Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
)
"""With these a node forbids ordinary users the namespaces that a launcher needs."""

Circumstances = dict[str, str]


def circumstances(settings: Settings, account: Account, emulator: str) -> Circumstances:
    """Return what the answer depends on."""
    return {
        "boot_id": BOOT_ID.read_text(encoding="ascii").strip(),
        "launcher": f"{launcher_version()} in {Path(__file__).parent}",
        "account": f"{os.geteuid()} {account}",
        "kvm": describe_device(),
        "settings": f"{settings.libvirt_uri} {settings.network} {settings.cache} {settings.scratch}",
        "sysctls": " ".join(path.read_text().strip() if path.exists() else "-" for path in _SYSCTLS),
        **dict(_programs(emulator)),
    }


def recall(folder: Path, now: Circumstances) -> tuple[Exchange, ...] | None:
    """Return the exchanges that worked when a vm was started in these circumstances, None if none was."""
    try:
        saved = json.loads((folder / MEMORY_FILE).read_bytes())
        return tuple(map(Exchange, saved["exchanges"])) if saved["circumstances"] == now else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def remember(folder: Path, now: Circumstances, exchanges: tuple[Exchange, ...]) -> None:
    """Keep it in a folder of this account's alone.

    Raises:
        OSError: the disk does not take it.
    """
    kept = {"circumstances": now, "exchanges": [exchange.value for exchange in exchanges]}
    write_durably(folder / MEMORY_FILE, json.dumps(kept).encode())


def _programs(emulator: str) -> Iterator[tuple[str, str]]:
    path = f"{os.environ.get('PATH', '')}:{_PLACES}"
    for name in (emulator, *_PROGRAMS):
        found = shutil.which(name, path=path)
        yield name, "none" if found is None else f"{found} of {Path(found).stat().st_mtime_ns}"
