"""The table, second half: the devices of a domain.

What the guest was installed on stays where it was: controllers and PCI addresses of kept devices are kept, since names
such as `enp1s0` and `/dev/disk/by-path` in a guest's own configuration come from them.

Source: https://libvirt.org/formatdomain.html#devices
"""

from launcher.domain_xml.rules import Rule, drop, keep, put, refuse
from launcher.domain_xml.table_domain import NUMBER, ON_OFF

_BYTE = r"0x[0-9a-fA-F]{1,2}|[0-9]{1,2}"
_MAC_UNICAST = r"[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}"
_LABEL = "[A-Za-z0-9_.+-]([A-Za-z0-9 _.+-]{0,%d}[A-Za-z0-9_.+-])?"
# Two letters end at `yz`, so that there is always a target after the last one.
TARGETS = "(fd|hd|sd|vd)[a-y]?[a-z]"
BUSES = "fdc|ide|scsi|virtio|usb|sata"
BOOT_ORDERS = "[1-9][0-9]{0,2}"
VIRTIO_MODELS = "virtio|virtio-transitional|virtio-non-transitional"
NIC_MODELS = f"{VIRTIO_MODELS}|e1000|e1000e|rtl8139|ne2k_pci|pcnet"
SCSI_MODELS = (
    "auto|virtio-scsi|virtio-transitional|virtio-non-transitional|lsilogic|lsisas1068|lsisas1078|buslogic|vmpvscsi"
    "|dc390|am53c974"
)
PCI_MODELS = (
    "pci-root|pcie-root|pcie-root-port|pci-bridge|dmi-to-pci-bridge|pcie-to-pci-bridge|pcie-switch-upstream-port"
    "|pcie-switch-downstream-port"
)
WATCHDOG_MODELS = "i6300esb|ib700"
_PCI_IMPLEMENTATIONS = (
    "pci-bridge|i82801b11-bridge|pcie-pci-bridge|ioh3420|pcie-root-port|x3130-upstream|xio3130-downstream"
)

_NO_SCREEN = "nobody sits in front of a vm on a node"
_ON_THE_HOST = "it leads to a place on another host"
_RUNNING_STATE = "state of a running domain on its own host"
_LIBVIRT_PLACES_IT = "libvirt finds a place for it"
_HOST_TUNING = "the node decides how a device is served"
_NO_HOST_DEVICE = "it asks for a device or memory of the host, and every vm of a node shares that host"
_OTHER_HYPERVISOR = "belongs to another hypervisor or architecture"


def _pci_address(device: str) -> tuple[Rule, ...]:
    return (
        *keep(
            f"{device}/address",
            when={"type": "pci"},
            required=("type", "bus", "slot"),
            type="pci",
            domain="0x0{1,4}|0",
            bus=_BYTE,
            slot=r"(0x)?[01]?[0-9a-fA-F]",
            function="(0x)?[0-7]",
            multifunction=ON_OFF,
        ),
        *drop(f"{device}/address", _LIBVIRT_PLACES_IT),
    )


DISKS: tuple[Rule, ...] = (
    *keep("devices/disk", device="disk|cdrom|floppy", model=VIRTIO_MODELS, many=True),
    *put("devices/disk/@type", "file: the overlay over the image given for its target"),
    *put("devices/disk/@device", "disk: the host's own LUN is not there"),
    *drop("devices/disk/@snapshot devices/disk/@rawio devices/disk/@sgio", _HOST_TUNING),
    *put("devices/disk/driver", "qcow2, as the overlay is"),
    *refuse(
        "devices/disk/encryption devices/disk/source/encryption",
        "an encrypted disk needs its key on the node",
        "decrypt the image (`qemu-img convert`) and remove the element",
    ),
    *put("devices/disk/source", "the overlay over the image given for its target; this source is never opened"),
    *keep(
        "devices/disk/target",
        required=("dev",),
        dev=TARGETS,
        bus=BUSES,
        rotation_rate="[1-9][0-9]{0,4}",
    ),
    *drop("devices/disk/target/@tray devices/disk/target/@removable", _RUNNING_STATE),
    *keep("devices/disk/boot", required=("order",), order=BOOT_ORDERS),
    *drop("devices/disk/boot/@loadparm", _OTHER_HYPERVISOR),
    *keep("devices/disk/serial", text=r"[A-Za-z0-9_.+-]{1,36}"),
    *keep("devices/disk/wwn", text="(0x)?[0-9a-fA-F]{16}"),
    *keep("devices/disk/vendor", text=_LABEL % 6),
    *keep("devices/disk/product", text=_LABEL % 14),
    *keep("devices/disk/blockio", logical_block_size="512|4096", physical_block_size="512|4096"),
    *keep(
        "devices/disk/geometry",
        required=("cyls", "heads", "secs"),
        cyls=NUMBER,
        heads=NUMBER,
        secs=NUMBER,
        trans="auto|none|lba",
    ),
    *keep("devices/disk/readonly"),
    *drop("devices/disk/shareable devices/disk/transient", "an overlay belongs to one vm and dies with it"),
    *drop("devices/disk/backingStore devices/disk/mirror", _ON_THE_HOST),
    *drop("devices/disk/iotune devices/disk/throttlefilters", _HOST_TUNING),
    *drop("devices/disk/auth", "the overlay needs no password"),
    *keep(
        "devices/disk/address",
        when={"type": "drive"},
        required=("type",),
        type="drive",
        controller="[0-9]{1,2}",
        bus="[0-9]{1,2}",
        target="[0-9]{1,3}",
        unit="[0-9]{1,3}",
    ),
    *_pci_address("devices/disk"),
    *drop("devices/disk/alias devices/disk/privateData", _RUNNING_STATE),
    *drop("devices/disk/acpi devices/disk/backenddomain", _HOST_TUNING),
)

