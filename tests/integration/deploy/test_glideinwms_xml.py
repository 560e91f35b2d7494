"""The XML for a frontend and a factory has only elements, attributes and values that GlideinWMS documents."""

import ast
from xml.etree import ElementTree as ET
from xml.etree.ElementTree import Element

import pytest

from tests.integration.deploy.files import DEPLOY
from tests.integration.deploy.glideinwms_xml import ENTRY, GROUP, VALUES, Known, faults

_FOLDER = DEPLOY / "glideinwms"
FRAGMENTS = {"frontend-group.xml": GROUP, "factory-entry.xml": ENTRY}


def fragment(name: str) -> Element:
    return ET.parse(_FOLDER / name).getroot()


@pytest.mark.parametrize(("name", "known"), FRAGMENTS.items())
def test_a_fragment_has_what_is_documented_and_nothing_else(name: str, known: Known) -> None:
    assert list(faults(fragment(name), known)) == []


@pytest.mark.parametrize("name", FRAGMENTS)
def test_values_of_which_there_are_few_are_among_them(name: str) -> None:
    for element in fragment(name).iter():
        for attribute, value in element.items():
            assert value in VALUES.get(attribute, {value}), f"{element.tag} {attribute}={value!r}"


def test_what_is_not_documented_would_be_found() -> None:
    group = fragment("frontend-group.xml")
    match = group.find("match")
    assert match is not None
    match.set("query_expr", "True")
    del group.attrib["enabled"]
    ET.SubElement(group, "file")
    assert sorted(faults(group, GROUP)) == [
        "/group has no element file",
        "/group lacks the attribute enabled",
        "/group/match has no attribute query_expr",
    ]


def test_a_group_asks_entries_for_what_the_entry_publishes_and_names_it_among_its_attributes() -> None:
    published = {
        attr.get("name"): attr.get("value")
        for attr in fragment("factory-entry.xml").iter("attr")
        if attr.get("publish") == "True"
    }
    group = fragment("frontend-group.xml")
    factory = group.find("match/factory")
    assert factory is not None
    assert factory.get("query_expr") == f'VMBROKER_VIRT =?= "{published["VMBROKER_VIRT"]}"'
    assert [each.get("name") for each in factory.iter("match_attr")] == ["VMBROKER_VIRT"]


def test_the_expression_that_matches_entries_is_python_and_takes_those_alone_that_have_vms() -> None:
    match = fragment("frontend-group.xml").find("match")
    assert match is not None
    expression = compile(ast.parse(str(match.get("match_expr")), mode="eval"), "match_expr", "eval")
    job = {"RequiresVirtualization": True}
    for attributes, expected in (({"VMBROKER_VIRT": "True"}, True), ({"VMBROKER_VIRT": "False"}, False), ({}, False)):
        assert eval(expression, {"glidein": {"attrs": attributes}, "job": job}) is expected


def test_a_group_brings_the_bundle_before_the_script_that_needs_it() -> None:
    bundle, script = fragment("frontend-group.xml").iter("file")
    assert (bundle.get("untar"), script.get("executable")) == ("True", "True")
    folder = bundle.find("untar_options")
    assert folder is not None
    assert folder.get("absdir_outattr") == "VMBROKER_DIR"
    assert str(script.get("absfname")).endswith("/can_run_vm.sh")


def test_a_glidein_asks_again_while_it_lives_and_its_slots_have_the_same_attributes_then() -> None:
    _, script = fragment("frontend-group.xml").iter("file")
    assert int(str(script.get("period"))) >= 600
    assert script.get("prefix") == "NOPREFIX"


def test_an_entry_submits_to_the_queue_of_nodes_for_vms() -> None:
    asked = {each.get("name"): each.get("value") for each in fragment("factory-entry.xml").iter("submit_attr")}
    assert asked["+remote_queue"] == '"virt"'
