import pytest

from launcher.domain_xml import XmlRefused, examine, first_to_boot, transform
from tests.unit.domain_xml.cases import CASES, Case, node_with, vm_with
from tests.unit.domain_xml.hostile import HOSTILE, Hostile, machine


def test_the_hostile_cases_are_hostile_by_what_they_add_alone() -> None:
    assert examine(machine().encode(), {"vda"}).refusals == ()


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_what_asks_for_the_host_is_refused_where_it_stands(hostile: Hostile) -> None:
    examination = examine(hostile.xml.encode(), {"vda"})
    assert hostile.path in [refusal.path for refusal in examination.refusals]
    assert all(refusal.reason and refusal.remedy for refusal in examination.refusals)
    with pytest.raises(XmlRefused) as refused:
        transform(hostile.xml.encode(), vm_with(["vda"]), node_with())
    assert refused.value.refusals == examination.refusals


def test_all_refusals_come_at_once_each_as_a_sentence() -> None:
    xml = machine(
        "<hostdev type='pci'/><hostdev type='usb'/><disk><target dev='vdb'/></disk>", os="<kernel>/k</kernel>"
    )
    assert [str(refusal) for refusal in examine(xml.encode(), {"vda", "vdz"}).refusals] == [
        "/domain/os/kernel: direct kernel boot reads a file of the host; "
        "install a boot loader in the disk image and remove the element",
        "/domain/devices/hostdev[1]: it asks for a device or memory of the host, and every vm of a node shares that "
        "host; remove the element; a vm has emulated devices only",
        "/domain/devices/hostdev[2]: it asks for a device or memory of the host, and every vm of a node shares that "
        "host; remove the element; a vm has emulated devices only",
        "/domain/devices/disk[2]: disk vdb: no image was given for it; add --disk vdb=FILE, or remove the disk",
        "/domain/devices: an image was given for vdz, which is no disk of this machine; "
        "give images for its disks: vda, vdb",
    ]


def test_a_disk_source_is_replaced_by_the_image_given_for_its_target() -> None:
    output = transform(machine().encode(), vm_with(["vda"]), node_with())
    assert "/etc/shadow" not in output
    assert vm_with(["vda"]).overlays["vda"] in output


def test_a_disk_source_without_an_image_is_refused_by_its_target() -> None:
    (refusal, *_) = examine(machine().encode(), set()).refusals
    assert str(refusal) == (
        "/domain/devices/disk[1]: disk vda: no image was given for it; add --disk vda=FILE, or remove the disk"
    )


def test_an_empty_cdrom_drive_is_dropped_and_said_to_be() -> None:
    case = next(case for case in CASES if case.name == "desktop-q35-spice")
    examination = examine(case.input.read_bytes(), case.disks)
    assert "/domain/devices/disk[2]: no image was given for this removable drive" in map(str, examination.dropped)
    assert "cdrom" not in case.output()


def test_what_is_not_known_is_dropped_and_said_to_be() -> None:
    examination = examine(machine("<timemachine/>", attributes="era='1'").encode(), {"vda"})
    assert [str(change) for change in examination.dropped] == [
        "/domain/@era: vmbroker does not know it",
        "/domain/devices/timemachine[1]: vmbroker does not know it",
    ]


def test_what_is_set_is_told_with_its_reason() -> None:
    put = {change.path: change.why for change in examine(machine().encode(), {"vda"}).put}
    assert put["/domain/name"] == "named after the dispatch"
    assert "never opened" in put["/domain/devices/disk[1]/source"]


def test_stray_text_is_dropped_and_not_the_element_that_holds_it() -> None:
    xml = machine(disk="<disk><target dev='vda'>/etc/shadow</target></disk>")
    output = transform(xml.encode(), vm_with(["vda"]), node_with())
    assert '<target dev="vda"/>' in output
    assert "/etc/shadow" not in output


def test_a_second_interface_is_dropped() -> None:
    xml = machine("<interface type='network'/><interface type='bridge'/>")
    examination = examine(xml.encode(), {"vda"})
    assert "/domain/devices/interface[2]: a vm has only one of these" in map(str, examination.dropped)
    assert transform(xml.encode(), vm_with(["vda"]), node_with()).count("<interface") == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("desktop-q35-spice", ("debian12", "x86_64", "bios", "pc-q35-7.2", 2, 4096, 1)),
        ("centos6-i440fx-ide", ("sl6-worker", "i686", "bios", "rhel6.6.0", 1, 1024, 2)),
        ("rhel9-uefi", ("rhel9.4", "x86_64", "uefi", "pc-q35-rhel9.4.0", 2, 8192, 1)),
        ("minimal", ("tiny", "x86_64", "bios", "pc", 1, 489, 0)),
    ],
)
def test_the_facts_of_a_machine_are_told(name: str, expected: tuple[object, ...]) -> None:
    facts = examine(_case(name).input.read_bytes(), _case(name).disks).accepted()
    assert (
        facts.name,
        facts.arch,
        facts.firmware,
        facts.machine_type,
        facts.vcpus,
        facts.memory_mib,
        facts.interfaces,
    ) == expected


def test_the_disks_of_a_machine_are_told_even_before_images_are_given() -> None:
    facts = examine(_case("centos6-i440fx-ide").input.read_bytes(), ()).facts
    assert facts is not None
    assert [(disk.target, disk.bus, disk.device, disk.format, disk.source) for disk in facts.disks] == [
        ("hda", "ide", "disk", "raw", "/dev/vg_desktop/sl6-worker"),
        ("hdc", "ide", "cdrom", "raw", "/home/user/SL-68-i386-LiveCD.iso"),
    ]


@pytest.mark.parametrize(
    "loader",
    [
        "<loader readonly='yes' type='pflash'>/any/path.fd</loader>",
        "<loader>/usr/share/ovmf/OVMF.fd</loader>",
        "<nvram>/var/lib/libvirt/qemu/nvram/m_VARS.fd</nvram>",
    ],
)
def test_uefi_is_recognised_however_it_was_written(loader: str) -> None:
    assert examine(machine(os=loader).encode(), {"vda"}).accepted().firmware == "uefi"


def _case(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


def _disk(target: str, boot: str = "", device: str = "disk") -> str:
    return f"<disk type='file' device='{device}'><target dev='{target}'/>{boot}</disk>"


@pytest.mark.parametrize(
    ("disks", "first"),
    [
        (_disk("vda") + _disk("vdb"), "vda"),
        (_disk("vda") + _disk("vdb", "<boot order='10'/>") + _disk("vdc", "<boot order='9'/>"), "vdc"),
        (_disk("vda", "<boot order='x'/>") + _disk("vdb", "<boot order='2'/>"), "vdb"),
        (_disk("sda", "<boot order='1'/>", "cdrom") + _disk("vda", "<boot order='2'/>"), "vda"),
        (_disk("vdz", "<boot order='1'/>") + _disk("vda"), "vda"),
        (_disk("sda", device="cdrom"), None),
    ],
)
def test_the_disk_that_boots_first_is_a_hard_disk_by_its_order_else_by_its_place(disks: str, first: str | None) -> None:
    assert first_to_boot(machine(disk=disks).encode(), {"vda", "vdb", "vdc", "sda"}) == first
