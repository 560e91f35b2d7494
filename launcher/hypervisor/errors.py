"""What can go wrong below the hypervisor interface."""


class HypervisorError(Exception):
    """Root of this package's errors."""


class Rejected(HypervisorError):
    """libvirt or QEMU does not accept the domain's XML: asking again changes nothing."""


class Conflict(HypervisorError):
    """A domain of this name or UUID is running already."""


class NoSuchVm(HypervisorError):
    """The domain is not, or no longer, there."""


class Unavailable(HypervisorError):
    """The node could not do it now: libvirtd, QEMU or the machine is at fault. Trying again may help."""


class QemuFailed(Unavailable):
    """QEMU did not start, or died of what libvirt asked of it."""


class Unanswered(Unavailable):
    """libvirtd was asked and did not answer in time; it may do it yet."""


class NotAsked(Unavailable):
    """Too many other calls were before this one, which was never made: it says nothing about libvirtd."""


class ConnectionLost(Unavailable):
    """libvirtd went away while it was asked: nobody knows whether it did it."""
