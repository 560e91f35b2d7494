"""What is asked of libvirt about domains; everything here blocks, and raises libvirt's own errors."""

import libvirt

from launcher.hypervisor.libvirt_tables import stop_by_state
from launcher.hypervisor.vm import StopReason, Vm


def create(connection: libvirt.virConnect, xml: str, flags: int) -> Vm:
    """Start a transient VM."""
    domain = connection.createXML(xml, flags)
    return Vm(domain.UUIDString(), domain.name())


def press_power_button(connection: libvirt.virConnect, uuid: str) -> None:
    """Press the button of a VM's case."""
    connection.lookupByUUIDString(uuid).shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)


def destroy(connection: libvirt.virConnect, uuid: str) -> None:
    """Pull a VM's plug."""
    connection.lookupByUUIDString(uuid).destroy()


def describe(connection: libvirt.virConnect, uuid: str) -> str:
    """Return a VM's XML."""
    xml: str = connection.lookupByUUIDString(uuid).XMLDesc()
    return xml


def look(connection: libvirt.virConnect, uuid: str) -> StopReason | None:
    """Return why a VM cannot go on, None if it can."""
    return stop_by_state(connection.lookupByUUIDString(uuid))


def list_active(connection: libvirt.virConnect, metadata_namespace: str | None) -> list[Vm]:
    """List the running VMs, or those with a metadata element of this namespace."""
    domains = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
    return [
        Vm(domain.UUIDString(), domain.name())
        for domain in domains
        if metadata_namespace is None or _has_metadata(domain, metadata_namespace)
    ]


def _has_metadata(domain: libvirt.virDomain, namespace: str) -> bool:
    try:
        domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, namespace)
    except libvirt.libvirtError as error:
        if error.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN_METADATA, libvirt.VIR_ERR_NO_DOMAIN):
            return False
        raise
    return True
