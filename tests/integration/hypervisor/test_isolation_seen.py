"""Which process is taken for the QEMU of a VM: real processes that show its UUID."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from launcher.hypervisor.errors import HypervisorError
from launcher.hypervisor.isolation import QemuSeen, _see, judge
from tests.support.waiting import wait_until

LIMIT_S = 10
WAIT = "import sys; sys.stdin.read()"
PYTHON = Path(sys.executable)


@contextmanager
def showing(identity: str, *program: str) -> Iterator[int]:
    """Run a program that shows the UUID as QEMU does."""
    command = [*program, "-uuid", identity]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        words = Path(f"/proc/{process.pid}/cmdline")
        wait_until(lambda: identity.encode() in words.read_bytes(), "the program began", timeout_s=LIMIT_S)
        yield process.pid


def test_the_only_process_that_shows_the_uuid_is_described() -> None:
    identity = str(uuid.uuid4())
    with showing(identity, str(PYTHON), "-c", WAIT):
        seen = _see(identity, PYTHON, 1.5)
    assert (seen.account.uid, seen.is_descendant, seen.start_s) == (os.geteuid(), True, 1.5)


def test_of_two_processes_that_show_the_uuid_neither_is_believed() -> None:
    identity = str(uuid.uuid4())
    with ExitStack() as stack:
        pids = [stack.enter_context(showing(identity, str(PYTHON), "-c", WAIT)) for _ in range(2)]
        with pytest.raises(HypervisorError, match=", ".join(map(str, sorted(pids)))):
            _see(identity, PYTHON, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sees which program every process runs")
def test_root_believes_no_program_but_qemu() -> None:
    identity = str(uuid.uuid4())
    with showing(identity, "cat", "-", "--"), pytest.raises(HypervisorError, match="cannot see"):
        _see(identity, PYTHON, 0)


@pytest.mark.parametrize(("interfaces", "words"), [(("lo",), "reaches no host"), (("eth0", "lo"), "whatever the node")])
def test_what_a_sites_qemu_reaches_is_told_as_it_is(interfaces: tuple[str, ...], words: str) -> None:
    identity = str(uuid.uuid4())
    with showing(identity, str(PYTHON), "-c", WAIT):
        seen = _see(identity, PYTHON, 0)
    told = QemuSeen(seen.account, seen.is_descendant, seen.cgroup, interfaces, seen.start_s)
    fact = next(fact for fact in judge(told, is_private=False) if fact.name == "network_empty")
    assert (fact.holds, words in fact.sentence) == (False, True)
