"""What deploy/node tells a site is what the code reads and looks for."""

import re
from pathlib import Path

import pytest

from launcher.packages import INSTALL, PACKAGES, REQUIRED, Family, Part, how_to_install
from launcher.settings import Settings, read_settings

NODE = Path(__file__).parents[3] / "deploy" / "node"


def listed(family: Family, names: str) -> set[str]:
    lines = [line.partition("#")[0].strip() for file in NODE.glob(f"{family}/{names}") for line in _lines(file)]
    return {line for line in lines if line}


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("family", Family)
def test_the_lists_of_packages_are_those_that_the_doctor_names(family: Family) -> None:
    required = {package for part in REQUIRED for package in PACKAGES[family][part]}
    assert listed(family, "packages.txt") == required
    named = {package for packages in PACKAGES[family].values() for package in packages}
    assert listed(family, "*.txt") - named <= {"libvirt-daemon-system"}
    assert named <= listed(family, "*.txt")
    assert INSTALL[family] in (NODE / family / "packages.txt").read_text()


@pytest.mark.parametrize("family", [*Family, None])
def test_how_to_install_names_each_part(family: Family | None) -> None:
    told = how_to_install(family, Part.QEMU, Part.QEMU_IMG)
    names = ("qemu",) if family is None else (*PACKAGES[family][Part.QEMU], *PACKAGES[family][Part.QEMU_IMG])
    assert all(name in told for name in names)


def test_the_example_of_a_sites_file_has_every_setting_and_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (NODE / "site.toml").read_text()
    switched_on = re.sub(r"^#(?=[a-z\[])", "", text, flags=re.MULTILINE)
    site = tmp_path / "site.toml"
    for content in (text, switched_on):
        site.write_text(content)
        monkeypatch.setenv("VMBROKER_SITE", str(site))
        read_settings()
    assert read_settings().model_fields_set == set(Settings.model_fields)
