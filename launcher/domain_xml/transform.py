"""From a researcher's XML to the domain of one vm: small steps over one tree.

What no step touches stays as and where it was, so a diff of input and output shows our change and nothing else.
"""

from collections.abc import Callable

from lxml import etree

from launcher.domain_xml import judge
from launcher.domain_xml.added_disks import add_data_disks, add_guest_disk, add_seed_disk
from launcher.domain_xml.build import Build
from launcher.domain_xml.consoles import add_channel, set_consoles
from launcher.domain_xml.credential import add_ticket
from launcher.domain_xml.disks import set_disks
from launcher.domain_xml.examination import examine_tree
from launcher.domain_xml.firmware import set_boot_order, set_firmware
from launcher.domain_xml.hardware import set_hardware, set_usb
from launcher.domain_xml.identity import set_identity
from launcher.domain_xml.label import set_label
from launcher.domain_xml.lifecycle import set_lifecycle
from launcher.domain_xml.network import set_network
from launcher.domain_xml.parsing import parse
from launcher.domain_xml.resources import set_clock, set_features, set_processor, set_resources
from launcher.domain_xml.shares import set_shares
from launcher.domain_xml.vm import Node, Vm

_STEPS: tuple[Callable[[etree._Element, Build], None], ...] = (
    set_identity,
    set_resources,
    set_firmware,
    set_features,
    set_processor,
    set_clock,
    set_lifecycle,
    set_disks,
    # After the disks that may boot are settled, before those that never do.
    set_boot_order,
    add_data_disks,
    add_seed_disk,
    add_guest_disk,
    set_shares,
    set_usb,
    set_network,
    set_consoles,
    add_channel,
    add_ticket,
    set_hardware,
    set_label,
)


def transform(xml: bytes, vm: Vm, node: Node) -> str:
    """Return the domain XML of `vm` for libvirt's `createXML`.

    The same input gives the same output. `output.check_output` judges the result before libvirt sees it.

    Raises:
        XmlRefused: the XML asks for what no vm gets, or its disks are not those of `vm.overlays`.
        NoMachineType, NoFirmware: the node lacks what the machine needs; another node may have it.
    """
    root = parse(xml)
    examination, decisions = examine_tree(root, vm.overlays.keys())
    build = Build(facts=examination.accepted(), vm=vm, node=node)
    judge.prune(decisions)
    for step in _STEPS:
        step(root, build)
    etree.cleanup_namespaces(root)
    etree.indent(root)
    return etree.tostring(root, encoding="unicode") + "\n"
