"""The keeper of virtiofsd, and what virtiofsd says; the shared folder itself is tried by the tests that boot vms."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from launcher.exchange import virtiofs
from launcher.exchange.programs import ProgramFailed
from launcher.exchange.virtiofs import virtiofsd
from launcher.hypervisor.account import Account
from tests.support.launching import short_folder

KEEPER = Path(virtiofs.__file__).with_name("virtiofsd_keeper.py")
TALKATIVE = """#!/bin/sh
head -c 3000000 /dev/zero | tr '\\0' '.'
echo
echo "its last words"
exit 1
"""


async def test_a_virtiofsd_that_says_much_is_heard_out_and_its_last_line_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with short_folder("vfs-") as folder:
        (folder / "virtiofsd").write_text(TALKATIVE)
        (folder / "virtiofsd").chmod(0o755)
        monkeypatch.setattr(virtiofs, "_PLACES", str(folder))
        with pytest.raises(ProgramFailed, match="virtiofsd does not work here: its last words"):
            async with virtiofsd(Account.choose(), folder, folder / "socket"):
                pass
        assert [path.name for path in folder.iterdir()] == ["virtiofsd"]


async def test_a_keeper_whose_launcher_is_gone_starts_nothing(tmp_path: Path) -> None:
    plan = {
        "argv": ["/usr/bin/touch", str(tmp_path / "started")],
        "uid": os.geteuid(),
        "gid": os.getegid(),
        "path": "/usr/bin",
        "launcher": 1,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(KEEPER), json.dumps(plan)), stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        _, err = await process.communicate()

    assert process.returncode == 1
    assert b"the parent process has ended" in err
    assert not (tmp_path / "started").exists()
