"""What a node can do is tried by the real programs; what is remembered holds for this boot and these programs."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.wire.states import Exchange
from launcher.exchange import programs, rootdisk, rootdisk_probe
from launcher.hypervisor.account import Account
from launcher.hypervisor.emulator import find_emulator
from launcher.node.abilities import Abilities, probe_abilities
from tests.support.launching import short_folder

LEAST_QEMU = """#!/bin/sh
echo "qemu: -device virtio-9p-pci: 'virtio-9p-pci' is not a valid device model name" >&2
exit 1
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder("abilities-") as folder:
        (folder / "cache").mkdir()
        yield folder


@pytest.fixture(autouse=True)
def _without_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """libguestfs, which takes long, is left to the tests that boot vms."""
    for name in ("SUPERMIN_KERNEL", "SUPERMIN_MODULES"):
        monkeypatch.setenv(name, "/nowhere")


async def abilities(folder: Path, emulator: str) -> Abilities:
    return await probe_abilities(Account.choose(), emulator, folder / "cache", folder)


async def test_disks_and_9p_that_work_are_offered(folder: Path) -> None:
    emulator = find_emulator()
    assert emulator is not None
    able = await abilities(folder, emulator)
    assert able.has_9p
    assert able.has_disks
    assert not able.has_rootdisk
    assert {Exchange.SHARED, Exchange.DISK} < set(able.exchanges)
    assert not (folder / "probe").exists()


async def test_programs_that_are_there_and_do_not_work_are_not_offered(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("qemu", "mkfs.ext4"):
        (folder / name).write_text(LEAST_QEMU)
        (folder / name).chmod(0o755)
    monkeypatch.setattr("launcher.exchange.programs.SYSTEM_PATH", f"{folder}:{os.defpath}")
    able = await abilities(folder, str(folder / "qemu"))
    assert not able.has_9p
    assert not able.has_disks


async def test_that_libguestfs_works_is_remembered_for_this_boot_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "modules").mkdir()
    for name in ("kernel", rootdisk.PROGRAM):
        (folder / name).write_text("#!/bin/sh\nexit 1\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("SUPERMIN_KERNEL", str(folder / "kernel"))
    monkeypatch.setenv("SUPERMIN_MODULES", str(folder / "modules"))
    for module in (programs, rootdisk, rootdisk_probe):
        monkeypatch.setattr(module, "SYSTEM_PATH", f"{folder}:{os.defpath}")
    monkeypatch.setattr(rootdisk, "_MODULES", folder / "modules")
    account, memory = Account.choose(), folder / "cache" / rootdisk_probe.MEMORY_FILE

    async def why_unusable() -> str | None:
        return await rootdisk_probe.why_unusable(account, sys.executable, folder / "cache", folder)

    assert "cannot start its appliance" in str(await why_unusable())
    assert not memory.exists()
    (folder / rootdisk.PROGRAM).write_text("#!/bin/sh\n")
    assert await why_unusable() is None
    remembered = json.loads(memory.read_bytes())
    memory.write_text(json.dumps(remembered | {"boot_id": "another"}))
    status = (folder / rootdisk.PROGRAM).stat()
    (folder / rootdisk.PROGRAM).write_text("#!/bin/sh\nexit 1\n")
    os.utime(folder / rootdisk.PROGRAM, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert await why_unusable() is not None
    memory.write_text(json.dumps(remembered))
    assert await why_unusable() is None
