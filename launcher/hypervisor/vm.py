"""What the launcher knows of a VM: the names of it, and why it stopped."""

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Vm:
    """A domain that libvirt knows; the UUID is the dispatch's id."""

    uuid: str
    name: str


class StopReason(enum.Enum):
    """Why a VM does not run any more. None of them says that the item succeeded: only an accepted completion does."""

    GUEST_SHUTDOWN = "the guest powered off"
    """Or rebooted, or panicked without a pvpanic device: libvirt reports all three alike."""
    CRASHED = "the guest's kernel panicked"
    HUNG = "the guest's watchdog bit"
    """It fed it and then did not any more; QEMU powers the VM off."""
    DESTROYED = "the VM was destroyed"
    FAILED = "QEMU ended by itself"
    OUT_OF_SPACE = "the VM is paused: its disk cannot grow, for there is no space left on the node"
    """It stays paused, and there, until it is destroyed."""
    IO_ERROR = "the VM is paused: its disk could not be read or written"
    """It stays paused, and there, until it is destroyed."""
    SUSPENDED = "the guest suspended itself, and nobody will wake it"
    """It stays there until it is destroyed."""
    GONE = "the VM is not there any more, and nobody said why"
