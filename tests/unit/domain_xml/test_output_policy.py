import dataclasses

import pytest

from broker.wire.states import Accelerator
from launcher.domain_xml import AllowedPaths, UnsafeOutput, check_output, transform
from tests.unit.domain_xml.cases import ALLOWED, CASES, RUN_FOLDER, node_with, vm_with
from tests.unit.domain_xml.hostile import machine

GOOD = transform(machine().encode(), vm_with(["vda"]), node_with())
UEFI = transform(machine().replace("<os>", "<os firmware='efi'>").encode(), vm_with(["vda"]), node_with())
OVERLAY = f"{RUN_FOLDER}/vda.qcow2"
CONSOLE = f"{RUN_FOLDER}/console.log"
SOCKET = f"{RUN_FOLDER}/port.sock"
DEVICES_END = "</devices>"

TAMPERED = {
    "source-outside": (OVERLAY, "/etc/shadow"),
    "source-with-dots": (OVERLAY, f"{RUN_FOLDER}/../other/vda.qcow2"),
    "source-with-empty-segment": (OVERLAY, f"{RUN_FOLDER}//vda.qcow2"),
    "source-in-a-folder-of-like-name": (OVERLAY, f"{RUN_FOLDER}9/vda.qcow2"),
    "source-is-the-folder": (OVERLAY, f"{RUN_FOLDER}/"),
    "source-relative": (OVERLAY, "vda.qcow2"),
    "source-empty": (OVERLAY, ""),
    "source-in-the-cache-writable": (OVERLAY, f"{ALLOWED.cache_folder}/sha256-1"),
    "source-twice": ("<source file=", "<source file='/etc/shadow'/><source file="),
    "overlay-raw": ('type="qcow2"', 'type="raw"'),
    "guest-disk-writable": ("<readonly/>", ""),
    "guest-disk-probed": ('type="raw"', 'type="qcow2"'),
    "disk-type-block": ('<disk type="file"', '<disk type="block"'),
    "backing-store": (
        "<readonly/>",
        "<readonly/><backingStore type='file'><source file='/etc/shadow'/></backingStore>",
    ),
    "console-outside": (CONSOLE, "/var/log/syslog"),
    "console-listens": ('<serial type="file">', '<serial type="tcp">'),
    "second-serial": (DEVICES_END, f"<serial type='file'><source path='/tmp/x'/></serial>{DEVICES_END}"),
    "socket-outside": (SOCKET, "/run/libvirt/libvirt-sock"),
    "socket-connects": ('mode="bind"', 'mode="connect"'),
    "socket-too-long": (SOCKET, f"{RUN_FOLDER}/{'s' * 108}"),
    "other-channel": ("org.vmbroker.0", "org.qemu.guest_agent.0"),
    "other-network": ('<interface type="user">', '<interface type="bridge">'),
    "network-source": ("<rom ", "<source dev='eth0'/><rom "),
    "network-backend": ("<rom ", "<backend type='passt'/><rom "),
    "second-network": (DEVICES_END, f"<interface type='user'/>{DEVICES_END}"),
    "graphics": (DEVICES_END, f"<graphics type='vnc' port='5900'/>{DEVICES_END}"),
    "hostdev": (DEVICES_END, f"<hostdev mode='subsystem' type='pci'/>{DEVICES_END}"),
    "emulator": (ALLOWED.emulator, "/bin/sh"),
    "random-numbers": ("/dev/urandom", "/dev/sda"),
    "file-where-none-belongs": ('cores="2"', 'cores="/dev/sda"'),
    "serial-number-as-path": ("VMBROKER", "/etc/shadow"),
    "kernel": ("</os>", "<kernel>/boot/vmlinuz</kernel></os>"),
    "reboots": ("<on_reboot>destroy", "<on_reboot>restart"),
    "no-reboot-rule": ("<on_reboot>destroy</on_reboot>", ""),
    "seclabel": ("</domain>", "<seclabel type='none'/></domain>"),
    "second-devices": ("</domain>", "<devices/></domain>"),
    "commandline": ("</domain>", "<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'/></domain>"),
    "metadata-of-others": ("</metadata>", "<x:x xmlns:x='urn:x'/></metadata>"),
    "not-a-domain": ("domain", "network"),
}


