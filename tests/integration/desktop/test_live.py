"""A running machine's disks: a real QEMU goes on writing above what is copied, and is put back in any case."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broker.cli.machine_source import from_domain
from broker.desktop.access import has_writer
from broker.desktop.failure import DesktopFailure
from broker.desktop.live import Running, frozen_disks
from broker.desktop.virsh import find_domain
from tests.integration.desktop.images import info
from tests.integration.desktop.libvirt import NAME, Desktop, desktop

pytestmark = pytest.mark.vm


@pytest.fixture
async def desk() -> AsyncIterator[Desktop]:
    async with desktop() as made:
        await made.virsh("start", NAME)
        yield made


async def running(desk: Desktop) -> Running:
    source = await from_domain(NAME, desk.uri, is_live=True)
    assert source.running is not None
    return source.running


async def test_a_running_machine_is_refused_and_told_what_to_do(desk: Desktop) -> None:
    with pytest.raises(DesktopFailure, match=r"desk is running.*virsh -c \S+ shutdown desk.*--live"):
        await from_domain(NAME, desk.uri, is_live=False)


async def test_its_disks_are_frozen_for_the_copy_and_put_back(desk: Desktop, tmp_path: Path) -> None:
    own, files, said = await desk.sources(), desk.files(), list[str]()
    assert has_writer(desk.top)
    assert has_writer(desk.data)

    async with frozen_disks(await running(desk), tmp_path, said.append):
        assert not has_writer(desk.top)
        assert not has_writer(desk.data)
        assert all(path.endswith(".vmbroker-live") for path in await desk.sources())

    assert await desk.sources() == own
    assert desk.files() == files
    assert Path(info(desk.top, "-U")["backing-filename"]).name == "base.img"
    assert (await desk.virsh("-r", "domstate", NAME)).strip() == "running"
    assert said[0] == "no guest agent answers: the copy is as after a power cut"
    assert said[-1] == "desk is back on its own disks"


async def test_a_cancelled_copy_leaves_the_machine_as_it_was(desk: Desktop, tmp_path: Path) -> None:
    own, files, is_frozen = await desk.sources(), desk.files(), asyncio.Event()

    async def copy() -> None:
        async with frozen_disks(await running(desk), tmp_path, lambda _: None):
            is_frozen.set()
            await asyncio.Event().wait()

    copying = asyncio.create_task(copy())
    await is_frozen.wait()
    copying.cancel()
    await asyncio.sleep(0)
    copying.cancel()  # impatient: a second Ctrl-C while it is put back

    with pytest.raises(asyncio.CancelledError):
        await copying
    assert (await desk.sources(), desk.files()) == (own, files)


async def test_a_machine_that_ends_meanwhile_gets_its_own_disks_back(desk: Desktop, tmp_path: Path) -> None:
    own, files = await desk.sources(), desk.files()

    async with frozen_disks(await running(desk), tmp_path, lambda _: None):
        await desk.virsh("destroy", NAME)

    assert (await desk.sources(), desk.files()) == (own, files)
    await desk.virsh("start", NAME)


@pytest.mark.parametrize("ends", [True, False])
async def test_passwords_and_edits_made_meanwhile_stay_in_the_definition(
    desk: Desktop, tmp_path: Path, ends: bool
) -> None:
    await desk.edit("<devices>", "<devices><graphics type='vnc' autoport='yes' passwd='secret'/>")
    before = await desk.definition()
    assert "passwd='secret'" in before

    async with frozen_disks(await running(desk), tmp_path, lambda _: None):
        await desk.edit("<os>", "<title>edited meanwhile</title><os>")
        if ends:
            await desk.virsh("destroy", NAME)

    after = await desk.definition()
    assert "<title>edited meanwhile</title>" in after
    assert after.replace("  <title>edited meanwhile</title>\n", "") == before
    assert list(tmp_path.iterdir()) == []


async def test_a_machine_that_is_saved_meanwhile_keeps_what_its_saved_state_needs(
    desk: Desktop, tmp_path: Path
) -> None:
    own, files = await desk.sources(), desk.files()

    with pytest.raises(DesktopFailure, match="desk was saved while it was copied") as raised:
        async with frozen_disks(await running(desk), tmp_path, lambda _: None):
            await desk.virsh("managedsave", NAME)

    assert all(path.endswith(".vmbroker-live") for path in await desk.sources())
    start, _, _, _, commits, *_ = str(raised.value).split("`")[1:]
    for command in (start, *commits.split("; ")):
        assert command.startswith(f"virsh -c {desk.uri} ")
        await desk.virsh(*command.split()[3:])
    assert (await desk.virsh("-r", "domstate", NAME)).strip() == "running"
    assert (await desk.sources(), desk.files()) == (own, files)


async def test_a_machine_that_was_saved_to_a_file_is_not_whole(desk: Desktop) -> None:
    await desk.virsh("save", NAME, str(desk.folder / "state"))

    with pytest.raises(DesktopFailure, match=r"desk is saved, not shut down"):
        await from_domain(NAME, desk.uri, is_live=False)


async def test_what_a_killed_command_left_is_told_with_the_command_that_mends_it(desk: Desktop, tmp_path: Path) -> None:
    own = await desk.sources()
    virsh, _ = await find_domain(NAME, desk.uri)
    left = desk.folder / "top.qcow2.vmbroker-live"
    await virsh.snapshot(NAME, "left", [("vda", left)], ["vdb"], quiesce=False)

    with pytest.raises(DesktopFailure, match="an earlier --live was killed") as raised:
        await running(desk)

    command = str(raised.value).partition("`")[2].partition("`")[0].split()
    assert command[:3] == ["virsh", "-c", desk.uri]
    await desk.virsh(*command[3:])
    assert await desk.sources() == own


async def test_a_machine_nobody_knows_is_told_with_who_was_asked(desk: Desktop) -> None:
    with pytest.raises(DesktopFailure, match=r"there is no machine 'other'.*knows no such machine"):
        await find_domain("other", desk.uri)
    with pytest.raises(DesktopFailure, match=rf"\(see `virsh -c {re.escape(desk.uri)} list --all`\)$"):
        await find_domain("other", desk.uri)
    with pytest.raises(DesktopFailure, match=r"virsh -c qemu.*/nowhere failed: failed to connect"):
        await find_domain("other", "qemu+unix:///session?socket=/nowhere")


@pytest.mark.parametrize("change", [{"bus": "sata"}, {"is_block": True}])
async def test_what_cannot_be_put_back_safely_is_not_frozen(
    desk: Desktop, tmp_path: Path, change: dict[str, Any]
) -> None:
    now, own = await running(desk), await desk.sources()
    changed = replace(now, disks=(now.disks[0], replace(now.disks[1], **change)))

    with pytest.raises(DesktopFailure, match=r"disk vdb is .* shut the machine down"):
        async with frozen_disks(changed, tmp_path, lambda _: None):
            raise AssertionError("frozen all the same")
    assert await desk.sources() == own
