"""What an older libvirt would refuse is left out of its vms."""

from dataclasses import replace

import pytest

from launcher.domain_xml import transform
from launcher.hypervisor.capabilities import Capabilities
from tests.unit.domain_xml.cases import DATA, node_with, vm_with


@pytest.mark.parametrize(("version", "is_known"), [("7.0.0", False), ("8.0.0", True), ("11.3.0", True)])
def test_the_size_of_a_translation_cache_is_named_to_a_libvirt_that_knows_it(version: str, is_known: bool) -> None:
    capabilities = Capabilities("/usr/bin/qemu-system-x86_64", {}, frozenset(), version, "5.2.0")
    node = replace(node_with(), has_translation_cache=capabilities.has_translation_cache)
    xml = transform((DATA / "minimal.in.xml").read_bytes(), vm_with(["vda"]), node)
    assert ("<tcg>" in xml) == is_known
