"""The OUT folder of a guest that means harm."""

import os
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from broker.wire.dispatches import StagedItem
from broker.wire.leases import MAX_OUTPUTS
from launcher.exchange.folder import ItemFault
from launcher.exchange.outputs import Harvest, harvest_folder, open_beneath
from launcher.exchange.rootdisk import harvest_tar

STAGED = StagedItem(run="/x", as_user="root", output_files=["*"], output_mib=1)
OK = b'{"exit_code": 0}'


@pytest.fixture
def out(tmp_path: Path) -> Path:
    out = tmp_path / "out"
    (out / "output").mkdir(parents=True)
    (out / "result.json").write_bytes(OK)
    return out


def names(harvest: Harvest) -> list[str]:
    return [output.name for output in harvest.outputs]


def test_plain_files_are_outputs_and_nothing_else_is(out: Path) -> None:
    (out / "output" / "deep").mkdir()
    (out / "output" / "deep" / "b").write_bytes(b"b")
    (out / "output" / "a").write_bytes(b"a")
    (out / "output" / "link").symlink_to("/etc/passwd")
    (out / "output" / "folder").symlink_to("/etc")
    os.mkfifo(out / "output" / "pipe")

    assert names(harvest_folder(out, STAGED)) == ["a", "deep/b"]


def test_a_pattern_chooses(out: Path) -> None:
    for name in ("a.txt", "b.log"):
        (out / "output" / name).write_bytes(b"")

    chosen = StagedItem(run="/x", as_user="root", output_files=["*.txt"], output_mib=1)
    assert names(harvest_folder(out, chosen)) == ["a.txt"]


def test_an_output_folder_that_is_a_link_holds_nothing(out: Path) -> None:
    (out / "output").rmdir()
    (out / "output").symlink_to("/etc")

    assert names(harvest_folder(out, STAGED)) == []


def test_a_result_that_is_a_link_is_refused(out: Path) -> None:
    (out / "result.json").unlink()
    (out / "result.json").symlink_to("/etc/hostname")

    with pytest.raises(ItemFault, match=r"result\.json"):
        harvest_folder(out, STAGED)


def test_a_log_that_is_a_pipe_blocks_nobody(out: Path) -> None:
    os.mkfifo(out / "log")

    assert harvest_folder(out, STAGED).log == b""


def test_without_a_result_nothing_counts(out: Path) -> None:
    (out / "result.json").unlink()
    (out / "output" / "a").write_bytes(b"a")
    (out / "log").write_bytes(b"words")

    assert harvest_folder(out, STAGED) == Harvest(result=None, log=b"words")


def test_a_folder_that_became_a_link_is_not_followed(out: Path) -> None:
    (out / "output" / "deep").symlink_to("/etc")

    with pytest.raises(OSError, match=r"deep|directory|symbolic"):
        open_beneath(out, "output/deep/passwd")


def test_more_bytes_than_the_stream_allows_are_refused(out: Path) -> None:
    with (out / "output" / "huge").open("wb") as file:
        file.truncate(1 << 40)

    with pytest.raises(ItemFault, match="1 MiB"):
        harvest_folder(out, STAGED)


def test_more_files_than_are_taken_are_refused(out: Path) -> None:
    for number in range(MAX_OUTPUTS + 1):
        (out / "output" / str(number)).touch()

    with pytest.raises(ItemFault, match=str(MAX_OUTPUTS)):
        harvest_folder(out, STAGED)


@pytest.mark.parametrize("name", [b"a\nb", b"a\\b", b"\xff"])
def test_a_name_that_no_address_should_carry_is_refused(out: Path, name: bytes) -> None:
    Path(os.fsdecode(os.fsencode(out / "output") + b"/" + name)).touch()

    with pytest.raises(ItemFault, match="name"):
        harvest_folder(out, STAGED)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"exit_code": 99999}', b'{"exit_code": "0"}', b"\x00" * 5_000_000])
def test_a_result_that_says_nothing_is_refused(out: Path, content: bytes) -> None:
    (out / "result.json").write_bytes(content)

    with pytest.raises(ItemFault, match=r"result\.json"):
        harvest_folder(out, STAGED)


def test_a_tar_file_gives_its_plain_files_alone_under_names_of_ours(tmp_path: Path) -> None:
    members = [("./result.json", tarfile.REGTYPE, OK), ("./output/a", tarfile.REGTYPE, b"a")]
    hostile = [
        ("./output/link", tarfile.SYMTYPE),
        ("./output/device", tarfile.CHRTYPE),
        ("./output/x", tarfile.LNKTYPE),
    ]
    tar = tmp_path / "out.tar"
    with tarfile.open(tar, "w") as archive:
        for name, kind, content in [*members, *((name, kind, b"") for name, kind in hostile)]:
            member = tarfile.TarInfo(name)
            member.type, member.size, member.linkname = kind, len(content), "/etc/passwd"
            archive.addfile(member, BytesIO(content))
    into = tmp_path / "into"
    into.mkdir()

    harvest = harvest_tar(tar, into, STAGED)

    assert names(harvest) == ["a"]
    assert [path.parent for path in into.rglob("*")] == [into]


def test_a_tar_files_name_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    tar = tmp_path / "out.tar"
    with tarfile.open(tar, "w") as archive:
        member = tarfile.TarInfo("./output/../../evil")
        member.size = 1
        archive.addfile(member, BytesIO(b"e"))

    with pytest.raises(ItemFault, match="evil"):
        harvest_tar(tar, tmp_path, STAGED)
