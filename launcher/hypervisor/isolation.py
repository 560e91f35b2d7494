"""What keeps a VM apart from its node: not read from any configuration, but seen at a QEMU that is started for it.

The VM has no disk and lives for a second. Its QEMU is found among this node's processes by the VM's UUID in its command
line, so a libvirt whose QEMU cannot be seen from here isolates nothing that anybody could vouch for.

Source: proc(5), cgroups(7), network_namespaces(7).
"""

import asyncio
import contextlib
import os
import shutil
import stat
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from launcher.hypervisor.account import Account
from launcher.hypervisor.errors import HypervisorError
from launcher.hypervisor.hypervisor import Hypervisor
from launcher.hypervisor.private_daemon import private_daemon

PROC: Final = Path("/proc")
KVM_DEVICE: Final = Path("/dev/kvm")
PROBE_XML: Final = """\
<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>16</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64'>hvm</type></os>
  <devices><interface type='user'><model type='virtio'/></interface><memballoon model='none'/></devices>
  {label}
</domain>
"""
ACCOUNT_LABEL: Final = "<seclabel type='static' model='dac' relabel='no'><label>{label}</label></seclabel>"
# A start takes half a second; libvirt that asks QEMU for its capabilities again at every start takes 44 s.
SLOW_START_S: Final = 15.0


class IsolationFact(NamedTuple):
    """One thing that keeps vms apart from the node: whether it holds here, and a sentence for the site."""

    name: str
    holds: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class QemuSeen:
    """A QEMU process of a libvirt's, as /proc told of it while it ran.

    Attributes:
        account: Who it runs as.
        is_descendant: Whether it was started, by however many steps, by this process.
        cgroup: Its lines of /proc/PID/cgroup.
        interfaces: The network interfaces that it could use.
        start_s: How long libvirt took to start it.
    """

    account: Account
    is_descendant: bool
    cgroup: str
    interfaces: tuple[str, ...]
    start_s: float


async def isolation(account: Account, scratch: Path, *, libvirt_uri: str | None = None) -> list[IsolationFact]:
    """Tell what keeps VMs apart from this node; takes a few seconds, and needs no launcher to run.

    Args:
        account: Who QEMU is to run as; of no effect at a `libvirt_uri` whose libvirt is no system's: it decides itself.
        scratch: A folder for a private libvirtd's files; what is made there is removed.
        libvirt_uri: The site's libvirt, if the launcher is to use one.

    Raises:
        HypervisorError: No VM can be started here at all; the text says what to change.
    """
    async with _hypervisor(account, scratch, libvirt_uri) as hypervisor:
        label = account if (await hypervisor.capabilities()).has_dac else None
        # libvirt asks a QEMU that is new to it what it can do; whether it asks at every start is seen at the second.
        await see_qemu(hypervisor, label)
        seen = await see_qemu(hypervisor, label)
    return judge(seen, is_private=libvirt_uri is None)


def label_of(account: Account | None) -> str:
    """Return the label that has libvirt run QEMU as this account and give no file to it, none for None."""
    return "" if account is None else ACCOUNT_LABEL.format(label=account.dac_label)


async def see_qemu(hypervisor: Hypervisor, account: Account | None = None) -> QemuSeen:
    """Start a VM of no use, look at its QEMU, and destroy it; takes a second or two.

    Args:
        hypervisor: Where.
        account: Who QEMU is to run as, if its libvirt asks.

    Raises:
        HypervisorError: It could not be started, runs where this process cannot see it, or another process shows its
            UUID as well.
    """
    identity = str(uuid.uuid4())
    started_at_s = time.monotonic()
    try:
        await hypervisor.start_vm(
            PROBE_XML.format(name=f"vmb-probe-{identity[:8]}", uuid=identity, label=label_of(account))
        )
        start_s = time.monotonic() - started_at_s
        emulator = Path((await hypervisor.capabilities()).emulator)
        return await asyncio.to_thread(_see, identity, emulator, start_s)
    finally:
        await hypervisor.destroy(identity)


def judge(seen: QemuSeen, *, is_private: bool) -> list[IsolationFact]:
    """Say what the QEMU that was seen means for the site."""
    return [
        _in_job(seen),
        _network(seen, is_private=is_private),
        _unprivileged(seen),
        _kvm(seen, is_private=is_private),
    ]


def _in_job(seen: QemuSeen) -> IsolationFact:
    is_same_cgroup = seen.cgroup == _read(PROC / "self" / "cgroup")
    if seen.is_descendant and is_same_cgroup:
        sentence = "QEMU is a process of the launcher's own job: its limits hold for vms, and its end is theirs"
    elif seen.is_descendant:
        sentence = "QEMU is below the launcher, but in another control group: the job's limits do not hold for vms"
    else:
        sentence = (
            "QEMU belongs to the site's libvirtd, not to the job: the batch system neither counts nor ends it; leave "
            "libvirt_uri out to have vms inside the job"
        )
    return IsolationFact("qemu_in_job", seen.is_descendant and is_same_cgroup, sentence)


