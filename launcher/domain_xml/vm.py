"""What a vm gets from its node and its dispatch, whatever its machine's XML said."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from broker.wire.states import Accelerator


@dataclass(frozen=True, slots=True, kw_only=True)
class Firmware:
    """A UEFI firmware without secure boot: its code, and how large the file of variables is that it works with.

    `machines` are patterns of machine types, as `pc-q35-*`.
    """

    loader: str
    variables_bytes: int
    machines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What the node's hypervisor offers: the same for every vm on it.

    `machine_types` are those of the emulator's capabilities, aliases (`pc`, `q35`) among them, in any order.
    `firmwares`, the one to prefer first, matter to machines that bring their own UEFI variables. A libvirt that does
    not know of the size of a translation cache refuses a machine that names it. `dac_label` names QEMU's account, as
    `+UID:+GID`, to a libvirt that would otherwise choose one and give it the files that the machine names.
    """

    emulator: str
    accelerator: Accelerator
    machine_types: tuple[str, ...]
    firmwares: tuple[Firmware, ...] = ()
    has_translation_cache: bool = True
    dac_label: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataDisk:
    """A raw disk that carries files to or from the guest, who finds it by its file system's label, or by its serial."""

    path: str
    serial: str
    is_writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A folder that the guest mounts by its tag. `socket` is where a virtiofsd of the launcher's own listens."""

    kind: Literal["virtiofs", "9p"]
    folder: str
    tag: str
    socket: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vm:
    """One vm. Paths are absolute and, but for `guest_disk`, inside the vm's run folder.

    `overlays` names for each disk target its qcow2 overlay, which declares its own backing file and format.
    `guest_disk` is a raw image, opened read-only, shared by the vms of a node. `seed_disk`, read-only too, is how an
    image with cloud-init finds the client, and `ticket_file` what QEMU shows in its firmware configuration to a guest
    without the port; all three are absent where no client is brought. `nvram` is made by libvirt for a UEFI
    machine unless `nvram_bytes` says that the machine's own variables are there already. libvirt makes
    `channel_socket`, too, to which the launcher connects. `launcher` is a mark of the launcher's own, by which it is
    known whether the launcher of a domain is gone.
    """

    dispatch_id: str
    item: str
    name: str
    vcpus: int
    memory_mib: int
    overlays: Mapping[str, str]
    guest_disk: str | None
    console_log: str
    channel_socket: str
    nvram: str
    nvram_bytes: int | None = None
    seed_disk: str | None = None
    ticket_file: str | None = None
    data_disks: tuple[DataDisk, ...] = ()
    shares: tuple[Share, ...] = ()
    has_network: bool = True
    launcher: str = ""
