"""What `--install-guest` says when it cannot; that it can is shown by a real vm in tests/vm."""

from pathlib import Path

import pytest

from broker.desktop.failure import DesktopFailure
from broker.desktop.install_guest import install_guest


def have_virt_customize(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "virt-customize"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


async def test_a_missing_virt_customize_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DesktopFailure, match="virt-customize is not installed: install libguestfs-tools on Debian"):
        await install_guest(tmp_path / "disk.qcow2", print)


@pytest.mark.parametrize(
    ("complaint", "sentence"),
    [
        ("virt-customize: error: no operating systems were found in the guest image", "install the stub inside the"),
        ("vmbroker: the init system is unknown\nvirt-customize: error: install: ended 1", "init system is"),
        ("virt-customize: error: libguestfs error: disk.qcow2: No such file", "libguestfs error: disk.qcow2: No such"),
    ],
)
async def test_what_went_wrong_is_told_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: str, sentence: str
) -> None:
    have_virt_customize(tmp_path, monkeypatch, f"echo '{complaint.replace(chr(39), '')}' >&2; exit 1")
    with pytest.raises(DesktopFailure, match=sentence) as caught:
        await install_guest(tmp_path / "disk.qcow2", print)
    assert "\n" not in str(caught.value)


async def test_a_kvm_that_does_not_work_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_with_kvm = '[ -n "$LIBGUESTFS_BACKEND_SETTINGS" ] || { echo "error: guestfs_launch failed" >&2; exit 1; }'
    have_virt_customize(tmp_path, monkeypatch, failing_with_kvm)
    said: list[str] = []
    await install_guest(tmp_path / "disk.qcow2", said.append)
    assert "once more without" in said[1]
    assert said[-1] == "disk.qcow2: the guest's stub is installed"
