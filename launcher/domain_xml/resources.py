"""vcpus, memory and CPU model: what the machine is granted, as the accelerator gives it."""

from lxml import etree

from launcher.domain_xml.build import Build
from launcher.domain_xml.tree import add, put_one, take_out

# Without rdrand a guest's first Python start waits about a second for random numbers. The others are what programs
# compiled for processors of the last fifteen years expect.
_EMULATED_FEATURES = {
    **dict.fromkeys(("rdrand", "ssse3", "sse4.1", "sse4.2", "popcnt"), "require"),
    # QEMU 7.2 emulates cmpxchg16b so that Linux 6.12 panics in about one boot of ten: docs/adr/0006.
    "cx16": "disable",
}
# By QEMU's default the cache grows to the size of the guest's working code: 60 MiB more for each vm, measured.
_TRANSLATION_CACHE_MIB = 32


def set_resources(root: etree._Element, build: Build) -> None:
    """Grant vcpus and memory, all of them from the start."""
    put_one(root, "memory", {"unit": "MiB"}, str(build.vm.memory_mib))
    put_one(root, "vcpu", {"placement": "static"}, str(build.vm.vcpus))


def set_processor(root: etree._Element, build: Build) -> None:
    """Give the host's own CPU under KVM, one that TCG has in full without it; one socket of all vcpus."""
    if build.is_emulated:
        cpu = put_one(root, "cpu", {"mode": "custom", "match": "exact", "check": "none"})
        add(cpu, "model", {"fallback": "forbid"}).text = "qemu64"
    else:
        cpu = put_one(root, "cpu", {"mode": "host-passthrough", "check": "none"})
    add(cpu, "topology", {"sockets": "1", "cores": str(build.vm.vcpus), "threads": "1"})
    for feature, policy in _EMULATED_FEATURES.items() if build.is_emulated else ():
        add(cpu, "feature", {"policy": policy, "name": feature})


def set_features(root: etree._Element, build: Build) -> None:
    """Make sure that a guest can power itself off, and leave out what only KVM can give."""
    features = root.find("features")
    if features is None:
        features = add(root, "features")
    if features.find("acpi") is None:
        add(features, "acpi")
    take_out(features, "tcg")
    if build.is_emulated:
        take_out(features, "hyperv")
    if build.is_emulated and build.node.has_translation_cache:
        put_one(put_one(features, "tcg"), "tb-cache", {"unit": "MiB"}, str(_TRANSLATION_CACHE_MIB))


def set_clock(root: etree._Element, build: Build) -> None:
    """Start the guest's clock at the node's, without what only KVM can give."""
    clock = root.find("clock")
    if clock is None:
        return
    clock.set("offset", clock.get("offset") or "utc")
    if build.is_emulated:
        take_out(clock, "timer[@name='kvmclock']")
        take_out(clock, "timer[@name='hypervclock']")
