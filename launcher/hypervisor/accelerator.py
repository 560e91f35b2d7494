"""Which accelerator really works on this node.

A /dev/kvm that opens and creates a VM proves nothing: there are hosts whose KVM emulates the guest's instructions one
by one, some two million a second, and a guest then never comes up while libvirt offers KVM all the same. So the probe
runs a guest that must get through twenty million instructions in a second and a half: a 64 KiB ROM, no firmware, no
disk, that counts down and then ends QEMU through its debug-exit device. A working KVM needs a few hundredths of a
second beyond QEMU's own start, TCG about 0.2 s; such a host would need ten.

The answer holds until the node boots again and is remembered that long.

Source: docs of QEMU's isa-debug-exit device (exit status = value * 2 + 1); Linux's /proc/sys/kernel/random/boot_id.
"""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from broker.wire.states import Accelerator
from launcher.hypervisor.account import Account
from launcher.hypervisor.errors import HypervisorError, Unavailable
from launcher.packages import Part, lacks
from launcher.processes import communicated

INSTRUCTIONS: Final = 20_000_000
KVM_LIMIT_S: Final = 1.5
# TCG needs 0.2 s; a node that takes this long is overloaded, and its answer about KVM worth nothing.
TCG_LIMIT_S: Final = 10.0
STDERR_BYTES: Final = 400

DONE_VALUE: Final = 0x10
DONE_STATUS: Final = DONE_VALUE * 2 + 1
DEBUG_EXIT_PORT: Final = 0xF4
ROM_BYTES: Final = 64 * 1024
# Both must get through: the model that the launcher gives under TCG, and the host's own that it gives under KVM.
KVM_CPUS: Final = ("qemu64", "host")

KVM_DEVICE: Final = Path("/dev/kvm")
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
MEMORY_FILE: Final = "accelerator.json"


@dataclass(frozen=True, slots=True)
class AcceleratorProbe:
    """What was found, and why in one sentence for the log, the events and `launcher doctor`."""

    accelerator: Accelerator
    reason: str


@dataclass(frozen=True, slots=True)
class _Circumstances:
    """What the answer depends on."""

    boot_id: str
    qemu: str
    account: str
    device: str

    @classmethod
    def now(cls, program: str, account: Account) -> Self:
        return cls(
            boot_id=BOOT_ID.read_text(encoding="ascii").strip(),
            qemu=f"{program} of {Path(program).stat().st_mtime_ns}",
            account=str(account),
            device=describe_device(),
        )


@dataclass(frozen=True, slots=True)
class _Outcome:
    passed: bool
    how: str
    timed_out: bool = False


async def probe_accelerator(
    account: Account, cache_folder: Path, *, qemu: str = "qemu-system-x86_64"
) -> AcceleratorProbe:
    """Find out whether KVM works for QEMU under this account, or remember it from earlier in this boot of the node.

    Takes up to 2 s the first time. Needs no libvirt.

    Args:
        account: Who QEMU is going to run as.
        cache_folder: Where the answer is kept; must exist.
        qemu: Program name or path.

    Raises:
        HypervisorError: QEMU is not installed, or cannot run even without KVM.
        Unavailable: The node is too busy to tell.
    """
    program = shutil.which(qemu)
    if program is None:
        raise HypervisorError(lacks(qemu, Part.QEMU))
    key = _Circumstances.now(program, account)
    memory = cache_folder / MEMORY_FILE
    remembered = _recall(memory, key)
    if remembered is None:
        remembered = await _probe(program, account)
        _remember(memory, key, remembered)
    return remembered


