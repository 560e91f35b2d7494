"""The OUT folder of a guest that means harm."""

import os
import subprocess
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from broker.wire.dispatches import StagedItem
from broker.wire.leases import MAX_OUTPUTS
from launcher.exchange.folder import ItemFault
from launcher.exchange.outputs import Harvest, harvest_folder, is_there, open_beneath
from launcher.exchange.rootdisk import harvest_tar
from tests.support.launching import short_folder

STAGED = StagedItem(run="/x", as_user="root", output_files=["*"], output_mib=1)
OK = b'{"exit_code": 0}'
_NOBODY = 65_534


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
        ("./x", tarfile.FIFOTYPE),
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


def packed(out: Path, tar: Path) -> Path:
    """Pack a folder as libguestfs does. Source: guestfs(3), "guestfs_tar_out"."""
    subprocess.run(["tar", "-C", str(out), "-cf", str(tar), "."], check=True, timeout=60)
    return tar


@pytest.mark.parametrize("patterns", [["*"], ["a"], ["b"]])
def test_every_name_of_a_file_with_several_is_an_output_of_a_tar_file(
    out: Path, tmp_path: Path, patterns: list[str]
) -> None:
    (out / "output" / "a").write_bytes(b"both")
    (out / "output" / "b").hardlink_to(out / "output" / "a")
    (out / "result.part").hardlink_to(out / "result.json")
    into = tmp_path / "into"
    into.mkdir()
    tar = packed(out, tmp_path / "out.tar")

    staged = StagedItem(run="/x", as_user="root", output_files=patterns, output_mib=1)
    harvest = harvest_tar(tar, into, staged)

    assert names(harvest) == (["a", "b"] if patterns == ["*"] else patterns)
    for output in harvest.outputs:
        with os.fdopen(output.open(), "rb") as file:
            assert file.read() == b"both"
    assert not tar.exists()


def test_each_name_of_a_file_in_a_tar_file_counts_against_the_limit(out: Path, tmp_path: Path) -> None:
    (out / "output" / "a").write_bytes(bytes(600_000))
    (out / "output" / "b").hardlink_to(out / "output" / "a")

    with pytest.raises(ItemFault, match="1 MiB"):
        harvest_tar(packed(out, tmp_path / "out.tar"), tmp_path, STAGED)


@pytest.mark.parametrize("target", ["/etc/passwd", "./output/b", "./output/link", "../in/item.json"])
def test_a_further_name_of_what_is_no_earlier_plain_file_is_refused(tmp_path: Path, target: str) -> None:
    tar = tmp_path / "out.tar"
    with tarfile.open(tar, "w") as archive:
        for name, kind, linkname in [("./output/link", tarfile.SYMTYPE, "x"), ("./output/a", tarfile.LNKTYPE, target)]:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, linkname
            archive.addfile(member)

    with pytest.raises(ItemFault, match="output/a"):
        harvest_tar(tar, tmp_path, STAGED)


@pytest.fixture
def ordinary_out() -> Iterator[Path]:
    """An OUT folder of an ordinary user's, whom modes concern; that user is who the test runs as."""
    with short_folder("out-") as folder:
        if is_root := os.geteuid() == 0:
            os.chown(folder, _NOBODY, -1)
            os.seteuid(_NOBODY)
        try:
            (folder / "output" / "deep").mkdir(parents=True)
            (folder / "output" / "deep" / "a").write_bytes(b"a")
            (folder / "result.json").write_bytes(OK)
            yield folder
        finally:
            if is_root:
                os.seteuid(0)
            (folder / "output").chmod(0o700)
            (folder / "output" / "deep").chmod(0o700)


@pytest.mark.parametrize("locked", ["output", "output/deep", "output/deep/a"])
def test_outputs_that_the_guest_locked_are_refused(ordinary_out: Path, locked: str) -> None:
    (ordinary_out / locked).chmod(0)

    with pytest.raises(ItemFault, match=rf"{locked}.*readable"):
        harvest_folder(ordinary_out, STAGED)


def test_a_folder_that_became_a_link_has_no_sign_of_life_in_it(out: Path, tmp_path: Path) -> None:
    assert is_there(out, "result.json")
    (tmp_path / "link").symlink_to(out)

    assert not is_there(tmp_path / "link", "result.json")