def _network(seen: QemuSeen, *, is_private: bool) -> IsolationFact:
    only_with_open = 'so the exchange `network` is offered only with network = "open"'
    if seen.interfaces != ("lo",):
        sentence = (
            f"QEMU has the network {', '.join(seen.interfaces)}: a vm with an interface would reach whatever the "
        )
        return IsolationFact("network_empty", False, f"{sentence}node reaches, {only_with_open}")
    if is_private:
        return IsolationFact("network_empty", True, "vms reach nothing but the launcher's proxy")
    sentence = "QEMU has the network lo alone: a vm reaches no host, and the launcher's proxy only if that lo is the "
    return IsolationFact("network_empty", False, f"{sentence}node's own, {only_with_open}")


def _unprivileged(seen: QemuSeen) -> IsolationFact:
    if seen.account.uid != 0:
        return IsolationFact("qemu_unprivileged", True, f"QEMU runs as uid {seen.account.uid}")
    return IsolationFact(
        "qemu_unprivileged", False, "QEMU runs as root: name another `user` in libvirt's qemu.conf, or no libvirt_uri"
    )


def _kvm(seen: QemuSeen, *, is_private: bool) -> IsolationFact:
    if is_private:
        return IsolationFact("kvm_seen_right", True, f"{KVM_DEVICE} is shown to QEMU only when it works")
    if seen.start_s > SLOW_START_S or not _may_open_kvm(seen.account):
        return IsolationFact(
            "kvm_seen_right",
            False,
            f"libvirtd can open {KVM_DEVICE} and QEMU cannot, so libvirt asks QEMU anew at every start (this one took "
            f"{seen.start_s:.1f} s): give it to QEMU's group (`chgrp kvm {KVM_DEVICE}; chmod 660 {KVM_DEVICE}`)",
        )
    return IsolationFact("kvm_seen_right", True, f"libvirtd and QEMU see the same {KVM_DEVICE}, or none")


def _may_open_kvm(account: Account) -> bool:
    """Tell whether QEMU may open it, or there is none."""
    try:
        status = KVM_DEVICE.stat()
    except FileNotFoundError:
        return True
    if account.uid in (0, status.st_uid):
        return True
    bits = (
        stat.S_IRGRP | stat.S_IWGRP if status.st_gid in {account.gid, *account.groups} else stat.S_IROTH | stat.S_IWOTH
    )
    return status.st_mode & bits == bits


@contextlib.asynccontextmanager
async def _hypervisor(account: Account, scratch: Path, libvirt_uri: str | None) -> AsyncIterator[Hypervisor]:
    if libvirt_uri is not None:
        async with Hypervisor(libvirt_uri) as hypervisor:
            yield hypervisor
        return
    # As short as the launcher's own: a longer path might need what a run does not.
    folder = scratch / "i"
    try:
        async with private_daemon(folder, account, show_kvm=False) as daemon, Hypervisor(daemon.uri) as hypervisor:
            yield hypervisor
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _see(identity: str, emulator: Path, start_s: float) -> QemuSeen:
    """Describe the only process that shows the UUID.

    Anybody may show it who has read it at QEMU, so nobody is believed who is not alone with it, before and after.
    """
    found = _showing(identity, emulator)
    seen = _describe(PROC / str(found[0]), start_s) if len(found) == 1 else None
    if len(found) > 1 or _showing(identity, emulator) != found:
        raise HypervisorError(
            "more than one process shows the UUID of a vm that was started to see its QEMU: try again, and look with "
            f"ps whose processes do; seen were {', '.join(map(str, found))}"
        )
    if seen is None:
        raise HypervisorError(
            "libvirt_uri names a libvirt whose QEMU this launcher cannot see: name one of this very node, or none"
        )
    return seen


def _showing(identity: str, emulator: Path) -> list[int]:
    """Return the processes with this UUID in their command line: for root, who may look, only those that are QEMU."""
    found = []
    for folder in PROC.glob("[1-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            words = (folder / "cmdline").read_bytes().replace(b"=", b"\0")
            if f"uuid\0{identity}".encode() in words and _may_be(folder / "exe", emulator):
                found.append(int(folder.name))
    return sorted(found)


def _may_be(program: Path, emulator: Path) -> bool:
    if os.geteuid() != 0:
        return True
    try:
        return program.samefile(emulator)
    except PermissionError:
        # Root without CAP_SYS_PTRACE, as in most containers, is not told.
        return True


def _describe(folder: Path, start_s: float) -> QemuSeen:
    status = _status(int(folder.name))
    account = Account(
        uid=int(status["Uid"].split()[1]),
        gid=int(status["Gid"].split()[1]),
        groups=tuple(map(int, status["Groups"].split())),
    )
    # Two lines of heading, then one for each interface.
    devices = _read(folder / "net" / "dev").splitlines()[2:]
    return QemuSeen(
        account=account,
        is_descendant=_descends_from_us(int(folder.name)),
        cgroup=_read(folder / "cgroup"),
        interfaces=tuple(sorted(line.partition(":")[0].strip() for line in devices)),
        start_s=start_s,
    )


def _descends_from_us(pid: int) -> bool:
    while pid > 1:
        if pid == os.getpid():
            return True
        pid = int(_status(pid)["PPid"])
    return False


def _status(pid: int) -> dict[str, str]:
    lines = _read(PROC / str(pid) / "status").splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
