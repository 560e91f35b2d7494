import os
from pathlib import Path

from launcher.hypervisor.capabilities import Capabilities
from launcher.node.facts import node_facts

CAPABILITIES = Capabilities(
    emulator="/usr/bin/qemu", machines={}, firmwares=frozenset(), libvirt_version="9.0.0", qemu_version="7.2.22"
)


def test_node_tells_its_versions_processor_and_why_its_accelerator(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: AMD EPYC 7B13\nflags\t: fpu\n\nprocessor\t: 1\n")

    facts = node_facts(
        CAPABILITIES,
        accelerator_reason="x" * 1_000,
        exchanges=("network", "disk"),
        launcher_version="0.2",
        cpu_info=tmp_path / "cpuinfo",
    )

    assert facts == {
        "launcher_version": "0.2",
        "qemu": "7.2.22",
        "libvirt": "9.0.0",
        "kernel": os.uname().release,
        "cpu": "AMD EPYC 7B13",
        "accelerator_reason": "x" * 256,
        "exchanges": "network, disk",
    }


def test_processor_without_a_name_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\n")

    assert "cpu" not in node_facts(
        CAPABILITIES, accelerator_reason="", exchanges=(), launcher_version="0.2", cpu_info=tmp_path / "cpuinfo"
    )
