"""What a program that reads a guest's files can reach, and when it ends."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from launcher.exchange.programs import Bounds, ProgramFailed, SaysTooMuch, run_program
from launcher.hypervisor.account import Account
from tests.integration.hypervisor.processes import descendants, named, wait_gone
from tests.integration.hypervisor.test_private_daemon import ACCOUNTS, REPOSITORY
from tests.support.waiting import until

LIMIT_S = 20.0
BOUNDS = Bounds(seconds=LIMIT_S)


@pytest.fixture
def account() -> Account:
    return Account.choose()


async def said(account: Account, script: str) -> list[str]:
    ended = await run_program(account, ("sh", "-c", script), BOUNDS)
    assert ended.status == 0, ended
    return ended.out.decode().split()


async def test_a_program_has_no_network_and_no_capability_and_is_the_account(account: Account) -> None:
    interfaces = await said(account, "tail -n +3 /proc/net/dev | cut -d: -f1")
    assert interfaces == ["lo"]
    assert (await said(account, "grep CapEff /proc/self/status"))[1] == "0" * 16
    assert await said(account, "id -u; id -g") == [str(account.uid), str(account.gid)]


async def both_run(pid: int) -> None:
    async def seen() -> bool:
        return len(named(descendants(pid), "sleep")) == 2

    await until(seen, "the helper and its own", timeout_s=LIMIT_S)


async def test_last_words_move_no_cursor(account: Account) -> None:
    ended = await run_program(account, ("sh", "-c", r"printf 'one\ntwo \033[2J\r' >&2; exit 1"), BOUNDS)
    assert ended.last_words() == r"two \x1b[2J"


@pytest.mark.parametrize("kind", ["net", "ipc", "pid"])
async def test_a_program_shares_no_namespace_with_the_launcher(account: Account, kind: str) -> None:
    assert await said(account, f"readlink /proc/self/ns/{kind}") != [str(Path(f"/proc/self/ns/{kind}").readlink())]


async def test_status_output_and_words_pass(account: Account) -> None:
    ended = await run_program(account, ("sh", "-c", "cat; echo oh >&2; exit 3"), BOUNDS, words=b"words")
    assert ended == (3, b"words", b"oh\n")


async def test_a_program_killed_by_a_signal_is_told_as_a_shell_does(account: Account) -> None:
    assert (await run_program(account, ("sh", "-c", "kill -ABRT $$"), BOUNDS)).status == 128 + signal.SIGABRT


async def test_a_file_that_grows_too_large_ends_the_program(account: Account) -> None:
    bounds = Bounds(seconds=LIMIT_S, file_bytes=1024)
    command = ("sh", "-c", "f=$(mktemp) && exec 3>$f && rm $f && exec head -c 4096 /dev/zero >&3")
    assert (await run_program(account, command, bounds)).status != 0


async def test_a_program_that_is_not_there_is_told(account: Account) -> None:
    with pytest.raises(ProgramFailed, match="no-such-program cannot be started on this node: No such file"):
        await run_program(account, ("no-such-program",), BOUNDS)


async def test_a_program_that_takes_too_long_leaves_nothing_running(account: Account) -> None:
    others = set(descendants(os.getpid()))
    running = asyncio.create_task(
        run_program(account, ("sh", "-c", "setsid sleep 601 & exec sleep 601"), Bounds(seconds=2))
    )
    await both_run(os.getpid())
    helpers = [pid for pid in descendants(os.getpid()) if pid not in others]
    with pytest.raises(ProgramFailed, match="did not end within 2 s"):
        await running
    await wait_gone(helpers, LIMIT_S)


@pytest.mark.parametrize("becomes", ACCOUNTS)
async def test_a_launcher_that_is_killed_leaves_no_helper_running(becomes: list[str]) -> None:
    launcher = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.integration.exchange.helper_launcher", *becomes, cwd=REPOSITORY
    )
    try:
        await both_run(launcher.pid)
        helpers = descendants(launcher.pid)
    finally:
        launcher.kill()
        await launcher.wait()
    await wait_gone(helpers, LIMIT_S)


async def test_a_program_that_never_stops_talking_is_ended(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.exchange.programs.OUTPUT_LIMIT_BYTES", 70_000)
    async with asyncio.timeout(20):
        with pytest.raises(SaysTooMuch, match="sh says more than 70000 bytes"):
            await run_program(account, ("sh", "-c", "yes >&2 & yes"), Bounds(seconds=60))
