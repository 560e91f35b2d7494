import difflib
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest
from lxml import etree

from launcher.domain_xml import check_output, identity_of
from tests.unit.domain_xml.cases import ALLOWED, CASES, DATA, Case

SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.accelerator}")


@pytest.fixture(scope="module")
def schema() -> etree.RelaxNG:
    return etree.RelaxNG(etree.parse(SCHEMA))


@pytest.fixture
def test_driver() -> Iterator[libvirt.virConnect]:
    connection = libvirt.open("test:///default")
    yield connection
    connection.close()


@each_case
def test_the_machine_becomes_what_its_golden_file_says(case: Case) -> None:
    golden = case.golden.read_text()
    output = case.output()
    assert output == golden, "".join(difflib.unified_diff(golden.splitlines(True), output.splitlines(True)))


@each_case
def test_the_vm_passes_the_output_policy(case: Case) -> None:
    check_output(case.output(), ALLOWED)


@each_case
def test_the_vm_is_valid_by_libvirts_schema(case: Case, schema: etree.RelaxNG) -> None:
    schema.assertValid(etree.fromstring(case.output()))


@each_case
def test_libvirt_accepts_the_vm(case: Case, test_driver: libvirt.virConnect) -> None:
    domain = test_driver.defineXMLFlags(case.output(), libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    assert domain.UUIDString() == "0f8fad5b-d9cb-469f-a165-70867728950e"


@each_case
def test_libvirts_own_xml_of_the_vm_still_says_whose_it_is(case: Case, test_driver: libvirt.virConnect) -> None:
    domain = test_driver.defineXML(case.output())
    identity = identity_of(domain.XMLDesc())
    assert identity is not None
    assert (identity.dispatch_id, identity.item) == ("0f8fad5b-d9cb-469f-a165-70867728950e", "alice/render/17")


def test_no_golden_file_is_without_its_case() -> None:
    assert {path.name for path in DATA.iterdir()} == {path.name for case in CASES for path in (case.input, case.golden)}
