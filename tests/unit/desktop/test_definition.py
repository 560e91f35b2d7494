from pathlib import Path

import pytest

from broker.desktop.definition import NamedDisk, Volume, read_definition
from launcher.domain_xml import XmlRefused

DISKS = b"""
<domain type='kvm'><name>d</name><devices>
  <disk type='file' device='disk'>
    <driver name='qemu' type='qcow2'/><source file='/i/top.qcow2'/>
    <backingStore type='file'><format type='raw'/><source file='/i/base.raw'/></backingStore>
    <target dev='vda' bus='virtio'/>
  </disk>
  <disk type='block'><driver type='raw'/><source dev='/dev/vg/d'/><target dev='vdb'/><readonly/></disk>
  <disk type='volume'><source pool='default' volume='d.img'/><target dev='vdc'/></disk>
  <disk type='network'><source protocol='rbd' name='p/i'/><target dev='vdd'/></disk>
  <disk type='file' device='cdrom'><target dev='sda'/></disk>
</devices></domain>"""


def test_each_disk_is_told_with_where_its_bytes_are() -> None:
    assert read_definition(DISKS).disks == (
        NamedDisk(target="vda", bus="virtio", device="disk", source=Path("/i/top.qcow2"), format="qcow2"),
        NamedDisk(
            target="vdb",
            bus="virtio",
            device="disk",
            source=Path("/dev/vg/d"),
            format="raw",
            is_block=True,
            is_readonly=True,
        ),
        NamedDisk(target="vdc", bus="virtio", device="disk", source=Volume(pool="default", name="d.img"), format=None),
        NamedDisk(target="vdd", bus="virtio", device="disk", source=None, format=None),
        NamedDisk(target="sda", bus="scsi", device="cdrom", source=None, format=None),
    )


@pytest.mark.parametrize(
    ("os", "path", "image_format"),
    [
        ("<nvram template='/t.fd'>/n/d_VARS.fd</nvram>", Path("/n/d_VARS.fd"), "raw"),
        ("<nvram format='qcow2'>/n/d.qcow2</nvram>", Path("/n/d.qcow2"), "qcow2"),
        ("<nvram type='file'><source file='/n/d_VARS.fd'/></nvram>", Path("/n/d_VARS.fd"), "raw"),
        ("<nvram template='/t.fd'/>", None, "raw"),
        ("", None, "raw"),
    ],
)
def test_the_uefi_variables_are_found(os: str, path: Path | None, image_format: str) -> None:
    definition = read_definition(f"<domain type='kvm'><name>d</name><os>{os}</os></domain>".encode())

    assert (definition.nvram, definition.nvram_format) == (path, image_format)


def test_no_entity_is_followed() -> None:
    with pytest.raises(XmlRefused, match="document type"):
        read_definition(b"<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><domain>&x;</domain>")
