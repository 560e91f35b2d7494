"""`launcher doctor` on this node, and on nodes that are really broken."""

import asyncio
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.doctor import checks_broker, checks_folders, checks_machine
from launcher.doctor.findings import Finding, Level, Point, PointFinding, look_at
from launcher.doctor.node import Node
from launcher.doctor.points import POINTS
from tests.support.api import Api
from tests.support.grid import Home, free_port
from tests.support.launching import short_folder

LIMIT_S = 300
IS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root's QEMU has another account, and only root mounts")


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder("vmb-doctor-") as folder:
        yield folder


def asked(folder: Path, *around: str, arguments: tuple[str, ...] = ("--site",), **environ: str) -> dict[str, list[str]]:
    """Run the command and return the levels of what each point found."""
    command = [*around, str(Path(sys.executable).with_name("launcher")), "doctor", "--output", "json"]
    folders = ("--cache", str(folder / "c"), "--scratch", str(folder / "s"))
    ended = subprocess.run(
        [*command, *folders, *arguments],
        env=Home(folder, environ).environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert ended.returncode in {0, 1}, ended.stderr
    levels: dict[str, list[str]] = {}
    for finding in json.loads(ended.stdout):
        levels.setdefault(finding["point"], []).append(finding["level"])
    assert (ended.returncode == 1) == any("fail" in found for found in levels.values())
    return levels


async def found(point: str, node: Node) -> list[PointFinding]:
    return [finding async for finding in look_at([each for each in POINTS if each.name == point], node)]


async def the_one(point: str, node: Node) -> PointFinding:
    (finding,) = await found(point, node)
    return finding


@pytest.mark.timeout(LIMIT_S)
def test_on_a_node_where_launchers_run_nothing_fails_and_nothing_stays_behind(folder: Path) -> None:
    levels = asked(folder)
    assert [point for point, told in levels.items() if "fail" in told] == []
    assert levels.keys() == {point.name for point in POINTS}
    assert levels["login"] == levels["broker"] == ["skip"]
    assert list((folder / "s").iterdir()) == []


BREAK = """
mount -t tmpfs -o size=1m tmpfs "$1/s" && head -c 1048576 /dev/zero >"$1/s/full" 2>/dev/null
touch "$1/kvm" && chmod 600 "$1/kvm" && mount --bind "$1/kvm" /dev/kvm
shift; exec "$@"
"""


@needs_root
@pytest.mark.skipif(not Path("/dev/kvm").exists(), reason="there is no /dev/kvm to break")
@pytest.mark.timeout(LIMIT_S)
def test_all_that_is_broken_is_told_in_one_run(folder: Path) -> None:
    (folder / "s").mkdir()
    (folder / "bin").mkdir()
    for name in ("qemu-system-x86_64", "sh", "mount", "head", "touch", "chmod", "test", "unshare"):
        (folder / "bin" / name).symlink_to(next(p for p in (f"/usr/bin/{name}", f"/bin/{name}") if Path(p).exists()))
    levels = asked(
        folder,
        *("unshare", "--mount", "--propagation", "private", "sh", "-c", BREAK, "sh", str(folder)),
        arguments=("--broker", f"http://127.0.0.1:{free_port()}", "--token-file", str(token_file(folder, "a-token"))),
        PATH=str(folder / "bin"),
    )
    assert levels["broker"] == ["fail"]
    assert "fail" in levels["programs"]
    assert levels["kvm"] == ["warn"]
    assert "fail" in levels["scratch"]
    assert levels["login"] == levels["account"] == levels["firmware"] == ["ok"]


def token_file(folder: Path, token: str) -> Path:
    file = folder / "token"
    file.write_text(token)
    return file


@pytest.mark.timeout(LIMIT_S)
def test_a_kernel_that_forbids_user_namespaces_is_told_with_the_sysctl(folder: Path) -> None:
    # A user namespace in which no further one may be made stands for a node that forbids them to ordinary users.
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    for name in ("c", "s"):
        (folder / name).mkdir()
        (folder / name).chmod(0o777)
    nobody = ("unshare", "--user", "--map-user=65534", "--map-group=65534", "--keep-caps")
    levels = asked(folder, *nobody, "sh", "-c", forbid, "sh")
    assert (levels["namespaces"], levels["libvirt"]) == (["fail"], ["fail"])


async def test_wrong_settings_are_told_and_hide_no_other_point() -> None:
    node = Node.read(is_for_site=True, vms=0, accelerator="fast")
    assert [finding.level for finding in await found("settings", node)] == [Level.FAIL, Level.FAIL]
    assert (await the_one("account", node)).level is Level.OK


async def test_a_qemu_img_that_is_not_in_the_path_is_told_with_its_package(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "qemu-system-x86_64").symlink_to("/usr/bin/qemu-system-x86_64")
    monkeypatch.setenv("PATH", str(folder))
    _, lacking = await found("programs", Node.read(is_for_site=True))
    assert (lacking.level, lacking.found) == (Level.FAIL, "not installed: qemu-img")
    assert "qemu" in lacking.mend


@needs_root
@pytest.mark.parametrize("point", ["cache", "scratch"])
async def test_a_folder_that_qemus_account_cannot_reach_is_told_with_the_one_that_is_closed(
    folder: Path, point: str
) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    given = {point: closed / "in"}
    finding = await the_one(point, Node.read(is_for_site=True, **given))
    assert finding.level is Level.FAIL
    assert f"let everybody pass through {closed} (chmod o+x)" in finding.mend


async def test_a_scratch_folder_with_too_long_a_path_is_told(folder: Path) -> None:
    finding = await the_one("scratch", Node.read(is_for_site=True, scratch=folder / ("x" * 60)))
    assert (finding.level, "too long" in finding.found) == (Level.FAIL, True)


async def test_a_broker_that_takes_the_token_is_told_and_so_is_one_that_does_not(launcher: Api, tmp_path: Path) -> None:
    assert launcher.token is not None
    for token, levels in ((launcher.token, [Level.OK, Level.OK]), ("another-token", [Level.FAIL])):
        node = Node.read(is_for_site=False, broker=launcher.url, token_file=token_file(tmp_path, token))
        assert [finding.level for finding in await found("broker", node)] == levels


async def test_a_broker_that_is_not_there_is_told(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    node = Node.read(is_for_site=False, broker=url, token_file=token_file(tmp_path, "a-token"))
    finding = await the_one("broker", node)
    assert (finding.level, url in finding.found) == (Level.FAIL, True)


async def test_a_check_that_crashes_or_hangs_hides_no_other() -> None:
    async def crash(node: Node) -> list[Finding]:
        raise RuntimeError("it broke")

    async def hang(node: Node) -> list[Finding]:
        await never.wait()
        return []

    never = asyncio.Event()
    points = [Point("crash", crash), Point("hang", hang, limit_s=0.01), Point("account", checks_machine.account)]
    told = [finding async for finding in look_at(points, Node.read(is_for_site=True))]
    assert [(finding.point, finding.level) for finding in told] == [
        ("crash", Level.FAIL),
        ("hang", Level.FAIL),
        ("account", Level.OK),
    ]
    assert "it broke" in told[0].found


async def test_a_cache_that_everybody_may_write_to_is_told(folder: Path) -> None:
    cache = folder / "c"
    cache.mkdir()
    cache.chmod(0o777)
    first, *_ = await found("cache", Node.read(is_for_site=True, cache=cache))
    assert (first.level, stat.S_IMODE(cache.stat().st_mode)) == (Level.WARN, 0o777)


@pytest.mark.parametrize(("date", "level"), [("Mon, 01 Jan 2001 00:00:00 GMT", Level.FAIL), ("", Level.WARN)])
def test_a_clock_that_is_not_the_brokers_is_told(date: str, level: Level) -> None:
    assert checks_broker._clock(date).level is level


def test_what_lies_on_a_tmpfs_is_told_to_be_memory() -> None:
    (finding,) = checks_folders._memory_backed(Path("/dev/shm"))
    assert finding.level is Level.WARN
