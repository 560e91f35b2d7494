"""The table of all points, in the order in which they are shown: what others depend on comes first."""

from typing import Final

from launcher.doctor import checks_broker, checks_folders, checks_machine, checks_slot, checks_vms
from launcher.doctor.findings import Point

POINTS: Final = (
    Point("settings", checks_broker.settings),
    Point("login", checks_broker.login, is_sites=False),
    Point("authority", checks_broker.authority),
    Point("broker", checks_broker.broker, is_sites=False),
    Point("processor", checks_machine.processor),
    Point("programs", checks_machine.programs),
    Point("account", checks_machine.account),
    Point("kvm", checks_machine.kvm),
    Point("namespaces", checks_machine.namespaces),
    Point("cache", checks_folders.cache),
    Point("scratch", checks_folders.scratch),
    Point("shm", checks_folders.shared_memory),
    Point("slot", checks_slot.slot),
    Point("limits", checks_slot.limits),
    Point("accelerator", checks_machine.accelerator),
    Point("libvirt", checks_vms.libvirt, checks_vms.ISOLATION_LIMIT_S),
    Point("guest_disk", checks_vms.guest_disk, 240.0),
    Point("firmware", checks_vms.firmware),
    Point("exchanges", checks_vms.exchanges, checks_vms.EXCHANGES_LIMIT_S),
)
