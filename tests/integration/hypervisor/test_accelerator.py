import json
from pathlib import Path

import pytest

from broker.wire.states import Accelerator
from launcher.hypervisor import accelerator
from launcher.hypervisor.accelerator import MEMORY_FILE, probe_accelerator
from launcher.hypervisor.account import Account
from launcher.hypervisor.errors import HypervisorError, Unavailable


async def test_the_probe_tells_what_works_and_why(tmp_path: Path, account: Account) -> None:
    probe = await probe_accelerator(account, tmp_path)
    if probe.accelerator is Accelerator.KVM:
        assert probe.reason.startswith("KVM got through 20,000,000 instructions")
    else:
        assert probe.reason.startswith(("KVM does not work here: with the CPU model ", "this node has no /dev/kvm"))


async def test_the_answer_is_remembered_for_this_boot_and_this_account(
    tmp_path: Path, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await probe_accelerator(account, tmp_path)
    monkeypatch.setattr(accelerator, "INSTRUCTIONS", 2**33 - 2)  # a probe that cannot end in time
    monkeypatch.setattr(accelerator, "TCG_LIMIT_S", 0.5)
    assert await probe_accelerator(account, tmp_path) == first
    monkeypatch.setattr(accelerator, "BOOT_ID", tmp_path / "boot_id")
    (tmp_path / "boot_id").write_text("another boot\n")
    with pytest.raises(Unavailable, match="too busy"):
        await probe_accelerator(account, tmp_path)


async def test_a_damaged_memory_is_probed_anew(tmp_path: Path, account: Account) -> None:
    (tmp_path / MEMORY_FILE).write_text("{")
    probe = await probe_accelerator(account, tmp_path)
    assert json.loads((tmp_path / MEMORY_FILE).read_text())["reason"] == probe.reason
    assert [path.name for path in tmp_path.iterdir()] == [MEMORY_FILE]


async def test_a_kvm_that_does_not_get_through_is_not_used(
    tmp_path: Path, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    # TCG in KVM's place, with more to do than it can: what a host that emulates KVM's guests looks like.
    run = accelerator._run

    async def slow_kvm(
        program: str, account: Account, rom: int, _: str, cpu: str, limit_s: float
    ) -> accelerator._Outcome:
        is_kvm = limit_s == accelerator.KVM_LIMIT_S
        return await run(program, account, rom, "tcg", "qemu64", 0.01 if is_kvm else limit_s)

    monkeypatch.setattr(accelerator, "_run", slow_kvm)
    monkeypatch.setattr(accelerator, "KVM_DEVICE", tmp_path)
    probe = await probe_accelerator(account, tmp_path)
    assert probe.accelerator is Accelerator.TCG
    assert "with the CPU model qemu64, 20,000,000 instructions took longer than" in probe.reason


async def test_a_node_without_qemu_is_told_what_to_install(tmp_path: Path, account: Account) -> None:
    with pytest.raises(HypervisorError, match=r"apt-get install .*qemu-system-x86"):
        await probe_accelerator(account, tmp_path, qemu="qemu-system-none")


async def test_a_qemu_that_does_not_run_is_told_in_its_own_words(tmp_path: Path, account: Account) -> None:
    with pytest.raises(HypervisorError, match="QEMU ended with status 1"):
        await probe_accelerator(account, tmp_path, qemu="false")
