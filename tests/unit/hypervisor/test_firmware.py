import json
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from launcher.domain_xml import Firmware
from launcher.hypervisor.firmware import read_firmwares

VARIABLES_BYTES = 540_672


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "CODE.fd").touch()
    (tmp_path / "VARS.fd").write_bytes(bytes(VARIABLES_BYTES))
    return tmp_path / "CODE.fd"


def descriptor(code: Path, **changes: Any) -> bytes:
    executable = {"filename": str(code), "format": "raw"}
    template = {"filename": str(code.with_name("VARS.fd")), "format": "raw"}
    content = {
        "interface-types": ["uefi"],
        "mapping": {"device": "flash", "executable": executable, "nvram-template": template},
        "targets": [{"architecture": "x86_64", "machines": ["pc-q35-*"]}],
        "features": ["acpi-s3"],
    }
    return json.dumps(content | changes).encode()


def firmware(code: Path) -> Firmware:
    return Firmware(loader=str(code), variables_bytes=VARIABLES_BYTES, machines=("pc-q35-*",))


def write(folder: Path, name: str, content: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return folder


def test_a_descriptor_tells_the_loader_its_machines_and_the_size_of_its_variables(tmp_path: Path, code: Path) -> None:
    folder = write(tmp_path / "share", "60-edk2.json", descriptor(code))
    assert read_firmwares([folder], []) == (firmware(code),)


@pytest.mark.parametrize(
    "changes",
    [
        {"features": ["secure-boot", "requires-smm"]},
        {"interface-types": ["bios"]},
        {"mapping": {"device": "memory", "filename": "/x"}},
        {"targets": [{"architecture": "aarch64", "machines": ["virt-*"]}]},
    ],
    ids=["secure-boot", "bios", "memory", "arm"],
)
def test_a_firmware_that_no_vm_gets_is_left_out(tmp_path: Path, code: Path, changes: dict[str, Any]) -> None:
    assert read_firmwares([write(tmp_path / "share", "1.json", descriptor(code, **changes))], []) == ()


def test_a_descriptor_whose_files_are_not_there_is_left_out(tmp_path: Path, code: Path) -> None:
    folder = write(tmp_path / "share", "1.json", descriptor(code))
    code.unlink()
    assert read_firmwares([folder], []) == ()


def test_a_descriptor_of_the_administrator_masks_its_namesake(tmp_path: Path, code: Path) -> None:
    share, etc = write(tmp_path / "share", "1.json", descriptor(code)), write(tmp_path / "etc", "1.json", b"")
    assert read_firmwares([share, etc], []) == ()


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b"\xff"])
def test_a_descriptor_that_cannot_be_read_is_logged_and_spoils_nothing(
    tmp_path: Path, code: Path, content: bytes
) -> None:
    folder = write(write(tmp_path / "share", "1.json", content), "2.json", descriptor(code))
    with capture_logs() as logged:
        assert read_firmwares([folder], []) == (firmware(code),)
    assert [entry["event"] for entry in logged] == ["firmware_descriptor_unreadable"]


def test_a_firmware_without_descriptor_is_found_behind_the_others(tmp_path: Path, code: Path) -> None:
    other = tmp_path / "OLD.fd"
    other.touch()
    folder = write(tmp_path / "share", "1.json", descriptor(code))
    pairs = [(other, code.with_name("VARS.fd")), (code, code.with_name("VARS.fd")), (tmp_path / "none", other)]
    assert [found.loader for found in read_firmwares([folder], pairs)] == [str(code), str(other)]
