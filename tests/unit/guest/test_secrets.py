"""Where a guest keeps secrets: in memory alone, as a real file system of this host, mounted where we may."""

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.wire.secrets import GivenSecret, SecretKind
from broker.wire.states import FailureCode
from guest.steps import secrets as steps
from guest.steps.account import Account
from guest.steps.failure import StepFailed
from guest.steps.mount import CannotMount
from guest.steps.secrets import Secrets, file_system_of

ACCOUNT = Account.find(pwd.getpwuid(os.geteuid()).pw_name)
NO_SWAP = "Filename\tType\tSize\tUsed\tPriority\n"
IN_MEMORY = {"tmpfs", "ramfs"}


def given(name: str = "proxy", value: bytes = b"the first value", version: int = 1, kind: str = "file") -> GivenSecret:
    return GivenSecret(name=name, kind=SecretKind(kind), version=version, value=value)


class Kept:
    """Secrets of a run whose workspace is a folder of the test, and what was said of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.secrets = Secrets([given(), given("api-token", b"eyJ.e30.c2ln", kind="bearer_token")], self.said.append)

    def open(self) -> Path:
        """Open them; return their folder."""
        self.secrets.open(self.folder / "secrets", ACCOUNT)
        return Path(self.secrets.variables()["VMBROKER_SECRETS"])


@pytest.fixture(autouse=True)
def swaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host without swap space, whatever this one has."""
    file = tmp_path / "swaps"
    file.write_text(NO_SWAP)
    monkeypatch.setattr(steps, "SWAPS", file)
    return file


