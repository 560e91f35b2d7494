"""The libvirt that a launcher uses: one of its own, or the site's."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from launcher.hypervisor.account import Account
from launcher.hypervisor.errors import HypervisorError
from launcher.hypervisor.hypervisor import Hypervisor
from launcher.hypervisor.isolation import IsolationFact, judge, see_qemu
from launcher.hypervisor.private_daemon import PrivateDaemon, private_daemon

BACKLOG: Final = 128
# A site restarts its libvirtd for an update, and vms live on meanwhile.
SITES_SILENCE_LIMIT_S: Final = 180.0


@dataclass(frozen=True, slots=True)
class LibvirtInUse:
    """An open libvirt.

    Attributes:
        hypervisor: Speaks with it.
        account: Who its QEMU runs as.
        listener: Where the launcher's proxy is to listen; a guest on a user-mode interface sees it at 10.0.2.2.
        facts: What keeps vms apart from the node there; none are asked of a private one, for which all hold.
        daemon: The private one's; None for a site's.
        has_dac: Whether every VM's XML is to name the account; see `Capabilities`.
    """

    hypervisor: Hypervisor
    account: Account
    listener: socket.socket
    facts: tuple[IsolationFact, ...] = ()
    daemon: PrivateDaemon | None = None
    has_dac: bool = False

    @property
    def is_private(self) -> bool:
        return self.daemon is not None

    @property
    def proxy_port(self) -> int:
        """Return the listener's port."""
        port: int = self.listener.getsockname()[1]
        return port

    async def wait_ended(self) -> str:
        """Wait until a private libvirtd has ended for good; returns why. A site's may go and come as it likes."""
        if self.daemon is not None:
            return await self.daemon.wait_ended()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets that event")


@asynccontextmanager
async def private_libvirt(folder: Path, account: Account, *, show_kvm: bool) -> AsyncIterator[LibvirtInUse]:
    """Start a libvirtd of the launcher's own; see `private_daemon`, whose errors these are."""
    async with (
        private_daemon(folder, account, show_kvm=show_kvm) as daemon,
        Hypervisor(daemon.uri, log_folder=daemon.log_folder, restart=daemon.restart, autodestroy=False) as hypervisor,
    ):
        yield LibvirtInUse(hypervisor, account, daemon.listener, daemon=daemon)


@asynccontextmanager
async def site_libvirt(uri: str, account: str | None) -> AsyncIterator[LibvirtInUse]:
    """Use the site's libvirt, after one VM of no use has shown who its QEMU runs as.

    Args:
        uri: libvirt's name of it.
        account: Who the site says QEMU runs as, if it says so; a system's libvirt is told in every VM's XML.

    Raises:
        HypervisorError: It starts no VM, or its QEMU runs as an account whose files this launcher could not read.
    """
    async with Hypervisor(uri, silence_limit_s=SITES_SILENCE_LIMIT_S) as hypervisor:
        has_dac = (await hypervisor.capabilities()).has_dac
        chosen = _choose(account) if has_dac else None
        seen = await see_qemu(hypervisor, chosen)
        _check_account(seen.account, account)
        with contextlib.closing(socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)) as listener:
            facts = tuple(judge(seen, is_private=False))
            yield LibvirtInUse(hypervisor, seen.account, listener, facts, has_dac=has_dac)


def _choose(account: str | None) -> Account:
    if os.geteuid() != 0:
        raise HypervisorError(
            "the site's libvirt is the system's, which makes a vm's sockets and console as root: run this launcher as "
            "root, name a libvirt_uri of this account's own (qemu:///session), or none"
        )
    return Account.choose(account)


def _check_account(qemus: Account, named: str | None) -> None:
    if qemus.uid == 0:
        raise HypervisorError("the site's libvirt runs QEMU as root: name another `user` in its qemu.conf")
    if os.geteuid() not in (0, qemus.uid):
        raise HypervisorError(
            f"the site's libvirt runs QEMU as uid {qemus.uid}, and this launcher could not read what a vm writes: run "
            "it as root or as that account, name a libvirt_uri of this account's own, or none"
        )
    if named is not None and os.geteuid() == 0 and Account.choose(named).uid != qemus.uid:
        raise HypervisorError(
            f"the site's libvirt runs QEMU as uid {qemus.uid}, and not as {named}: correct `account`, or leave it out"
        )
