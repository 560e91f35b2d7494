"""Which exchanges this node can do: tried when the launcher starts, never assumed, and told in its log."""

import asyncio
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import structlog

from broker.wire.states import Exchange
from launcher.exchange import disks, rootdisk_probe, virtiofs
from launcher.exchange.programs import Bounds, ProgramFailed, run_program
from launcher.hypervisor.account import Account

log = structlog.get_logger()

_LOOK_LIMIT_S = 30.0
# What a QEMU needs to have a share by 9p, and nothing more; it is told to end at once.
_BARE = ("-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc", "-accel", "tcg", "-m", "16", "-S")
_9P_DEVICE = ("-device", "virtio-9p-pci,fsdev=probe,mount_tag=probe")
_AT_ONCE = ("-monitor", "stdio")
_ATTRIBUTE = "user.virtfs.probe"


@dataclass(frozen=True, slots=True)
class Abilities:
    """What of the exchanges works here, and whether the site lets vms have a network."""

    has_virtiofs: bool = False
    has_9p: bool = False
    has_disks: bool = False
    has_rootdisk: bool = False
    has_network: bool = True

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        able = {
            Exchange.NETWORK: self.has_network,
            Exchange.SHARED: self.has_virtiofs or self.has_9p,
            Exchange.DISK: self.has_disks,
            Exchange.ROOTDISK: self.has_rootdisk,
        }
        return tuple(exchange for exchange, is_able in able.items() if is_able)


async def probe_abilities(account: Account, emulator: str, cache: Path, scratch: Path) -> Abilities:
    """Find out, and tell in the log what works, and why what does not.

    Takes half a minute under emulation the first time after the node's boot, where libguestfs is installed.

    Args:
        account: Who QEMU and every helper run as.
        emulator: The path of QEMU.
        cache: The launcher's cache folder, where what took long is remembered.
        scratch: The launcher's scratch folder.
    """
    wanting = await why_wanting(account, emulator, cache, scratch)
    log.info("exchanges_probed", **{name: "yes" if reason is None else reason for name, reason in wanting.items()})
    return Abilities(*(reason is None for reason in wanting.values()))


async def why_wanting(
    account: Account, emulator: str, cache: Path, scratch: Path, *, has_time: bool = True
) -> dict[str, str | None]:
    """Try every way but the network, as `probe_abilities` does; return why it does not work, None where it does.

    Without `has_time`, libguestfs is left out.
    """
    folder = scratch / "probe"
    folder.mkdir(mode=0o700)
    account.take(folder)
    try:
        wanting = {
            "virtiofs": await virtiofs.why_unusable(account, folder),
            "9p": await _why_no_9p(account, emulator, folder),
            "disk": await disks.why_unusable(account, folder),
        }
        if has_time:
            wanting["rootdisk"] = await rootdisk_probe.why_unusable(account, emulator, cache, folder)
        return wanting
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _why_no_9p(account: Account, emulator: str, folder: Path) -> str | None:
    """Start a QEMU that shares the folder; it keeps what the guest says of a file in attributes of the file's."""
    backend = ("-fsdev", f"local,id=probe,path={folder},security_model=mapped-xattr")
    try:
        os.setxattr(folder, _ATTRIBUTE, b"probe")
        command = (emulator, *_BARE, *backend, *_9P_DEVICE, *_AT_ONCE)
        ended = await run_program(account, command, Bounds(seconds=_LOOK_LIMIT_S), words=b"quit\n")
    except OSError as error:
        return f"the scratch folder's file system keeps no extended attributes: {error.strerror}"
    except ProgramFailed as error:
        return str(error)
    return None if ended.status == 0 else f"this node's QEMU shares no folder by 9p: {ended.last_words()}"
