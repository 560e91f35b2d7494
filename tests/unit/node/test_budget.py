import asyncio
from pathlib import Path

import pytest

from launcher.node import budget as module
from launcher.node.budget import MAX_FILES, Budget, Budgets
from launcher.node.console import TRIM_BYTES, Console

MIB = 1 << 20


async def budget_of(folder: Path, limit_mib: int) -> Budget:
    return Budget(folder, limit_mib, Console(folder / "console.log"))


async def test_what_a_file_takes_counts_and_not_how_large_it_looks(tmp_path: Path) -> None:
    budget = await budget_of(tmp_path, 2)
    with (tmp_path / "sparse.qcow2").open("wb") as file:
        file.truncate(1 << 30)
    assert budget.look() is None
    (tmp_path / "vda.qcow2").write_bytes(b"x" * 3 * MIB)
    sentence = budget.look()
    assert sentence is not None
    assert "took 3 MiB" in sentence
    assert "2 MiB of the stream's needs.disk_mib: raise it" in sentence


async def test_a_folder_of_too_many_files_is_too_much(tmp_path: Path) -> None:
    budget = await budget_of(tmp_path, 2)
    for number in range(MAX_FILES + 1):
        (tmp_path / str(number)).touch()
    assert str(MAX_FILES) in (budget.look() or "")


async def test_a_look_cuts_a_console_log_that_a_guest_floods(tmp_path: Path) -> None:
    budget = await budget_of(tmp_path, 100)
    (tmp_path / "console.log").write_bytes(b"x" * (TRIM_BYTES + 1))
    assert budget.look() is None
    assert (tmp_path / "console.log").stat().st_size == 0


async def test_one_loop_tells_of_the_vm_that_took_too_much_and_survives_a_folder_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    (tmp_path / "greedy").mkdir()
    (tmp_path / "modest").mkdir()
    budgets = Budgets()
    greedy, modest, gone = [await budget_of(tmp_path / name, 1) for name in ("greedy", "modest", "gone")]
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(budgets.serve())
        with budgets.watching(greedy), budgets.watching(modest), budgets.watching(gone):
            waiting = tasks.create_task(modest.exceeded())
            (tmp_path / "greedy" / "vda.qcow2").write_bytes(b"x" * 2 * MIB)
            assert "took 2 MiB" in await greedy.exceeded()
            assert not waiting.done()
        waiting.cancel()
        serving.cancel()
