"""XML that asks for the host, each with the path at which it has to be refused."""

from typing import NamedTuple


class Hostile(NamedTuple):
    name: str
    xml: str
    path: str


def machine(
    devices: str = "",
    *,
    top: str = "",
    os: str = "",
    attributes: str = "",
    disk: str = "<disk type='file'><source file='/etc/shadow'/><target dev='vda' bus='virtio'/></disk>",
) -> str:
    """Return a machine that would be accepted, with something added."""
    return (
        f"<domain type='kvm' {attributes}><name>m</name><memory unit='MiB'>512</memory><vcpu>1</vcpu>"
        f"<os><type arch='x86_64' machine='q35'>hvm</type>{os}</os>{top}<devices>{disk}{devices}</devices></domain>"
    )


def _device(name: str, xml: str, path: str) -> Hostile:
    return Hostile(name, machine(xml), f"/domain/devices/{path}")


_QEMU = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"

HOSTILE = (
    _device(
        "pci-hostdev",
        "<hostdev mode='subsystem' type='pci' managed='yes'><source>"
        "<address domain='0x0000' bus='0x06' slot='0x12' function='0x5'/></source></hostdev>",
        "hostdev[1]",
    ),
    _device("mdev", "<hostdev mode='subsystem' type='mdev' model='vfio-pci'/>", "hostdev[1]"),
    _device(
        "filesystem",
        "<filesystem type='mount'><source dir='/'/><target dir='root'/></filesystem>",
        "filesystem[1]",
    ),
    _device("shmem", "<shmem name='other-vm'/>", "shmem[1]"),
    _device("nvdimm", "<memory model='nvdimm'><source><path>/dev/mem</path></source></memory>", "memory[1]"),
    _device("hostdev-nic", "<interface type='hostdev'/>", "interface[1]"),
    _device("second-nic-vhostuser", "<interface type='user'/><interface type='vhostuser'/>", "interface[2]"),
    _device("vdpa-nic", "<interface type='vdpa'><source dev='/dev/vhost-vdpa-0'/></interface>", "interface[1]"),
    _device("rom-file", "<interface type='user'><rom file='/etc/shadow'/></interface>", "interface[1]/rom/@file"),
    _device(
        "tpm-passthrough",
        "<tpm><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>",
        "tpm[1]/backend",
    ),
    _device("rng-egd", "<rng model='virtio'><backend model='egd' type='tcp'/></rng>", "rng[1]/backend"),
    _device("rng-file", "<rng model='virtio'><backend>/etc/shadow</backend></rng>", "rng[1]/backend"),
    _device("evdev", "<input type='evdev'><source dev='/dev/input/event0'/></input>", "input[1]"),
    _device("crypto-host", "<crypto model='virtio'><backend model='lkcf'/></crypto>", "crypto[1]/backend"),
    _device("video-vhostuser", "<video><driver name='vhostuser'/></video>", "video[1]/driver"),
    _device("xinclude", "<xi:include xmlns:xi='http://www.w3.org/2001/XInclude' href='/etc/passwd'/>", "xi:include[1]"),
    Hostile(
        "encrypted-disk",
        machine(disk="<disk><target dev='vda'/><encryption format='luks'/></disk>"),
        "/domain/devices/disk[1]/encryption",
    ),
    Hostile(
        "encrypted-source",
        machine(disk="<disk><source file='/a'><encryption format='luks'/></source><target dev='vda'/></disk>"),
        "/domain/devices/disk[1]/source/encryption",
    ),
    Hostile("kernel", machine(os="<kernel>/boot/vmlinuz</kernel>"), "/domain/os/kernel"),
    Hostile("initrd", machine(os="<initrd>/etc/shadow</initrd>"), "/domain/os/initrd"),
    Hostile("dtb", machine(os="<dtb>/etc/shadow</dtb>"), "/domain/os/dtb"),
    Hostile("shim", machine(os="<shim>/etc/shadow</shim>"), "/domain/os/shim"),
    Hostile("acpi-table", machine(os="<acpi><table type='slic'>/etc/shadow</table></acpi>"), "/domain/os/acpi"),
    Hostile(
        "fwcfg",
        machine(top="<sysinfo type='fwcfg'><entry name='opt/x' file='/etc/shadow'/></sysinfo>"),
        "/domain/sysinfo",
    ),
    Hostile(
        "qemu-commandline",
        machine(attributes=_QEMU, top="<qemu:commandline><qemu:arg value='-S'/></qemu:commandline>"),
        "/domain/qemu:commandline",
    ),
    Hostile(
        "qemu-override-in-devices",
        machine(f"<qemu:override {_QEMU}/>"),
        "/domain/devices/qemu:override[1]",
    ),
    Hostile("foreign-attribute", machine(attributes=f"{_QEMU} qemu:x='1'"), "/domain/@x"),
    Hostile("lxc", machine().replace("type='kvm'", "type='lxc'"), "/domain/@type"),
    Hostile("exe", machine().replace(">hvm<", ">exe<"), "/domain/os/type"),
    Hostile("arm", machine().replace("x86_64", "aarch64"), "/domain/os/type/@arch"),
    Hostile("board", machine().replace("'q35'", "'virt-7.2'"), "/domain/os/type/@machine"),
    Hostile("no-memory", machine().replace("memory", "remembrance"), "/domain/memory"),
    Hostile("much-memory", machine().replace(">512<", ">999999999999<"), "/domain/memory"),
    Hostile("no-vcpus", machine().replace("<vcpu>1<", "<vcpu>0<"), "/domain/vcpu"),
    Hostile("no-disk", machine(disk=""), "/domain/devices"),
    Hostile("disk-without-target", machine("<disk type='file'/>"), "/domain/devices/disk[2]/target"),
    Hostile("disk-twice", machine("<disk><target dev='vda'/></disk>"), "/domain/devices/disk[2]/target"),
    Hostile("xen-disk", machine("<disk><target dev='sdb' bus='xen'/></disk>"), "/domain/devices/disk[2]/target"),
    Hostile("target-as-path", machine("<disk><target dev='../vda'/></disk>"), "/domain/devices/disk[2]/target"),
    Hostile("image-missing", machine("<disk><target dev='vdb'/></disk>"), "/domain/devices/disk[2]"),
    Hostile(
        "disks-in-second-devices",
        machine(disk="").replace("</domain>", "<devices><disk/></devices></domain>"),
        "/domain/devices",
    ),
    Hostile("network-definition", "<network><name>default</name></network>", "/"),
    Hostile("snapshot", f"<domainsnapshot>{machine()}</domainsnapshot>", "/"),
)
