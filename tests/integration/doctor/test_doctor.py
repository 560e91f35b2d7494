"""`launcher doctor` on this node, and on nodes that are really broken."""

import asyncio
import json
import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from launcher.doctor import checks_broker, checks_folders, checks_machine, checks_vms
from launcher.doctor.findings import Finding, Level, Point, PointFinding, look_at
from launcher.doctor.node import Node
from launcher.doctor.points import POINTS
from launcher.hypervisor.access import may
from launcher.hypervisor.account import Account
from launcher.images import CacheFolder
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
    for name in ("qemu-system-x86_64", "sh", "mount", "head", "touch", "chmod", "unshare"):
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


async def test_a_researchers_token_is_told_to_be_no_launchers(user: Api, tmp_path: Path) -> None:
    assert user.token is not None
    node = Node.read(is_for_site=False, broker=user.url, token_file=token_file(tmp_path, user.token))
    told, _ = await found("broker", node)
    assert (told.level, "queue.dispatch" in told.found) == (Level.FAIL, True)


async def test_a_point_is_passed_over_only_for_one_that_has_failed(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no PEM")
    url = f"http://127.0.0.1:{free_port()}"
    files = {"token_file": token_file(tmp_path, "a-token"), "ca_file": tmp_path / "ca.pem"}
    node = Node.read(is_for_site=False, broker=url, **files)
    assert (await the_one("broker", node)).level is Level.FAIL
    names = {"authority", "broker"}
    told = [finding async for finding in look_at([each for each in POINTS if each.name in names], node)]
    assert [finding.level for finding in told] == [Level.FAIL, Level.SKIP]


@needs_root
@pytest.mark.timeout(LIMIT_S)
def test_a_full_cache_fails_once_and_what_needs_it_is_passed_over(folder: Path) -> None:
    for name in ("c", "s"):
        (folder / name).mkdir()
    fill = 'mount -t tmpfs -o size=64k tmpfs "$1/c" && shift && exec "$@"'
    levels = asked(folder, "unshare", "--mount", "--propagation", "private", "sh", "-c", fill, "sh", str(folder))
    assert levels["cache"] == ["fail"]
    assert levels["accelerator"] == levels["guest_disk"] == levels["exchanges"] == ["skip"]


@needs_root
@pytest.mark.timeout(LIMIT_S)
def test_root_of_a_namespace_without_qemus_account_is_told_once(folder: Path) -> None:
    levels = asked(folder, "unshare", "--user", "--map-root-user")
    assert levels["account"] == ["fail"]
    assert [point for point, told in levels.items() if "fail" in told] == ["account"]


@pytest.mark.parametrize(("left_s", "level"), [(-60, Level.FAIL), (40, Level.WARN), (3_600, Level.OK)])
async def test_an_end_that_is_past_or_near_is_told(left_s: int, level: Level) -> None:
    ends_at = datetime.now(UTC) + timedelta(seconds=left_s)
    told = await found("slot", Node.read(is_for_site=True, end=ends_at))
    assert [finding.level for finding in told if finding.found.startswith("ends at")] == [level]


@pytest.mark.parametrize(("network", "offers"), [("proxy", False), ("open", True)])
async def test_at_a_libvirt_of_the_sites_the_network_is_offered_only_if_it_is_open(network: str, offers: bool) -> None:
    node = Node.read(is_for_site=True, libvirt_uri="qemu:///system", network=network)
    told = checks_vms._offered(node, dict.fromkeys(("virtiofs", "9p", "disk", "rootdisk")))
    assert ("network" in told.found) == offers
    node.failed.add("libvirt")
    assert checks_vms._offered(node, {}).level is Level.SKIP


@pytest.mark.parametrize(
    ("reason", "mend"),
    [("Failed to connect socket: No such file", "start that libvirtd"), ("authentication unavailable", "polkit")],
)
def test_a_libvirt_that_does_not_answer_is_mended_by_what_it_says(reason: str, mend: str) -> None:
    assert mend in checks_vms._open_mend(reason)


async def test_what_the_command_line_says_holds_whatever_the_sites_file_has(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "site.toml").write_text("vmz = 1")
    monkeypatch.setenv("VMBROKER_SITE", str(folder / "site.toml"))
    node = Node.read(is_for_site=True, scratch=folder / "s", account="")
    assert (node.settings.scratch, len(node.faults)) == (folder / "s", 1)


@needs_root
async def test_nobodys_home_is_to_be_opened(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    home = folder / "home"
    home.mkdir(mode=0o700)
    entry = pwd.struct_passwd(("somebody", "x", 4_321, 4_321, "", str(home), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwall", lambda: [entry])
    finding = await the_one("scratch", Node.read(is_for_site=True, scratch=home / "s"))
    assert (finding.level, "chmod" in finding.mend) == (Level.FAIL, False)


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


@pytest.mark.timeout(LIMIT_S)
async def test_what_others_planted_in_a_cache_for_all_is_neither_believed_nor_are_files_left_beside_it(
    folder: Path,
) -> None:
    cache = folder / "c"
    cache.mkdir()
    cache.chmod(0o1777)
    node = Node.read(is_for_site=True, cache=cache)
    for point in ("cache", "accelerator", "guest_disk"):
        assert (await found(point, node))[0].level in {Level.OK, Level.WARN}
    own = CacheFolder(cache).own
    assert [path.name for path in cache.iterdir()] == [own.name]
    (disk,) = own.glob("guest-disk-*.img")
    for path in own.iterdir():
        planted = cache / path.name
        planted.write_bytes(b"planted")
        planted.chmod(0o666)
        if IS_ROOT:
            os.chown(planted, 65534, 65534)
    looked = await probe_as_doctor(node)
    assert looked == disk.name
    assert disk.read_bytes() != b"planted"
    assert {path.read_bytes() for path in cache.iterdir() if path.is_file()} == {b"planted"}


async def probe_as_doctor(node: Node) -> str:
    (finding,) = await checks_vms.guest_disk(node)
    assert finding.level is Level.OK
    (accelerator,) = await checks_machine.accelerator(node)
    assert accelerator.level is not Level.FAIL
    return finding.found.partition(",")[0]


async def test_a_cache_whose_folder_of_ours_is_another_accounts_is_told(folder: Path) -> None:
    own = CacheFolder(folder / "c").own
    own.mkdir(parents=True)
    own.chmod(0o777)
    node = Node.read(is_for_site=True, cache=folder / "c")
    assert (await the_one("cache", node)).level is Level.FAIL
    assert (await the_one("guest_disk", node)).level is Level.SKIP


@pytest.mark.parametrize("mode", [0o000, 0o004])
async def test_what_an_account_may_is_asked_without_any_program_of_the_node(
    folder: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    monkeypatch.setenv("PATH", str(folder))
    file = folder / "file"
    file.touch()
    file.chmod(mode)
    account = Account.choose()
    assert await may(account, os.R_OK, file) is bool(IS_ROOT and mode)
    assert not await may(account, os.R_OK, folder / "none")


@needs_root
async def test_qemu_running_as_nobody_is_warned_of_unless_the_site_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.hypervisor.account.USUAL_NAMES", ("nobody",))
    assert (await the_one("account", Node.read(is_for_site=True))).level is Level.WARN
    assert (await the_one("account", Node.read(is_for_site=True, account="nobody"))).level is Level.OK


def test_no_mount_point_is_looked_at_to_tell_a_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    looked: list[Path] = []
    stat_of = Path.stat

    def noted(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        looked.append(path)
        return stat_of(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", noted)
    assert checks_folders._file_system(tmp_path) in mounts
    assert looked == [tmp_path]
