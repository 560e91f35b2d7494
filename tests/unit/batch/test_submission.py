"""The folder of a submission: who may read it, and what becomes of it."""

import os
import stat
import tarfile
import time
from pathlib import Path

import pytest

from broker.client.login import Login
from broker.wire.jobs import BatchKind
from launcher.batch.errors import Refused
from launcher.batch.submission import Record, Submission, Submissions, check_bundle, default_root
from tests.unit.batch.orders import BROKER

NOW_S = int(time.time())
RECORD = Record(kind=BatchKind.SLURM, broker=BROKER, made_s=NOW_S, slots=3)
DAY_S = 86_400


def modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in (folder, *folder.rglob("*"))}


@pytest.fixture
def submissions(tmp_path: Path) -> Submissions:
    return Submissions(tmp_path / "batch")


def made(submissions: Submissions, tag: str | None = None) -> Submission:
    submission = submissions.make(RECORD, tag)
    submission.write_credential(Login(BROKER, "secret"), "authority")
    return submission


def test_nobody_else_may_read_anything_of_it_whatever_the_umask(submissions: Submissions) -> None:
    before = os.umask(0)
    try:
        submission = made(submissions)
        submission.write_script("#!/bin/sh\n")
    finally:
        os.umask(before)
    assert modes(submission.folder) == {0}
    assert submission.token.read_text() == "secret\n"


def test_a_credential_that_was_renewed_is_whole_at_any_time_and_an_authority_goes_with_it(
    submissions: Submissions,
) -> None:
    submission = made(submissions)
    submission.write_credential(Login(BROKER, "newer"), None)
    assert submission.token.read_text() == "newer\n"
    assert not submission.authority.exists()
    assert {path.name for path in submission.folder.iterdir()} == {"record.json", "token", "log"}


def test_the_credential_goes_with_the_last_job_and_the_folder_two_weeks_later(submissions: Submissions) -> None:
    submission = made(submissions)
    submission.end(NOW_S)
    assert not submission.token.exists()
    assert submission.record().ended_s == NOW_S
    submissions.forget_old(NOW_S + 13 * DAY_S)
    assert submission.folder.is_dir()
    submissions.forget_old(NOW_S + 15 * DAY_S)
    assert not submission.folder.exists()


def test_a_folder_that_nobody_can_read_hides_no_other(submissions: Submissions) -> None:
    first = made(submissions)
    (submissions.root / "vmb-00000000").mkdir()
    (submissions.root / "vmb-00000001").mkdir()
    (submissions.root / "vmb-00000001" / "record.json").write_text("{")
    (submissions.root / "something else").mkdir()
    assert [submission.tag for submission in submissions] == [first.tag]


def test_the_same_script_is_kept_once_and_old_ones_go(submissions: Submissions) -> None:
    submission = made(submissions)
    first = submission.write_script("one")
    second = submission.write_script("two")
    log = submission.logs / "1.out"
    log.write_text("said")
    for path in (first, log):
        os.utime(path, (0, 0))
    submission.write_script("two")
    submission.prune(NOW_S)
    assert not first.exists()
    assert not log.exists()
    assert second.exists()


def bundle_at(path: Path, top: str = "vmbroker-9") -> Path:
    program = path.parent / "launcher"
    program.write_text("#!/bin/sh\necho bundled\n")
    program.chmod(0o755)
    with tarfile.open(path, "w:gz") as archive:
        archive.add(program, f"{top}/bin/launcher")
    return path


def test_a_bundle_is_unpacked_once_for_all_and_goes_when_none_has_it_any_more(
    submissions: Submissions, tmp_path: Path
) -> None:
    bundle = bundle_at(tmp_path / "b.tar.gz")
    submission = made(submissions)
    launcher = submissions.unpack(bundle, "00ff" * 16)
    submission.link_launcher(launcher)
    bundle.unlink()
    assert submissions.unpack(bundle, "00ff" * 16) == launcher
    assert (submission.folder / "launcher").read_text() == launcher.read_text()
    submissions.forget_old(NOW_S + 30 * DAY_S)
    assert launcher.exists()
    submission.end(NOW_S)
    submissions.forget_old(NOW_S + 30 * DAY_S)
    submissions.forget_old(NOW_S + 30 * DAY_S)
    assert not launcher.exists()


def test_what_is_no_bundle_is_refused_and_leaves_nothing(submissions: Submissions, tmp_path: Path) -> None:
    made(submissions)
    text = tmp_path / "text.tar.gz"
    text.write_text("text")
    with pytest.raises(Refused, match="cannot be read as a bundle"):
        check_bundle(text)
    other = bundle_at(tmp_path / "other.tar.gz", top="other")
    with pytest.raises(Refused, match="is no bundle of a launcher"):
        check_bundle(other)
    with pytest.raises(Refused, match="cannot be unpacked"):
        submissions.unpack(text, "11" * 32)
    assert list(submissions.root.glob("bundles/*")) == []


def test_a_folder_that_cannot_be_made_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match="name another folder with --folder"):
        Submissions(tmp_path / "file" / "batch").make(RECORD)


def test_submissions_are_kept_in_the_accounts_folder_of_state(tmp_path: Path) -> None:
    assert default_root({"XDG_STATE_HOME": str(tmp_path)}) == tmp_path / "vmbroker" / "batch"
    assert default_root({"HOME": str(tmp_path)}) == tmp_path / ".local" / "state" / "vmbroker" / "batch"


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_a_folder_that_others_may_write_to_is_not_used(submissions: Submissions, mode: int) -> None:
    made(submissions)
    submissions.root.chmod(mode)
    with pytest.raises(Refused, match="this account alone may write to"):
        submissions.make(RECORD)


def test_a_submission_or_a_bundle_that_somebody_else_put_there_is_passed_over(
    submissions: Submissions, tmp_path: Path
) -> None:
    own = made(submissions)
    planted = submissions.root / "vmb-aaaaaaaa"
    planted.mkdir()
    planted.chmod(0o777)
    (planted / "record.json").write_bytes((own.folder / "record.json").read_bytes())
    assert [submission.tag for submission in submissions] == [own.tag]
    home = submissions.root / "bundles" / "00ff00ff00ff00ff"
    (home / "vmbroker-9" / "bin").mkdir(parents=True)
    (home / "vmbroker-9" / "bin" / "launcher").write_text("theirs")
    home.chmod(0o777)
    with pytest.raises(Refused, match="this account alone may write to"):
        submissions.unpack(bundle_at(tmp_path / "b.tar.gz"), "00ff" * 16)


def test_a_draft_of_the_credential_that_a_killed_writer_left_goes_with_it(submissions: Submissions) -> None:
    submission = made(submissions)
    (submission.folder / ".token.00ff00ff").write_text("secret")
    submission.end(NOW_S)
    assert not [path for path in submission.folder.iterdir() if "token" in path.name]
