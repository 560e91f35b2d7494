"""From what was seen of a vm to its one verdict.

A power-off, a reboot and a panic without pvpanic look alike to libvirt, so nothing seen here ever means success: that
is the broker's to say, when it has accepted the guest's completion for this very dispatch. The verdicts here are what
stands when it has not.
"""

from typing import NamedTuple

from broker.wire.states import HealthCode, Instruction, Verdict
from launcher.hypervisor.vm import StopReason


class Ending(NamedTuple):
    """The verdict a launcher reports, the sentence a person reads, and what it says of the node, if anything."""

    verdict: Verdict
    sentence: str
    code: HealthCode | None = None


STOPPED: dict[StopReason, Ending] = {
    StopReason.GUEST_SHUTDOWN: Ending(
        Verdict.STOPPED_EARLY, "the vm powered itself off before a result was accepted; its console tells why"
    ),
    StopReason.CRASHED: Ending(Verdict.VM_CRASHED, "the guest's kernel panicked; its console tells why"),
    StopReason.FAILED: Ending(Verdict.VM_CRASHED, "QEMU ended abnormally: killed, or out of the slot's memory"),
    StopReason.DESTROYED: Ending(Verdict.HOST_ERROR, "somebody on the node destroyed the vm"),
    StopReason.OUT_OF_SPACE: Ending(Verdict.HOST_ERROR, "the node's scratch folder is full: the vm could not write"),
    StopReason.IO_ERROR: Ending(Verdict.HOST_ERROR, "the node's disk failed: the vm could not read or write"),
    StopReason.SUSPENDED: Ending(Verdict.STOPPED_EARLY, "the guest suspended itself, and nobody wakes a vm here"),
    StopReason.GONE: Ending(Verdict.HOST_ERROR, "the vm is gone and nobody saw it end"),
}

TOLD: dict[Instruction, Ending] = {
    Instruction.CANCEL: Ending(Verdict.CANCELLED, "the item was cancelled"),
    Instruction.DRAIN: Ending(Verdict.DRAINED, "the launcher was asked to give its vms up"),
    Instruction.SUPERSEDED: Ending(Verdict.SUPERSEDED, "the item is settled or was given to somebody else"),
}
