"""The start-up script for images without our client, in a folder of its own disk: it always ends by powering off."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[3] / "deploy" / "image" / "exchange" / "vmbroker-exchange"
IN_SMALL_OUT = '/bin/mount -t tmpfs -o size=256k tmpfs "$2" && sh "$1" "${2%/out}"; cp "$2"/* "$3"'


class Guest:
    """The script with its ways to the machine cut off: nothing can be mounted, and powering off is noted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "vmbroker"
        self.stubs = folder / "stubs"
        self.kept = folder / "kept"
        for path in (self.folder / "in", self.folder / "out", self.stubs, self.kept):
            path.mkdir(parents=True)
        (self.folder / "in" / "item.env").write_text("VMBROKER_ITEM='a/b/1'\nVMBROKER_INPUT_NAME=''\n")
        for name in ("mount", "umount", "findfs"):
            self.stub(name, "exit 1")
        self.stub("poweroff", f"touch {folder}/off")
        text = SCRIPT.read_text()
        assert text.count("\nPATH=") == 1
        self.script = folder / "script"
        self.script.write_text(text.replace("\nPATH=", f"\nPATH={self.stubs}:"))
        self._off = folder / "off"

    def stub(self, name: str, body: str) -> None:
        (self.stubs / name).write_text(f"#!/bin/sh\n{body}\n")
        (self.stubs / name).chmod(0o755)

    def run(self, program: str, *, in_small_out: bool = False) -> dict[str, Any]:
        (self.folder / "in" / "program").write_text(f"#!/bin/sh\n{program}\n")
        (self.folder / "in" / "program").chmod(0o755)
        out = self.folder / "out"
        command = ["sh", str(self.script), str(self.folder)]
        if in_small_out:
            names = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", IN_SMALL_OUT, "-"]
            command = [*names, str(self.script), str(out), str(self.kept)]
            out = self.kept
        subprocess.run(command, check=False, capture_output=True, timeout=60, env={"TMPDIR": str(self.kept)})
        assert self._off.exists(), "it did not power off"
        assert not (out / "reserve").exists()
        result: dict[str, Any] = json.loads((out / "result.json").read_bytes())
        return result


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(tmp_path)


@pytest.mark.parametrize("status", [0, 3])
def test_the_programs_status_is_the_result(guest: Guest, status: int) -> None:
    assert guest.run(f"echo words; echo x >$VMBROKER_OUTPUT/x; exit {status}") == {"exit_code": status}
    assert (guest.folder / "out" / "log").read_text() == "words\n"
    assert [path.name for path in (guest.folder / "out" / "output").iterdir()] == ["x"]


def test_a_program_that_fills_its_disk_has_its_output_refused(guest: Guest) -> None:
    result = guest.run("cat /dev/zero >$VMBROKER_OUTPUT/big; exit 0", in_small_out=True)
    assert (result["exit_code"], result["code"]) == (None, "output_refused")
    assert "no room left" in result["sentence"]


def test_no_folder_for_outputs_is_told(guest: Guest) -> None:
    (guest.folder / "out" / "output").write_bytes(b"")
    assert guest.run("exit 0")["code"] == "output_refused"


def test_no_folder_for_temporary_files_is_told(guest: Guest) -> None:
    guest.stub("mktemp", "exit 1")
    assert "temporary" in guest.run("exit 0")["sentence"]


def test_an_item_that_cannot_be_read_is_told(guest: Guest) -> None:
    (guest.folder / "in" / "item.env").write_text("VMBROKER_ITEM='\n")
    assert "start-up script" in guest.run("exit 0")["sentence"]
