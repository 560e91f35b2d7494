"""libvirt's error codes, events and states, translated: the one place that knows their meaning.

Source: libvirt-domain.h and virterror.h of libvirt 9.0.
"""

from typing import Final

import libvirt

from launcher.hypervisor.errors import Conflict, HypervisorError, NoSuchVm, QemuFailed, Rejected, Unavailable
from launcher.hypervisor.vm import StopReason

ERRORS: Final[dict[int, type[HypervisorError]]] = {
    libvirt.VIR_ERR_XML_ERROR: Rejected,
    libvirt.VIR_ERR_XML_DETAIL: Rejected,
    libvirt.VIR_ERR_XML_INVALID_SCHEMA: Rejected,
    libvirt.VIR_ERR_PARSE_FAILED: Rejected,
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED: Rejected,
    libvirt.VIR_ERR_CPU_INCOMPATIBLE: Rejected,
    libvirt.VIR_ERR_INVALID_ARG: Rejected,
    libvirt.VIR_ERR_INVALID_MAC: Rejected,
    libvirt.VIR_ERR_OS_TYPE: Rejected,
    libvirt.VIR_ERR_OPERATION_UNSUPPORTED: Rejected,
    libvirt.VIR_ERR_DOM_EXIST: Conflict,
    libvirt.VIR_ERR_OPERATION_INVALID: Conflict,
    libvirt.VIR_ERR_NO_DOMAIN: NoSuchVm,
    # "Internal error" is also what libvirt says when QEMU ended at its start, and when the connection is lost.
    libvirt.VIR_ERR_INTERNAL_ERROR: Unavailable,
    libvirt.VIR_ERR_OPERATION_FAILED: Unavailable,
    libvirt.VIR_ERR_OPERATION_ABORTED: Unavailable,
    libvirt.VIR_ERR_OPERATION_TIMEOUT: Unavailable,
    libvirt.VIR_ERR_SYSTEM_ERROR: Unavailable,
    libvirt.VIR_ERR_NO_MEMORY: Unavailable,
    libvirt.VIR_ERR_OPEN_FAILED: Unavailable,
    libvirt.VIR_ERR_READ_FAILED: Unavailable,
    libvirt.VIR_ERR_WRITE_FAILED: Unavailable,
    libvirt.VIR_ERR_RESOURCE_BUSY: Unavailable,
    libvirt.VIR_ERR_NO_CONNECT: Unavailable,
    libvirt.VIR_ERR_INVALID_CONN: Unavailable,
    libvirt.VIR_ERR_RPC: Unavailable,
    libvirt.VIR_ERR_AUTH_FAILED: Unavailable,
    libvirt.VIR_ERR_AUTH_UNAVAILABLE: Unavailable,
    libvirt.VIR_ERR_ACCESS_DENIED: Unavailable,
}

# By the detail of a "stopped" lifecycle event.
STOPPED: Final[dict[int, StopReason]] = {
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN: StopReason.GUEST_SHUTDOWN,
    libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED: StopReason.DESTROYED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED: StopReason.CRASHED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED: StopReason.FAILED,
}

# By state, for those in which a domain is still there and will not go on by itself.
STUCK: Final[dict[int, StopReason]] = {
    libvirt.VIR_DOMAIN_SHUTOFF: StopReason.GONE,
    libvirt.VIR_DOMAIN_CRASHED: StopReason.CRASHED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: StopReason.SUSPENDED,
}

# The same, by the reason of the paused state.
PAUSED: Final[dict[int, StopReason]] = {
    libvirt.VIR_DOMAIN_PAUSED_IOERROR: StopReason.IO_ERROR,
    libvirt.VIR_DOMAIN_PAUSED_CRASHED: StopReason.CRASHED,
}


def translate(error: libvirt.libvirtError) -> Exception:
    """Return this package's error for libvirt's; an unknown one is a bug and is returned as it is."""
    kind = ERRORS.get(error.get_error_code())
    if kind is Unavailable and error.get_error_domain() == libvirt.VIR_FROM_QEMU:
        kind = QemuFailed
    return kind(str(error)) if kind else error


def stop_by_event(event: int, detail: int) -> StopReason | None:
    """Return why a lifecycle event ends the VM, or None if it does not."""
    if event != libvirt.VIR_DOMAIN_EVENT_STOPPED:
        return None
    return STOPPED.get(detail, StopReason.GONE)


def is_shut_down_by_host(event: int, detail: int) -> bool:
    """Tell whether an event says that a signal from the node, and not the guest, is what ends QEMU."""
    return (event, detail) == (libvirt.VIR_DOMAIN_EVENT_SHUTDOWN, libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_HOST)


def stop_by_watchdog(action: int) -> StopReason | None:
    """Return why a watchdog's action ends the VM, or None if it does not."""
    return StopReason.HUNG if action == libvirt.VIR_DOMAIN_EVENT_WATCHDOG_POWEROFF else None


def stop_by_state(domain: libvirt.virDomain) -> StopReason | None:
    """Ask libvirt whether a domain that is still there can go on; blocks."""
    state, reason = domain.state()
    if state != libvirt.VIR_DOMAIN_PAUSED:
        return STUCK.get(state)
    stop = PAUSED.get(reason)
    if stop is StopReason.IO_ERROR and libvirt.VIR_DOMAIN_DISK_ERROR_NO_SPACE in domain.diskErrors().values():
        return StopReason.OUT_OF_SPACE
    return stop