INTERFACES: tuple[Rule, ...] = (
    *refuse(
        "devices/interface",
        _NO_HOST_DEVICE,
        "change the interface to type 'network' or 'user'",
        when={"type": "hostdev|vhostuser|vdpa|vds"},
    ),
    *refuse(
        "devices/interface/rom/@file",
        "an option ROM is read from a file of the host",
        "remove the `file` attribute",
    ),
    *keep("devices/interface"),
    *put("devices/interface/@type", "user: the vm's one network, which reaches the launcher's proxy only"),
    *drop("devices/interface/@managed devices/interface/@trustGuestRxFilters", _HOST_TUNING),
    *put("devices/interface/source", "the vm's one network, which reaches the launcher's proxy only"),
    *keep("devices/interface/mac", required=("address",), address=_MAC_UNICAST),
    *drop("devices/interface/mac/@type devices/interface/mac/@check", _OTHER_HYPERVISOR),
    *keep("devices/interface/model", when={"type": NIC_MODELS}, type=NIC_MODELS),
    *put("devices/interface/model", "virtio: this model is not known"),
    *put("devices/interface/rom", "off: nothing is booted from the network"),
    *drop("devices/interface/boot", "nothing is booted from the network"),
    *_pci_address("devices/interface"),
    *drop(
        "devices/interface/target devices/interface/script devices/interface/downscript devices/interface/backend "
        "devices/interface/virtualport devices/interface/vlan devices/interface/filterref devices/interface/port "
        "devices/interface/ip devices/interface/route devices/interface/portForward devices/interface/teaming "
        "devices/interface/guest devices/interface/actual",
        _ON_THE_HOST,
    ),
    *drop("devices/interface/alias devices/interface/link", _RUNNING_STATE),
    *drop(
        "devices/interface/bandwidth devices/interface/driver devices/interface/tune devices/interface/mtu "
        "devices/interface/coalesce devices/interface/acpi devices/interface/backenddomain",
        _HOST_TUNING,
    ),
)

CONTROLLERS: tuple[Rule, ...] = (
    *keep(
        "devices/controller",
        when={"type": "pci"},
        required=("model",),
        type="pci",
        index="[0-9]{1,3}",
        model=PCI_MODELS,
        many=True,
    ),
    *keep("devices/controller", when={"type": "scsi"}, type="scsi", index="[0-9]{1,2}", model=SCSI_MODELS, many=True),
    *keep("devices/controller", when={"type": "ide"}, type="ide", index="[0-9]", model="piix3|piix4|ich6", many=True),
    *keep("devices/controller", when={"type": "sata|fdc"}, type="sata|fdc", index="[0-9]{1,2}", many=True),
    *keep(
        "devices/controller",
        when={"type": "virtio-serial"},
        type="virtio-serial",
        index="[0-9]{1,2}",
        model=VIRTIO_MODELS,
        many=True,
    ),
    *drop("devices/controller", "nothing that is kept is attached to it; USB is off unless a disk is on it"),
    *drop("devices/controller/@ports devices/controller/@vectors devices/controller/master", _LIBVIRT_PLACES_IT),
    *drop(
        "devices/controller/@maxGrantFrames devices/controller/@maxEventChannels devices/controller/target/@index",
        _OTHER_HYPERVISOR,
    ),
    *keep("devices/controller/model", required=("name",), name=_PCI_IMPLEMENTATIONS),
    *keep(
        "devices/controller/target",
        chassisNr="[0-9]{1,2}",
        chassis="[0-9]{1,2}",
        port=_BYTE,
        hotplug=ON_OFF,
    ),
    *_pci_address("devices/controller"),
    *drop("devices/controller/alias", _RUNNING_STATE),
    *drop(
        "devices/controller/driver devices/controller/pcihole64 devices/controller/acpi "
        "devices/controller/target/@busNr devices/controller/target/node",
        _HOST_TUNING,
    ),
)