@pytest.fixture(params=["mounted", "in what is there"])
def kept(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    """Both ways; an ordinary account has the second one only, and takes it twice."""
    if request.param != "mounted":
        _forbid_mounts(monkeypatch)
    kept = Kept(tmp_path)
    yield kept
    kept.secrets.wipe()


def _forbid_mounts(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise CannotMount("no file system in memory can be mounted: tmpfs: Operation not permitted")

    monkeypatch.setattr(steps, "mount_memory", refuse)


def test_they_lie_in_memory_for_their_account_alone(kept: Kept) -> None:
    folder = kept.open()
    assert file_system_of(folder) in IN_MEMORY
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "proxy": b"the first value",
        "api-token": b"eyJ.e30.c2ln",
    }
    assert {(path.stat().st_mode & 0o777, path.stat().st_uid) for path in folder.iterdir()} == {(0o600, os.geteuid())}


def test_as_root_they_have_a_file_system_of_their_own(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    folder = kept.open()
    is_own = folder.stat().st_dev != folder.parent.stat().st_dev
    assert (
        is_own == (folder == tmp_path / "secrets") == (os.geteuid() == 0 and not any("no file" in x for x in kept.said))
    )
    kept.secrets.wipe()
    assert not folder.exists()


def test_the_environment_names_where_they_lie_and_never_what_they_are(kept: Kept) -> None:
    assert kept.secrets.variables() == {}
    folder = kept.open()
    assert kept.secrets.variables() == {
        "VMBROKER_SECRETS": str(folder),
        "VMBROKER_SECRET_PROXY": f"{folder}/proxy",
        "VMBROKER_SECRET_API_TOKEN": f"{folder}/api-token",
        "BEARER_TOKEN_FILE": f"{folder}/api-token",
    }
    assert not any("value" in text or "eyJ" in text for text in kept.said)


def test_a_newer_one_takes_the_place_of_the_old_one_which_a_reader_still_has_whole(kept: Kept) -> None:
    folder = kept.open()
    with (folder / "proxy").open("rb") as reader:
        kept.secrets.take([given(value=b"the second value", version=5), given("unknown", version=9)])
        assert reader.read() == b"the first value"
    assert (folder / "proxy").read_bytes() == b"the second value"
    assert (folder / "proxy").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in folder.iterdir()) == ["api-token", "proxy"]
    assert kept.secrets.versions == {"proxy": 5, "api-token": 1}


def test_at_the_end_they_are_overwritten_and_nothing_is_left(kept: Kept) -> None:
    folder = kept.open()
    (folder / "of the program").mkdir()
    (folder / "of the program" / "copy").write_bytes(b"the first value, copied")
    os.mkfifo(folder / "pipe")
    with (folder / "proxy").open("rb") as reader, (folder / "of the program" / "copy").open("rb") as copy:
        kept.secrets.wipe()
        assert set(reader.read()) == {0}
        assert set(copy.read()) == {0}
    assert not folder.exists()
    assert kept.secrets.variables() == {}
    kept.secrets.wipe()


def test_what_a_link_of_the_programs_points_to_is_left_alone(kept: Kept, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"untouched")
    folder = kept.open()
    (folder / "proxy").unlink()
    (folder / "proxy").symlink_to(outside)
    kept.secrets.take([given(value=b"the second value", version=2)])
    assert not (folder / "proxy").is_symlink()
    (folder / "link").symlink_to(outside)
    kept.secrets.wipe()
    assert outside.read_bytes() == b"untouched"


def test_what_comes_after_the_end_is_written_nowhere(kept: Kept) -> None:
    folder = kept.open()
    kept.secrets.wipe()
    kept.secrets.take([given(value=b"the second value", version=2)])
    assert not folder.exists()


def test_one_that_does_not_fit_is_told_and_the_old_one_stays(kept: Kept) -> None:
    folder = kept.open()
    (folder / ".hidden").mkdir()
    (folder / "proxy").unlink()
    (folder / "proxy").mkdir()
    kept.secrets.take([given(value=b"the second value", version=2)])
    assert kept.said[-1].startswith("the secret proxy could not be renewed: ")
    assert kept.secrets.versions["proxy"] == 1
    assert sorted(path.name for path in folder.iterdir()) == [".hidden", "api-token", "proxy"]


def test_without_secrets_nothing_is_made(tmp_path: Path) -> None:
    secrets = Secrets([], lambda _: None)
    secrets.open(tmp_path / "secrets", ACCOUNT)
    assert (secrets.variables(), list(tmp_path.glob("secrets"))) == ({}, [])
    secrets.wipe()


def test_where_only_disks_are_the_item_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _forbid_mounts(monkeypatch)
    (tmp_path / "mounts").write_text("/dev/vda1 / ext4 rw 0 0\n/dev/vdb /dev/sh\\040m ext4 rw 0 0\n")
    monkeypatch.setattr(steps, "MOUNTS", tmp_path / "mounts")
    with pytest.raises(StepFailed, match="have no place in memory: no tmpfs can be mounted") as failed:
        Kept(tmp_path).open()
    assert failed.value.code is FailureCode.SECRET_NOT_KEPT
    assert not (tmp_path / "secrets").exists()


def test_where_memory_may_be_swapped_out_the_item_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swaps: Path
) -> None:
    _forbid_mounts(monkeypatch)
    swaps.write_text(f"{NO_SWAP}/dev/vdb partition 1 0 -2\n")
    with pytest.raises(StepFailed, match="would be swapped out to a disk"):
        Kept(tmp_path).open()


@pytest.mark.parametrize(
    ("place", "kind"),
    [("/", "ext4"), ("/proc", "proc"), ("/dev", "tmpfs"), ("/none/such", "")],
)
def test_the_innermost_mount_tells_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, kind: str
) -> None:
    table = "/dev/vda1 / ext4 rw 0 0\nproc /proc proc rw 0 0\nnone /dev ext4 rw 0 0\ntmpfs /dev tmpfs rw 0 0\n"
    (tmp_path / "mounts").write_text(table)
    monkeypatch.setattr(steps, "MOUNTS", tmp_path / "mounts")
    assert file_system_of(Path(place)) == kind
