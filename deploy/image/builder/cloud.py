"""The cloud image: Debian with cloud-init as its package configures it, and nothing of vmbroker."""

from . import systemd
from .cache import Recipe, Workplace

MACHINE = systemd.Machine(
    "trixie", "cloud", system=["cloud-init", "iproute2"], kept_generators={"cloud-init-generator"}
)


def build(place: Workplace) -> dict[str, str]:
    parts = systemd.install(MACHINE, place)
    # Its network is cloud-init's to configure.
    (parts.root / "etc/systemd/network/80-dhcp.network").unlink()
    systemd.write_disk(parts.root, place)
    return parts.versions


RECIPE = Recipe("cloud", MACHINE.suite, about_s=60, sources=systemd.COMMON_SOURCES, build=build)