async def _probe(program: str, account: Account) -> AcceleratorProbe:
    descriptor = os.memfd_create("accelerator-probe")
    try:
        os.write(descriptor, _rom(INSTRUCTIONS))
        await _check_tcg(program, account, descriptor)
        if not KVM_DEVICE.exists():
            return AcceleratorProbe(Accelerator.TCG, f"this node has no {KVM_DEVICE}")
        for cpu in KVM_CPUS:
            outcome = await _run(program, account, descriptor, "kvm", cpu, KVM_LIMIT_S)
            if not outcome.passed:
                return AcceleratorProbe(
                    Accelerator.TCG, f"KVM does not work here: with the CPU model {cpu}, {outcome.how}"
                )
        return AcceleratorProbe(
            Accelerator.KVM, f"KVM got through {INSTRUCTIONS:,} instructions within {KVM_LIMIT_S:g} s"
        )
    finally:
        os.close(descriptor)


async def _check_tcg(program: str, account: Account, descriptor: int) -> None:
    outcome = await _run(program, account, descriptor, "tcg", "qemu64", TCG_LIMIT_S)
    if outcome.timed_out:
        raise Unavailable(f"this node is too busy to run VMs: without KVM, {outcome.how}")
    if not outcome.passed:
        raise HypervisorError(f"{program} does not work on this node: {outcome.how}")


async def _run(program: str, account: Account, descriptor: int, accelerator: str, cpu: str, limit_s: float) -> _Outcome:
    process = await asyncio.create_subprocess_exec(
        *(program, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-m", "16", "-machine", "pc"),
        *("-accel", accelerator, "-cpu", cpu, "-bios", f"/proc/self/fd/{descriptor}"),
        *("-device", f"isa-debug-exit,iobase={DEBUG_EXIT_PORT},iosize=4"),
        pass_fds=[descriptor],
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        user=None if account.is_own else account.uid,
        group=None if account.is_own else account.gid,
        extra_groups=None if account.is_own else account.groups,
    )
    try:
        _, errors = await communicated(process, limit_s)
    except TimeoutError:
        return _Outcome(False, f"{INSTRUCTIONS:,} instructions took longer than {limit_s:g} s", timed_out=True)
    text = " ".join(errors.decode(errors="replace").split())[-STDERR_BYTES:]
    return _Outcome(process.returncode == DONE_STATUS, f"QEMU ended with status {process.returncode}: {text}")


def describe_device() -> str:
    """Return whose /dev/kvm is, and who may use it."""
    try:
        status = KVM_DEVICE.stat()
    except FileNotFoundError:
        return "none"
    return f"{status.st_mode:o} {status.st_uid}:{status.st_gid}"


def _rom(instructions: int) -> bytes:
    """A ROM in 16-bit mode: count down, report, halt. The CPU starts 16 bytes below its end."""
    code = (
        b"\x66\xb9" + struct.pack("<I", instructions // 2)  # mov ecx, N
        + b"\x66\x49"  # loop: dec ecx
        + b"\x75\xfc"  # jnz loop
        + b"\xb0" + bytes([DONE_VALUE])  # mov al, DONE_VALUE
        + b"\xba" + struct.pack("<H", DEBUG_EXIT_PORT)  # mov dx, DEBUG_EXIT_PORT
        + b"\xee"  # out dx, al
        + b"\xf4\xeb\xfd"  # halt: hlt; jmp halt
    )  # fmt: skip
    reset = b"\xea\x00\x00\x00\xf0"  # jmp far f000:0000, the ROM's first byte
    return code.ljust(ROM_BYTES - 16, b"\xf4") + reset.ljust(16, b"\xf4")


def _recall(memory: Path, key: _Circumstances) -> AcceleratorProbe | None:
    try:
        saved = json.loads(memory.read_bytes())
        if saved["key"] != asdict(key):
            return None
        return AcceleratorProbe(Accelerator(saved["accelerator"]), str(saved["reason"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        # Not there yet, or not written by us: probing again costs two seconds.
        return None


def _remember(memory: Path, key: _Circumstances, probe: AcceleratorProbe) -> None:
    text = json.dumps({"key": asdict(key), "accelerator": probe.accelerator.value, "reason": probe.reason})
    draft = memory.with_name(f"{memory.name}.{secrets.token_hex(4)}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(memory)
    finally:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
