import os
from pathlib import Path
from typing import cast

import pytest

from broker.client.lease import LeaseClient
from broker.client.session import Session
from broker.wire.leases import ClaimAnswer
from broker.wire.states import FailureCode
from guest.steps.failure import StepFailed
from guest.steps.outputs import Output, collect
from guest.steps.plugins import Plugins
from guest.steps.secrets import Secrets
from guest.steps.transfer import Transfers
from tests.unit.guest.items import work


def names(folder: Path, *patterns: str) -> list[str]:
    return [output.name for output in collect(folder, work(output_files=patterns))]


def test_takes_regular_files_that_a_pattern_matches(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.txt", "sub/b.txt", "c.log"):
        (tmp_path / name).write_text(name)
    assert names(tmp_path, "*") == ["a.txt", "c.log", "sub/b.txt"]
    assert names(tmp_path, "*.txt") == ["a.txt", "sub/b.txt"]
    assert names(tmp_path, "c.*", "sub/*") == ["c.log", "sub/b.txt"]
    assert names(tmp_path, "*.png") == []


def test_leaves_out_links_pipes_and_what_lies_behind_linked_folders(tmp_path: Path) -> None:
    folder = tmp_path / "output"
    folder.mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("x")
    (folder / "folder").symlink_to(tmp_path / "outside")
    (folder / "file").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe")
    assert names(folder, "*") == []


def test_a_file_exchanged_for_a_link_after_it_was_listed_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (output,) = collect(tmp_path, work())
    (tmp_path / "a").unlink()
    (tmp_path / "a").symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        output.sha256()


def refusal(folder: Path) -> str:
    with pytest.raises(StepFailed) as caught:
        collect(folder, work())
    assert caught.value.code is FailureCode.OUTPUT_REFUSED
    return caught.value.sentence


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / str(number)).touch()
    assert refusal(tmp_path) == "the program wrote more than 3 output files, the most that are taken"


def test_too_many_bytes_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"x" * 600_000)
    assert refusal(tmp_path) == "the output is larger than the stream's limit of 1 MiB"
    assert len(collect(tmp_path, work(output_files=["a"]))) == 1


@pytest.mark.parametrize(
    "name", [b"new\nline", b"back\\slash", b"latin-\xe9", b"x" * 200 + b"/" + b"y" * 255 + b"/" + b"z" * 255]
)
def test_names_that_no_address_should_carry_are_refused(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert "cannot be uploaded under its name" in refusal(tmp_path)


async def test_an_output_that_is_taken_away_before_it_is_sent_fails_with_a_sentence(tmp_path: Path) -> None:
    session = Session("http://127.0.0.1:1")
    claimed, secrets = cast("ClaimAnswer", None), Secrets((), lambda _: None)
    transfers = Transfers(session, LeaseClient(session), claimed, secrets, cast("Plugins", None))

    with pytest.raises(StepFailed) as failed:
        await transfers.put_output(Output("gone", tmp_path / "gone", 1))

    assert failed.value.code is FailureCode.OUTPUT_REFUSED
    assert failed.value.sentence == "the output gone cannot be read: No such file or directory"
