"""A researcher's day, from `broker serve` to the callback: the page's blocks as one script, with real vms."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.acceptance.conftest import DOMAIN
from tests.support.grid import REPOSITORY, Home, free_port, processes_naming
from tests.support.launching import count_vms_of, short_folder

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

PAGE = REPOSITORY / "docs/tutorial/a-day.md"
HEARD = {
    "alice/mc/1 org.vmbroker.item.completed",
    "alice/mc/2 org.vmbroker.item.held",
    *(f"alice/render/{number} org.vmbroker.item.completed" for number in (1, 2, 3)),
}


LOGS = ("broker.log", "launcher.log", "server.log")
_MOST_S = 240


class Day(NamedTuple):
    folder: Path
    said: str


def run_script(script: str, folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Run it as `set -e`, of every command of a pipe, too; nothing that it started outlives it."""
    command = ["bash", "-euo", "pipefail", "-c", f"{script}\nkill $(jobs -p); wait; trap - EXIT"]
    with (folder / "said.txt").open("wb") as said:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said, process_group=0
        )
        try:
            process.wait(_MOST_S)
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            raise
    return process.returncode, (folder / "said.txt").read_text()


@pytest.fixture(scope="module")
def day(minimal_image: Path) -> Iterator[Day]:
    """The folder in which the script ran to its end, and what it printed."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) > 7
    script = "\n".join(blocks).replace("127.0.0.1:9000", "127.0.0.1:$PORT")
    script = script.replace('("127.0.0.1", 9000)', '("127.0.0.1", int(__import__("os").environ["PORT"]))')
    assert "9000" not in script
    with short_folder("vd-") as folder:
        shutil.copyfile(DOMAIN, folder / "deb12.xml")
        (folder / "deb12.qcow2").symlink_to(minimal_image)
        home = Home(folder)
        given = {
            "PATH": f"{home.program('broker').parent}:{os.environ['PATH']}",
            "PORT": str(free_port()),
            "VMBROKER_BROKER_LISTEN": "127.0.0.1:0",
            "VMBROKER_BROKER_USER": "alice",
            "VMBROKER_LAUNCHER_SCRATCH": str(folder / "n"),
            "VMBROKER_LAUNCHER_CACHE": str(folder / "c"),
        }
        status, said = run_script(script, folder, {**home.environment(), **given})
        count_vms_of(folder / "launcher.log")
        logs = "".join(f"\n--- {each}\n{(folder / each).read_text()[-3_000:]}" for each in LOGS)
        assert status == 0, said + logs
        yield Day(folder, said)


def test_a_day_ends_with_every_result_and_everything_told(day: Day) -> None:
    pictures = sorted(path.read_text() for path in (day.folder / "out").rglob("picture.txt"))
    assert pictures == [f"rendered\nframe {number}\n" for number in (1, 2, 3)]
    told = (day.folder / "told.txt").read_text().splitlines()
    assert {line.rpartition(" ")[0] for line in told} == HEARD
    assert all(int(line.rpartition(" ")[2]) >= 1 for line in told), "each with its fence"


def test_what_failed_says_why(day: Day) -> None:
    assert "status 3" in day.said
    assert json.loads((day.folder / "counts.json").read_text()) is True
    assert (day.folder / "console.txt").read_text()


def test_nothing_is_left_of_it(day: Day) -> None:
    assert processes_naming(str(day.folder)) == []
