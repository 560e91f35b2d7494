"""From what was seen of a vm to its one verdict, and to what that says of the node: every case, in one place.

A power-off, a reboot and a panic without pvpanic look alike to libvirt, so nothing seen here ever means success: that
is the broker's to say, when it has accepted the guest's completion for this very dispatch. The verdicts here are what
stands when it has not.
"""

import errno
import os
from typing import Final, NamedTuple

from broker.client.session import CallError
from broker.wire.states import HealthCode, Instruction, Verdict
from launcher.domain_xml import NoFirmware, NoMachineType, UnsafeOutput, XmlRefused
from launcher.exchange.programs import ProgramFailed
from launcher.exchange.rootdisk import NoRootFileSystem
from launcher.hypervisor.errors import HypervisorError, QemuFailed, Rejected
from launcher.hypervisor.vm import StopReason
from launcher.images import ImageError


class Ending(NamedTuple):
    """The verdict a launcher reports, the sentence a person reads, and what it says of the node, if anything."""

    verdict: Verdict
    sentence: str
    code: HealthCode | None = None


STOPPED: Final[dict[StopReason, Ending]] = {
    StopReason.GUEST_SHUTDOWN: Ending(
        Verdict.STOPPED_EARLY, "the vm powered itself off, or rebooted, before a result was accepted"
    ),
    StopReason.CRASHED: Ending(Verdict.VM_CRASHED, "the guest's kernel panicked"),
    StopReason.FAILED: Ending(
        Verdict.VM_CRASHED, "QEMU ended abnormally: killed, or out of the slot's memory", HealthCode.QEMU_FAILED
    ),
    StopReason.HUNG: Ending(Verdict.GUEST_LOST, "the guest hung: it stopped feeding its own watchdog"),
    StopReason.DESTROYED: Ending(
        Verdict.HOST_ERROR, "somebody on the node destroyed the vm, or told its QEMU to end", HealthCode.VM_INTERFERED
    ),
    StopReason.OUT_OF_SPACE: Ending(
        Verdict.HOST_ERROR, "the node's scratch folder is full: the vm could not write", HealthCode.DISK_FULL
    ),
    StopReason.IO_ERROR: Ending(
        Verdict.HOST_ERROR, "the node's disk failed: the vm could not read or write", HealthCode.DISK_FAILED
    ),
    StopReason.SUSPENDED: Ending(Verdict.STOPPED_EARLY, "the guest suspended itself, and nobody wakes a vm here"),
    StopReason.GONE: Ending(Verdict.HOST_ERROR, "the vm is gone and nobody saw it end", HealthCode.LIBVIRT_FAILED),
}

NO_RESULT: Final = Ending(Verdict.STOPPED_EARLY, "the vm was done, and left no result")

TOLD: Final[dict[Instruction, Ending]] = {
    Instruction.CANCEL: Ending(Verdict.CANCELLED, "the item was cancelled"),
    Instruction.DRAIN: Ending(Verdict.DRAINED, "the launcher was asked to give its vms up", HealthCode.TOLD_TO_DRAIN),
    Instruction.SUPERSEDED: Ending(Verdict.SUPERSEDED, "the item is settled or was given to somebody else"),
}

ITS_CONSOLE_TELLS: Final = frozenset(
    {Verdict.STOPPED_EARLY, Verdict.VM_CRASHED, Verdict.GUEST_LOST, Verdict.NEVER_CLAIMED}
)
"""Verdicts of which only the guest knows the reason."""

_BY_NUMBER: Final = {
    errno.ENOSPC: HealthCode.DISK_FULL,
    errno.EDQUOT: HealthCode.DISK_FULL,
    errno.EIO: HealthCode.DISK_FAILED,
    errno.EROFS: HealthCode.DISK_FAILED,
}


def failed(error: Exception) -> Ending:
    """Return the ending of a vm that could not be prepared, booted or watched, whatever went wrong."""
    match error:
        case XmlRefused():
            return Ending(Verdict.XML_REFUSED, str(error))
        case Rejected():
            return Ending(Verdict.XML_REFUSED, f"this node's libvirt does not take the machine: {error}")
        case NoRootFileSystem():
            return Ending(Verdict.IMAGE_ERROR, str(error))
        case ImageError(code=None):
            return Ending(Verdict.IMAGE_ERROR, str(error))
        case CallError():
            return network_cut(f"the broker could not be asked: {error}")
        case _:
            return Ending(Verdict.HOST_ERROR, _at_fault(error), code_of(error))


def network_cut(sentence: str) -> Ending:
    """Return the ending of a vm that lost its item because nothing came through to the broker."""
    return Ending(Verdict.NETWORK_CUT, sentence, HealthCode.NETWORK_CUT)


def code_of(error: Exception) -> HealthCode:
    """Return what an error that is the node's fault says of the node."""
    match error:
        case ImageError(code=HealthCode() as code):
            return code
        case OSError(errno=int(number)) if number in _BY_NUMBER:
            return _BY_NUMBER[number]
        case ProgramFailed() if os.strerror(errno.ENOSPC) in str(error):
            # A helper's own words are all that it leaves; it runs in the C locale.
            return HealthCode.DISK_FULL
        case ProgramFailed():
            return HealthCode.EXCHANGE_FAILED
        case NoFirmware() | NoMachineType() | QemuFailed():
            return HealthCode.QEMU_FAILED
        case HypervisorError():
            return HealthCode.LIBVIRT_FAILED
        case _:
            return HealthCode.LAUNCHER_FAILED


def _at_fault(error: Exception) -> str:
    match error:
        case UnsafeOutput():
            return f"the launcher's own check refused the vm it had made: {error}"
        case OSError(errno=int()):
            return f"the node could not keep the vm's files: {error}"
        case ImageError() | ProgramFailed() | NoFirmware() | NoMachineType() | HypervisorError():
            return str(error)
        case _:
            return "the launcher failed; its log has the reason"
