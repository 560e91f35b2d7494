"""The two disks of exchange `disk`, by the real e2fsprogs; what a guest may have left on the second one."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.wire.dispatches import StagedItem
from launcher.exchange.disks import UnreadableDisk, harvest_disk, make_in_disk, make_out_disk
from launcher.exchange.folder import ItemFault
from launcher.hypervisor.account import Account
from tests.support.launching import short_folder

STAGED = StagedItem(run="/x", as_user="root", output_files=["*"], output_mib=2)


@pytest.fixture
def account() -> Account:
    return Account.choose()


@pytest.fixture
def folder(account: Account) -> Iterator[Path]:
    """A folder that QEMU's account can reach, with an empty one, `into`, for what is copied."""
    with short_folder("disk-") as parent:
        (parent / "into").mkdir()
        for path in (parent, parent / "into"):
            account.take(path)
        yield parent


def guest_writes(image: Path, *commands: str) -> None:
    """Do to the disk what a guest would, as root of its file system. Source: debugfs(8)."""
    words = "".join(f"{command}\n" for command in ("mkdir output", *commands)).encode()
    subprocess.run(["debugfs", "-w", "-f", "-", str(image)], input=words, capture_output=True, timeout=60, check=True)


@pytest.fixture
async def out_disk(account: Account, folder: Path) -> Path:
    image = folder / "out.raw"
    await make_out_disk(account, image, STAGED.output_mib)
    (folder / "result").write_text('{"exit_code": 0}')
    guest_writes(image, f"write {folder}/result result.json")
    return image


async def test_what_goes_in_is_what_a_guest_would_find(account: Account, folder: Path) -> None:
    content = os.urandom(3_000_000)
    (folder / "in" / "output").mkdir(parents=True)
    (folder / "in" / "output" / "a b").write_bytes(content)
    (folder / "in" / "result.json").write_text('{"exit_code": 3}')

    await make_in_disk(account, folder / "in", folder / "in.raw")
    assert not (folder / "in").exists(), "what is on the disk is not kept twice"

    limits = StagedItem(run="/x", as_user="root", output_files=["*"], output_mib=3)
    harvest = await harvest_disk(account, folder / "in.raw", folder / "into", limits)
    assert harvest.result is not None
    assert harvest.result.exit_code == 3
    (output,) = harvest.outputs
    with os.fdopen(output.open(), "rb") as file:
        assert (output.name, file.read()) == ("a b", content)
    assert not (folder / "in.raw").exists(), "what is taken from the disk is not kept twice"


async def test_an_empty_disk_for_much_output_takes_little_space(account: Account, folder: Path) -> None:
    await make_out_disk(account, folder / "out.raw", 100_000)

    assert (folder / "out.raw").stat().st_blocks * 512 < 64 << 20


async def test_links_devices_and_pipes_are_left_out(account: Account, folder: Path, out_disk: Path) -> None:
    guest_writes(
        out_disk,
        "cd output",
        f"write {folder}/result plain",
        "symlink link /etc/passwd",
        "mknod pipe p",
        "mknod device c 1 3",
        "mkdir deep",
        f"write {folder}/result deep/too",
    )

    harvest = await harvest_disk(account, out_disk, folder / "into", STAGED)

    assert [output.name for output in harvest.outputs] == ["deep/too", "plain"]
    assert {path.name for path in (folder / "into").iterdir()} == {"result.json", "0000", "0001"}


async def test_a_name_with_a_slash_leads_nowhere(account: Account, folder: Path, out_disk: Path) -> None:
    guest_writes(out_disk, "cd output", f"write {folder}/result XXXXXXevil")
    content = out_disk.read_bytes()
    assert content.count(b"XXXXXXevil") == 1
    out_disk.write_bytes(content.replace(b"XXXXXXevil", b"../../evil"))

    with pytest.raises(ItemFault, match="slash"):
        await harvest_disk(account, out_disk, folder / "into", STAGED)
    assert not list(folder.rglob("evil"))


async def test_a_size_that_is_a_lie_is_refused(account: Account, folder: Path, out_disk: Path) -> None:
    guest_writes(out_disk, "cd output", f"write {folder}/result huge", "set_inode_field huge size 1099511627776")

    with pytest.raises(ItemFault, match="2 MiB"):
        await harvest_disk(account, out_disk, folder / "into", STAGED)


async def test_a_folder_within_itself_ends_somewhere(account: Account, folder: Path, out_disk: Path) -> None:
    guest_writes(out_disk, "cd output", "mkdir deep", "cd deep", "link /output round")

    harvest = await harvest_disk(account, out_disk, folder / "into", STAGED)

    assert harvest.outputs == ()


async def test_a_disk_that_holds_no_file_system_any_more_is_told(
    account: Account, folder: Path, out_disk: Path
) -> None:
    out_disk.write_bytes(os.urandom(1 << 20))

    with pytest.raises(UnreadableDisk):
        await harvest_disk(account, out_disk, folder / "into", STAGED)
