"""What a vm gets from its node and its dispatch, whatever its machine's XML said."""

from collections.abc import Mapping
from dataclasses import dataclass

from broker.wire.states import Accelerator


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What the node's hypervisor offers: the same for every vm on it.

    `machine_types` are those of the emulator's capabilities, aliases (`pc`, `q35`) among them, in any order.
    """

    emulator: str
    accelerator: Accelerator
    machine_types: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vm:
    """One vm. Paths are absolute and, but for `guest_disk`, inside the vm's run folder.

    `overlays` names for each disk target its qcow2 overlay, which declares its own backing file and format.
    `guest_disk` is a raw image, opened read-only, shared by the vms of a node. `nvram` is made by libvirt for a UEFI
    machine, and so is `channel_socket`, to which the launcher connects.
    """

    dispatch_id: str
    item: str
    name: str
    vcpus: int
    memory_mib: int
    overlays: Mapping[str, str]
    guest_disk: str
    console_log: str
    channel_socket: str
    nvram: str
