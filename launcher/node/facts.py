"""What is told of a node with each vm's end, so that a failure can be understood from afar. Nothing secret is in it."""

import os
from collections.abc import Iterable
from pathlib import Path

from launcher.hypervisor.capabilities import Capabilities

CPU_INFO = Path("/proc/cpuinfo")
_MAX_FACT_CHARS = 256


def node_facts(
    capabilities: Capabilities,
    *,
    accelerator_reason: str,
    exchanges: Iterable[str],
    launcher_version: str,
    cpu_info: Path = CPU_INFO,
) -> dict[str, str]:
    """Return the node's facts: they hold for as long as the launcher runs."""
    facts = {
        "launcher_version": launcher_version,
        "qemu": capabilities.qemu_version,
        "libvirt": capabilities.libvirt_version,
        "kernel": os.uname().release,
        "cpu": _cpu_model(cpu_info),
        "accelerator_reason": accelerator_reason,
        "exchanges": ", ".join(exchanges),
    }
    return {name: value[:_MAX_FACT_CHARS] for name, value in facts.items() if value}


def _cpu_model(cpu_info: Path) -> str:
    """Return the processor's own name for itself, empty where it tells none. Source: proc(5)."""
    for line in cpu_info.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return ""
