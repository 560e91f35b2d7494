"""The full image: what a researcher would bring. Debian, systemd, a boot loader, a program of science, and the stub."""

import shutil
from pathlib import Path

from . import systemd, targets
from .cache import SOURCES, Recipe, Workplace
from .packages import only

MACHINE = systemd.Machine("trixie", "hmmer", system=["hmmer"], unpacked=["hmmer-examples"])


def build(place: Workplace) -> dict[str, str]:
    parts = systemd.install(MACHINE, place)
    shutil.copytree(SOURCES / "full/root", parts.root, dirs_exist_ok=True)
    shutil.copy(SOURCES / "stub/vmbroker-guest.service", parts.root / "etc/systemd/system")
    systemd.enable(parts.root, "vmbroker-guest.service", "..", wanted_by=r"dev-disk-by\x2dlabel-VMBROKER.device")
    _add_example(parts.root, only(parts.unpacked, "usr/share/doc/hmmer/examples"), place.result / "inputs")
    systemd.write_disk(parts.root, place)
    return parts.versions


def _add_example(root: Path, examples: Path, inputs: Path) -> None:
    (root / "opt/app/targets.fa").write_text(targets.targets(examples))
    inputs.mkdir()
    for name in targets.ALIGNMENTS:
        (inputs / Path(name).name).write_text(targets.read(examples / name))


RECIPE = Recipe("full", MACHINE.suite, about_s=40, sources=(*systemd.COMMON_SOURCES, "full", "stub"), build=build)