@pytest.mark.parametrize(("old", "new"), TAMPERED.values(), ids=TAMPERED.keys())
def test_what_no_vm_may_have_is_found(old: str, new: str) -> None:
    check_output(GOOD, ALLOWED)
    assert old in GOOD
    with pytest.raises(UnsafeOutput) as unsafe:
        check_output(GOOD.replace(old, new), ALLOWED)
    assert unsafe.value.faults


def test_uefi_variables_stay_in_the_run_folder() -> None:
    check_output(UEFI, ALLOWED)
    with pytest.raises(UnsafeOutput, match="not inside the vm's run folder"):
        check_output(UEFI.replace(f"{RUN_FOLDER}/nvram.fd", "/var/lib/libvirt/qemu/nvram/other.fd"), ALLOWED)


def test_an_image_of_the_cache_may_be_named_read_only() -> None:
    read_only = GOOD.replace(OVERLAY, f"{ALLOWED.cache_folder}/sha256-1").replace("<target ", "<readonly/><target ", 1)
    check_output(read_only, ALLOWED)


def test_a_vm_does_not_pass_with_another_vms_paths() -> None:
    other = dataclasses.replace(ALLOWED, run_folder="/scratch/slot1/vms/other")
    with pytest.raises(UnsafeOutput) as unsafe:
        check_output(GOOD, other)
    assert len(unsafe.value.faults) == len((OVERLAY, CONSOLE, SOCKET))


@pytest.mark.parametrize("folder", ["", "/", "relative", "/a/../b", "/a/", "//a"])
def test_allowed_paths_themselves_are_plain(folder: str) -> None:
    with pytest.raises(ValueError, match="is no absolute path"):
        dataclasses.replace(ALLOWED, run_folder=folder)


def test_a_vm_under_kvm_passes_as_well() -> None:
    check_output(transform(machine().encode(), vm_with(["vda"]), node_with(Accelerator.KVM)), ALLOWED)


def test_no_researchers_xml_passes_untransformed() -> None:
    for case in CASES:
        with pytest.raises(UnsafeOutput):
            check_output(case.input.read_text().partition("?>")[2] or case.input.read_text(), ALLOWED)


def labelled(label: str | None) -> tuple[str, AllowedPaths]:
    node = dataclasses.replace(node_with(), dac_label=label)
    return transform(machine().encode(), vm_with(["vda"]), node), dataclasses.replace(ALLOWED, dac_label=label)


def test_a_libvirt_that_chooses_qemus_account_is_told_which_one_and_to_change_no_files_owner() -> None:
    xml, allowed = labelled("+64055:+108")
    check_output(xml, allowed)
    assert '<seclabel type="static" model="dac" relabel="no">' in xml
    for unsafe in (GOOD, xml.replace("+64055", "+0"), xml.replace("+64055", "+1000"), xml.replace(' relabel="no"', "")):
        with pytest.raises(UnsafeOutput, match="seclabel"):
            check_output(unsafe, allowed)
    with pytest.raises(UnsafeOutput, match="seclabel: QEMU's account"):
        check_output(xml, ALLOWED)


def test_allowed_paths_are_compared_whole() -> None:
    emulators = AllowedPaths(
        run_folder=RUN_FOLDER,
        cache_folder=ALLOWED.cache_folder,
        guest_disk=ALLOWED.guest_disk,
        emulator=f"{ALLOWED.emulator}-2",
    )
    with pytest.raises(UnsafeOutput, match="is not the node's"):
        check_output(GOOD, emulators)
