"""Which exchanges this node can do: found out when the launcher starts, never assumed, and told in its log."""

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

import structlog

from broker.wire.states import Exchange
from launcher.exchange import disks, rootdisk, virtiofs
from launcher.exchange.programs import SYSTEM_PATH, Bounds, ProgramFailed, run_program
from launcher.hypervisor.account import Account

log = structlog.get_logger()

_LOOK_LIMIT_S = 30.0
_9P_DEVICE = b'"virtio-9p-pci"'


@dataclass(frozen=True, slots=True)
class Abilities:
    """What of the exchanges works here; the network always does."""

    has_virtiofs: bool = False
    has_9p: bool = False
    has_disks: bool = False
    has_rootdisk: bool = False

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        able = {
            Exchange.NETWORK: True,
            Exchange.SHARED: self.has_virtiofs or self.has_9p,
            Exchange.DISK: self.has_disks,
            Exchange.ROOTDISK: self.has_rootdisk,
        }
        return tuple(exchange for exchange, is_able in able.items() if is_able)


async def probe_abilities(account: Account, emulator: str, scratch: Path) -> Abilities:
    """Find out, and tell in the log what works, and why what does not.

    Args:
        account: Who QEMU and every helper run as.
        emulator: The path of QEMU.
        scratch: The launcher's scratch folder.
    """
    folder = scratch / "probe"
    folder.mkdir(mode=0o700)
    account.take(folder)
    try:
        wanting = {
            "virtiofs": await virtiofs.why_unusable(account, folder),
            "9p": await _why_no_9p(account, emulator),
            "disk": _why_no_disks(),
            "rootdisk": await asyncio.to_thread(rootdisk.why_unusable, account),
        }
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    log.info("exchanges_probed", **{name: "yes" if reason is None else reason for name, reason in wanting.items()})
    return Abilities(*(reason is None for reason in wanting.values()))


async def _why_no_9p(account: Account, emulator: str) -> str | None:
    try:
        listed = await run_program(account, (emulator, "-device", "help"), Bounds(seconds=_LOOK_LIMIT_S))
    except ProgramFailed as error:
        return str(error)
    return None if _9P_DEVICE in listed.out else "this node's QEMU is built without 9p"


def _why_no_disks() -> str | None:
    missing = [name for name in disks.PROGRAMS if shutil.which(name, path=SYSTEM_PATH) is None]
    return f"{', '.join(missing)} not installed (e2fsprogs)" if missing else None
