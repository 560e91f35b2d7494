"""Machines mangled at random: whatever comes out passes the output policy, or did not come out."""

import copy
import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from broker.wire.states import Accelerator
from launcher.domain_xml import RULES, DataDisk, Share, Vm, XmlRefused, check_output, examine, transform
from launcher.domain_xml.parsing import parse
from tests.unit.domain_xml.cases import (
    ALLOWED,
    CASES,
    FIRMWARE,
    RUN_FOLDER,
    SEED_DISK,
    TICKET_FILE,
    allowed_for,
    node_with,
    vm_with,
)
from tests.unit.domain_xml.hostile import DOMAINS
from tests.unit.domain_xml.test_golden import SCHEMA

SECRET = "/etc/shadow"
BASES = [(parse(case.input.read_bytes()), case.disks) for case in CASES]
TAGS = sorted({part for rule in RULES for part in rule.path.split("/") if part.isidentifier()} | {"surprise"})
ATTRIBUTES = sorted(
    {rule.path.rpartition("@")[2] for rule in RULES if "@" in rule.path} | {"file", "dev", "path", "tty"}
)
VALUES = [
    SECRET,
    "../../x",
    "",
    "0",
    "1",
    "99999",
    "0x00",
    "yes",
    "on",
    "vda",
    "vdyz",
    "virtio",
    "scsi",
    "ide",
    "pci",
    "none",
    "drive",
    "network",
    "file",
    "unix",
    "tcp",
    "disk",
    "cdrom",
    "q35",
    "utc",
    "localtime",
    "rtc",
    "kvmclock",
    "\u0663",
]
FRAGMENTS = [
    copy.deepcopy(device)
    for root in (*(base for base, _ in BASES), *(parse(hostile.xml.encode()) for hostile in DOMAINS))
    for device in root.iterfind("devices/*")
]
SCHEMA_OF_LIBVIRT = etree.RelaxNG(etree.parse(SCHEMA))

Mutation = Callable[[etree._Element, st.DrawFn], None]


def _set_attribute(element: etree._Element, draw: st.DrawFn) -> None:
    element.set(draw(st.sampled_from(ATTRIBUTES)), draw(st.sampled_from(VALUES)))


def _set_text(element: etree._Element, draw: st.DrawFn) -> None:
    element.text = draw(st.sampled_from(VALUES))


def _add_child(element: etree._Element, draw: st.DrawFn) -> None:
    child = etree.SubElement(element, draw(st.sampled_from(TAGS)))
    _set_attribute(child, draw)
    _set_text(child, draw)


def _add_fragment(element: etree._Element, draw: st.DrawFn) -> None:
    element.insert(draw(st.integers(0, len(element))), copy.deepcopy(draw(st.sampled_from(FRAGMENTS))))


def _repeat(element: etree._Element, draw: st.DrawFn) -> None:
    parent = element.getparent()
    if parent is not None:
        parent.append(copy.deepcopy(element))


def _rename(element: etree._Element, draw: st.DrawFn) -> None:
    element.tag = draw(st.sampled_from(TAGS))


def _remove(element: etree._Element, draw: st.DrawFn) -> None:
    parent = element.getparent()
    if parent is not None:
        parent.remove(element)


MUTATIONS: tuple[Mutation, ...] = (_set_attribute, _set_text, _add_child, _add_fragment, _repeat, _rename, _remove)


@st.composite
def mangled(draw: st.DrawFn) -> tuple[bytes, tuple[str, ...]]:
    base, disks = draw(st.sampled_from(BASES))
    root = copy.deepcopy(base)
    for mutate in draw(st.lists(st.sampled_from(MUTATIONS), min_size=1, max_size=6)):
        elements = list(root.iter())
        mutate(elements[draw(st.integers(0, len(elements) - 1))], draw)
    return etree.tostring(root), disks


@st.composite
def vms(draw: st.DrawFn, disks: tuple[str, ...]) -> Vm:
    """Return a vm with some of what an exchange or a machine's own variables add."""
    data_disks = (
        DataDisk(path=f"{RUN_FOLDER}/in.raw", serial="VMB_IN"),
        DataDisk(path=f"{RUN_FOLDER}/out.raw", serial="VMB_OUT", is_writable=True),
    )
    shares = (
        Share(kind="virtiofs", folder=f"{RUN_FOLDER}/share", tag="vmbroker", socket=f"{RUN_FOLDER}/fs.sock"),
        Share(kind="9p", folder=f"{RUN_FOLDER}/share", tag="vmbroker9p"),
    )
    return dataclasses.replace(
        vm_with(disks),
        guest_disk=draw(st.sampled_from([None, ALLOWED.guest_disk])),
        ticket_file=draw(st.sampled_from([None, TICKET_FILE])),
        seed_disk=draw(st.sampled_from([None, SEED_DISK])),
        data_disks=draw(st.sampled_from([(), data_disks])),
        shares=draw(st.sampled_from([(), shares])),
        has_network=draw(st.booleans()),
        nvram_bytes=draw(st.sampled_from([None, FIRMWARE.variables_bytes])),
    )


@given(machine=mangled(), accelerator=st.sampled_from(Accelerator), data=st.data())
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example])
def test_a_mangled_machine_is_refused_or_becomes_a_safe_and_valid_vm(
    machine: tuple[bytes, tuple[str, ...]], accelerator: Accelerator, data: st.DataObject
) -> None:
    xml, disks = machine
    vm = data.draw(vms(disks))
    if refusals := examine(xml, disks).refusals:
        with pytest.raises(XmlRefused) as refused:
            transform(xml, vm, node_with(accelerator))
        assert refused.value.refusals == refusals
        return
    output = transform(xml, vm, node_with(accelerator))
    assert SECRET not in output
    check_output(output, allowed_for(vm))
    SCHEMA_OF_LIBVIRT.assertValid(etree.fromstring(output))


def test_a_machine_that_is_named_at_its_end_becomes_a_valid_vm() -> None:
    base, disks = BASES[0]
    root = copy.deepcopy(base)
    name = root.find("name")
    assert name is not None
    root.append(name)
    shares = (Share(kind="9p", folder=f"{RUN_FOLDER}/share", tag="vmbroker9p"),)
    vm = dataclasses.replace(vm_with(disks), shares=shares, has_network=False)
    output = etree.fromstring(transform(etree.tostring(root), vm, node_with(Accelerator.TCG)))
    assert output[0].tag == "name"
    SCHEMA_OF_LIBVIRT.assertValid(output)


@given(xml=st.binary(max_size=200))
@settings(max_examples=100)
def test_bytes_that_are_no_machine_are_refused_with_a_sentence(xml: bytes) -> None:
    assert all(map(str, examine(xml, ()).refusals))
    assert examine(xml, ()).refusals