OURS: tuple[Rule, ...] = (
    *put("devices/emulator", "the node's own"),
    *put("devices/serial devices/console", "one serial console, kept with the vm's verdict"),
    *put("devices/memballoon", "none: a vm's memory is its own"),
    *put("devices/panic", "isa: a guest's panic is seen at once"),
    *keep("devices/watchdog", when={"model": WATCHDOG_MODELS}, required=("model",), model=WATCHDOG_MODELS),
    *drop("devices/watchdog", "not a model that every libvirt and QEMU has"),
    *put("devices/watchdog/@action", "poweroff: a guest that hangs is gone, and its verdict says that it hung"),
    *_pci_address("devices/watchdog"),
    *drop("devices/watchdog/alias devices/watchdog/acpi", _RUNNING_STATE),
    *keep("devices/video"),
    *keep("devices/video/model", when={"type": "none"}, type="none"),
    *drop(
        "devices/video/model/@heads devices/video/model/@primary devices/video/model/@ram devices/video/model/@vram "
        "devices/video/model/@vram64 devices/video/model/@vgamem devices/video/model/@blob "
        "devices/video/model/acceleration devices/video/model/resolution",
        _NO_SCREEN,
    ),
    *put("devices/video/model", "vga: what a guest needs to start with, shown to nobody"),
    *_pci_address("devices/video"),
    *drop("devices/video/alias devices/video/driver devices/video/acpi", _RUNNING_STATE),
    *keep("devices/rng"),
    *put("devices/rng/@model", "virtio"),
    *refuse(
        "devices/rng/backend",
        "its random numbers come from a place on the host",
        "use <backend model='random'>/dev/urandom</backend>",
        when={"model": "egd"},
    ),
    *refuse(
        "devices/rng/backend",
        "its random numbers come from a place on the host",
        "use <backend model='random'>/dev/urandom</backend>",
        when={"text()": "(?!/dev/(u?random|hwrng)$).+"},
    ),
    *put("devices/rng/backend", "/dev/urandom of the node"),
    *_pci_address("devices/rng"),
    *drop("devices/rng/rate devices/rng/alias devices/rng/driver devices/rng/acpi", _HOST_TUNING),
)

REFUSED: tuple[Rule, ...] = (
    *refuse("devices/hostdev", _NO_HOST_DEVICE, "remove the element; a vm has emulated devices only"),
    *refuse(
        "devices/filesystem",
        "it asks for a folder of the host",
        "remove the element; files come and go by the stream's exchange",
    ),
    *refuse("devices/shmem", _NO_HOST_DEVICE, "remove the element"),
    *refuse(
        "devices/memory",
        _NO_HOST_DEVICE,
        "remove the element and give the machine its memory by <memory>",
        when={"model": "nvdimm|virtio-pmem|sgx-epc"},
    ),
    *refuse(
        "devices/input",
        _NO_HOST_DEVICE,
        "remove the element",
        when={"type": "passthrough|evdev"},
    ),
    *refuse(
        "devices/tpm/backend",
        _NO_HOST_DEVICE,
        "remove the TPM, or make it an emulated one",
        when={"type": "passthrough|external"},
    ),
    *refuse(
        "devices/serial devices/parallel devices/console devices/channel",
        _NO_HOST_DEVICE,
        "remove the element, or make it one of type 'pty'",
        when={"type": "dev"},
    ),
    *refuse("devices/crypto/backend", _NO_HOST_DEVICE, "remove the element", when={"model": "lkcf|vhost-user"}),
    *refuse("devices/video/driver", _NO_HOST_DEVICE, "remove the element", when={"name": "vhostuser"}),
)

DROPPED: tuple[Rule, ...] = (
    *drop("devices/graphics devices/input devices/sound devices/audio devices/hub", _NO_SCREEN),
    *drop("devices/redirdev devices/redirfilter devices/smartcard", _NO_SCREEN),
    *drop("devices/channel devices/parallel", "a vm has one channel, to the launcher"),
    *drop("devices/tpm", "no TPM is offered; what it held stays on its owner's host"),
    *drop("devices/memory", "a vm has all of its memory from the start"),
    *drop("devices/vsock devices/lease devices/pstore devices/crypto devices/iommu", _ON_THE_HOST),
    *drop("devices/nvram", _OTHER_HYPERVISOR),
)

DEVICE_RULES: tuple[Rule, ...] = (
    *keep("devices"),
    *REFUSED,
    *DISKS,
    *INTERFACES,
    *CONTROLLERS,
    *OURS,
    *DROPPED,
)
