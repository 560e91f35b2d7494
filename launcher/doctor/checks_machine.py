"""The processor, KVM, the programs, the account, and what the kernel allows an ordinary user."""

import asyncio
import os
import pwd
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from broker.wire.states import Accelerator
from launcher.doctor.findings import Finding, fail, ok, warn
from launcher.doctor.node import Node
from launcher.hypervisor.accelerator import KVM_DEVICE, probe_accelerator
from launcher.hypervisor.access import may
from launcher.hypervisor.account import Account
from launcher.hypervisor.emulator import find_emulator
from launcher.hypervisor.errors import HypervisorError
from launcher.hypervisor.private_daemon import SYSTEM_PATH
from launcher.node_files import node_files
from launcher.packages import Part, how_to_install
from launcher.processes import communicated

CPU_INFO: Final = Path("/proc/cpuinfo")
_VERSION_LIMIT_S: Final = 10.0
_KVM_RULE: Final = (
    "give it to the group kvm, as udev does on most distributions: chgrp kvm /dev/kvm; chmod 660 /dev/kvm; and "
    f"lasting, {node_files()}/udev/65-kvm.rules"
)

_PROGRAMS: Final = (
    (Part.QEMU_IMG, ("qemu-img",)),
    (Part.LIBVIRTD, ("libvirtd",)),
    (Part.E2FSPROGS, ("mkfs.ext4", "debugfs")),
)
_VERSIONED: Final = frozenset({Part.QEMU_IMG, Part.LIBVIRTD})

_SYSCTLS: Final[tuple[tuple[str, Callable[[int], bool], str], ...]] = (
    ("user.max_user_namespaces", lambda value: value > 0, "set it above 0: sysctl -w user.max_user_namespaces=15000"),
    ("kernel.unprivileged_userns_clone", lambda value: value == 1, "sysctl -w kernel.unprivileged_userns_clone=1"),
    (
        "kernel.apparmor_restrict_unprivileged_userns",
        lambda value: value == 0,
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ),
)


async def processor(node: Node) -> Iterable[Finding]:
    """Whether the processor says that it can run VMs."""
    del node
    text = await asyncio.to_thread(CPU_INFO.read_text, encoding="utf-8", errors="replace")
    flags = next((line.partition(":")[2].split() for line in text.splitlines() if line.startswith("flags")), [])
    found = [flag for flag in ("vmx", "svm") if flag in flags]
    if found:
        return [ok(f"{len(os.sched_getaffinity(0))} processors for this process, with {found[0]}")]
    mend = "switch virtualization on in the firmware, or nested virtualization on the host of this VM"
    return [warn("the processor shows neither vmx nor svm: vms run by emulation, ten times slower or more", mend)]


async def kvm(node: Node) -> Iterable[Finding]:
    """Whether QEMU's account may open /dev/kvm."""
    try:
        device = KVM_DEVICE.stat()
    except FileNotFoundError:
        return [warn(f"there is no {KVM_DEVICE}", "load the module: modprobe kvm_intel, or kvm_amd")]
    mode = f"{KVM_DEVICE} is of uid {device.st_uid}, gid {device.st_gid}, mode {stat.S_IMODE(device.st_mode):04o}"
    is_roots_only = device.st_uid == 0 and not stat.S_IMODE(device.st_mode) & 0o066
    if is_roots_only:
        trap = ""
        if node.settings.libvirt_uri is not None:
            trap = "; libvirtd, as root, sees it and QEMU does not, which costs 44 s for each vm"
        return [warn(f"{mode}: nobody but root may use it{trap}", _KVM_RULE)]
    if not await may(node.account, os.R_OK | os.W_OK, KVM_DEVICE):
        mend = f"{_KVM_RULE}; then: usermod -aG kvm ACCOUNT" if device.st_gid == 0 else "usermod -aG kvm ACCOUNT"
        return [warn(f"{mode}: uid {node.account.uid}, which runs QEMU, may not use it", mend)]
    return [ok(f"{mode}, and uid {node.account.uid}, which runs QEMU, may use it")]


async def accelerator(node: Node) -> Iterable[Finding]:
    """Whether KVM works, tried with a guest that has to get through many instructions."""
    try:
        probe = await probe_accelerator(node.account, node.own_cache, qemu=node.emulator)
    except HypervisorError as error:
        return [fail(str(error), "mend what QEMU says; see `programs`")]
    if probe.accelerator is Accelerator.KVM:
        return [ok(probe.reason)]
    if node.settings.accelerator == "kvm":
        return [fail(f"{probe.reason}; the settings ask for KVM all the same", "mend KVM, or set accelerator = auto")]
    return [warn(f"{probe.reason}; vms run by emulation, ten times slower or more", "see `processor` and `kvm`")]


async def programs(node: Node) -> Iterable[Finding]:
    """QEMU, its tools and libvirtd, with their versions."""
    emulator = find_emulator()
    told = [] if emulator is None else [await _version(emulator)]
    lacking = [Part.QEMU] if emulator is None else []
    for part, names in _PROGRAMS:
        # As the launcher looks for them: qemu-img where its own commands are, the others in the system's folders too.
        places = None if part is Part.QEMU_IMG else f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"
        paths = [shutil.which(name, path=places) for name in names]
        if None in paths:
            lacking.append(part)
        elif part in _VERSIONED:
            told += [await _version(path) for path in paths if path is not None]
    findings = [ok("; ".join(told))] if told else []
    if lacking:
        findings.append(fail(f"not installed: {', '.join(lacking)}", how_to_install(node.family, *lacking)))
    return findings


async def _version(program: str) -> str:
    """Return a program's path and the first line of what it says of its version."""
    process = await asyncio.create_subprocess_exec(
        *(program, "--version"), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    words, _ = await communicated(process, _VERSION_LIMIT_S)
    number = re.search(r"\d+(\.\d+)+", words.decode(errors="replace"))
    return f"{program} {number.group() if number else 'tells no version'}"


async def account(node: Node) -> Iterable[Finding]:
    """Who QEMU runs as."""
    try:
        chosen = Account.choose(node.settings.account)
    except HypervisorError as error:
        mend = "see what it says; else make an account for it, or name one: account = … in the settings"
        return [fail(str(error), mend)]
    if not chosen.is_own and node.settings.account is None and chosen.uid == _uid_of_nobody():
        mend = "make an account for vms alone, libvirt-qemu or qemu by name, or name one: account = … in the settings"
        return [warn("QEMU runs as nobody, and so may programs of others: they could enter the folders of vms", mend)]
    whose = "the launcher's own" if chosen.is_own else "not root's"
    return [ok(f"QEMU runs as uid {chosen.uid}, gid {chosen.gid}, {whose}")]


def _uid_of_nobody() -> int | None:
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return None


async def namespaces(node: Node) -> Iterable[Finding]:
    """What the kernel allows an ordinary user; root is allowed all of it."""
    del node
    if os.geteuid() == 0:
        return [ok("root makes namespaces without further leave")]
    return list(_forbidding()) or [ok("an ordinary user may make user namespaces")]


def _forbidding() -> Iterator[Finding]:
    for name, is_right, mend in _SYSCTLS:
        file = Path("/proc/sys", *name.split("."))
        if file.exists() and not is_right(int(file.read_text())):
            yield fail(
                f"{name} is {file.read_text().strip()}: ordinary users make no namespaces",
                f"{mend}; lasting, {node_files()}/sysctl",
            )
