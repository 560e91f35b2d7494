"""`launcher advertise` on this node, and on nodes that are really broken."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.wire.states import Accelerator, Exchange
from launcher.advertise import command
from launcher.advertise import look as looking
from launcher.advertise.memory import MEMORY_FILE
from launcher.hypervisor.accelerator import AcceleratorProbe
from launcher.hypervisor.errors import Unavailable
from launcher.images import CacheFolder
from launcher.images.public_names import image_attribute
from launcher.settings import Settings, read_settings
from tests.support.grid import Home
from tests.support.launching import short_folder

LIMIT_S = 120
IS_ROOT = os.geteuid() == 0
LAUNCHER = str(Path(sys.executable).with_name("launcher"))
KVM = AcceleratorProbe(Accelerator.KVM, "KVM works")
TCG = AcceleratorProbe(Accelerator.TCG, "KVM does not work here: it is too slow")


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder("vmb-adv-") as folder:
        yield folder


def asked(folder: Path, *around: str, **environ: str) -> dict[str, str]:
    """Run the command and return what it tells, by attribute."""
    folders = ("--cache", str(folder / "c"), "--scratch", str(folder / "s"))
    ended = subprocess.run(
        [*around, LAUNCHER, "advertise", *folders],
        env=Home(folder, environ).environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return attributes(ended.stdout)


def attributes(text: str) -> dict[str, str]:
    return dict(line.split(" = ", 1) for line in text.splitlines())


def settings(folder: Path, **more: object) -> Settings:
    return read_settings(cache=folder / "c", scratch=folder / "s", **more)


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[AcceleratorProbe | Exception]:
    """What the probe of the accelerator says, and no vm is started; see `tried`."""
    answers: list[AcceleratorProbe | Exception] = [KVM]

    async def probe(*_: object, **__: object) -> AcceleratorProbe:
        if isinstance(answers[0], Exception):
            raise answers[0]
        return answers[0]

    monkeypatch.setattr(looking, "probe_accelerator", probe)
    return answers


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often a vm would have been started: that takes seconds, and is another test's."""
    count: list[int] = []

    async def try_node(*_: object) -> tuple[Exchange, ...]:
        count.append(1)
        return (Exchange.NETWORK, Exchange.DISK)

    monkeypatch.setattr("launcher.advertise.trial.try_node", try_node)
    return count


@pytest.mark.timeout(LIMIT_S)
def test_a_node_where_launchers_run_says_so_and_remembers_it(folder: Path) -> None:
    told = asked(folder)
    assert told["CAN_RUN_VIRTUAL_MACHINE"] == "true"
    assert told["VMBROKER_ACCELERATOR"] in {'"kvm"', '"tcg"'}
    assert int(told["VMBROKER_VCPUS"]) > 0
    assert int(told["VMBROKER_MEMORY_MIB"]) > 0
    assert set(told["VMBROKER_EXCHANGES"].strip('"').split(",")) >= {"network", "disk"}
    assert list((folder / "s").iterdir()) == []

    # No libvirtd can be started any more, and none is: QEMU and the programs that are remembered are as they were.
    memory = CacheFolder(folder / "c").own / MEMORY_FILE
    kept = json.loads(memory.read_bytes())
    memory.write_text(json.dumps({**kept, "exchanges": ["disk"]}))
    assert asked(folder)["VMBROKER_EXCHANGES"] == '"disk"'
    kept["circumstances"]["boot_id"] = "another boot"
    memory.write_text(json.dumps({**kept, "exchanges": ["disk"]}))
    assert asked(folder)["VMBROKER_EXCHANGES"] == told["VMBROKER_EXCHANGES"]


@pytest.mark.timeout(LIMIT_S)
def test_a_kernel_that_forbids_user_namespaces_is_an_answer(folder: Path) -> None:
    # A user namespace in which no further one may be made stands for a node that forbids them to ordinary users.
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    for name in ("c", "s"):
        (folder / name).mkdir()
        (folder / name).chmod(0o777)
    nobody = ("unshare", "--user", "--map-user=65534", "--map-group=65534", "--keep-caps")
    told = asked(folder, *nobody, "sh", "-c", forbid, "sh")
    assert told["CAN_RUN_VIRTUAL_MACHINE"] == "false"
    assert "namespace" in told["VMBROKER_REASON"]
    assert "VMBROKER_ACCELERATOR" not in told
    assert not list((folder / "c").glob(f"own-*/{MEMORY_FILE}"))


def test_a_node_without_qemu_is_an_answer(folder: Path) -> None:
    (folder / "bin").mkdir()
    told = asked(folder, PATH=str(folder / "bin"))
    assert told["CAN_RUN_VIRTUAL_MACHINE"] == "false"
    assert "qemu-system-x86_64 is not installed on this node" in told["VMBROKER_REASON"]


def test_settings_that_are_wrong_are_an_answer(folder: Path) -> None:
    site = folder / "site.toml"
    site.write_text("vmz = 1\n")
    told = asked(folder, VMBROKER_SITE=str(site))
    assert told["CAN_RUN_VIRTUAL_MACHINE"] == "false"
    assert "`vmz` is no setting" in told["VMBROKER_REASON"]


@pytest.mark.skipif(not IS_ROOT, reason="only root becomes an account that the node does not know")
def test_without_a_home_it_asks_for_a_folder_in_one_sentence() -> None:
    become = ("setpriv", "--reuid=54321", "--regid=54321", "--clear-groups")
    if subprocess.run([*become, LAUNCHER, "--version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("another account cannot reach this launcher: it lies in a folder of root's alone")
    ended = subprocess.run(
        [*become, LAUNCHER, "advertise"], env={}, capture_output=True, text=True, check=True, timeout=LIMIT_S
    )
    told = attributes(ended.stdout)
    assert told["CAN_RUN_VIRTUAL_MACHINE"] == "false"
    assert "set HOME, or name one with --cache" in told["VMBROKER_REASON"]


async def test_what_worked_is_tried_once(
    folder: Path, probed: list[AcceleratorProbe | Exception], tried: list[int]
) -> None:
    for _ in range(3):
        answer = await looking.look(settings(folder))
        assert answer.can_run
        assert answer.exchanges == (Exchange.NETWORK, Exchange.DISK)
    assert len(tried) == 1
    await looking.look(settings(folder, account="nobody") if IS_ROOT else settings(folder, network="proxy"))
    await looking.look(read_settings(cache=folder / "c", scratch=folder / "other"))
    assert len(tried) == (3 if IS_ROOT else 2), "another account or folder is another question"


async def test_what_did_not_work_is_tried_anew(
    folder: Path, probed: list[AcceleratorProbe | Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    count: list[int] = []

    async def try_node(*_: object) -> tuple[Exchange, ...]:
        count.append(1)
        raise Unavailable("libvirtd does not come up")

    monkeypatch.setattr("launcher.advertise.trial.try_node", try_node)
    for _ in range(2):
        answer = await looking.look(settings(folder))
        assert (answer.can_run, answer.reason) == (False, "libvirtd does not come up")
    assert len(count) == 2


async def test_a_probe_that_fails_is_the_reason(
    folder: Path, probed: list[AcceleratorProbe | Exception], tried: list[int]
) -> None:
    probed[0] = Unavailable("this node is too busy to run VMs")
    answer = await looking.look(settings(folder))
    assert (answer.can_run, answer.reason, answer.accelerator) == (False, "this node is too busy to run VMs", None)
    assert answer.vcpus
    assert not tried


@pytest.mark.parametrize(
    ("said", "asks", "can_run", "accelerator"),
    [
        (KVM, "auto", True, Accelerator.KVM),
        (KVM, "kvm", True, Accelerator.KVM),
        (KVM, "tcg", True, Accelerator.TCG),
        (TCG, "auto", True, Accelerator.TCG),
        (TCG, "kvm", False, None),
    ],
)
async def test_the_settings_accelerator_is_what_a_launcher_here_would_use(
    folder: Path,
    probed: list[AcceleratorProbe | Exception],
    tried: list[int],
    said: AcceleratorProbe,
    asks: str,
    can_run: bool,
    accelerator: Accelerator | None,
) -> None:
    probed[0] = said
    answer = await looking.look(settings(folder, accelerator=asks))
    assert (answer.can_run, answer.accelerator) == (can_run, accelerator)
    if not can_run:
        assert answer.reason == f"the launcher's settings ask for KVM: {TCG.reason}"


async def test_a_slot_without_room_is_the_reason(
    folder: Path, probed: list[AcceleratorProbe | Exception], tried: list[int]
) -> None:
    answer = await looking.look(settings(folder, memory_mib=100))
    assert not answer.can_run
    assert "no memory beyond the" in answer.reason


async def test_public_images_are_named_and_private_ones_never(
    folder: Path, probed: list[AcceleratorProbe | Exception], tried: list[int]
) -> None:
    cache = CacheFolder(folder / "c")
    cache.prepare()
    public, private = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
    for digest in (public, private):
        (cache.path / digest.replace(":", "-")).touch()
    (cache.own / f"{public.replace(':', '-')}.public").touch()
    lines = list((await looking.look(settings(folder))).lines())
    assert f"{image_attribute(public)} = true" in lines
    assert not any(image_attribute(private) in line for line in lines)
    assert not any(digest.partition(":")[2] in line for digest in (public, private) for line in lines)


def test_a_trial_that_takes_too_long_is_an_answer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_: Settings) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(command, "look", never)
    monkeypatch.setattr(command, "LIMIT_S", 0.05)
    answer = command._answer(cache=folder / "c", scratch=folder / "s")
    assert not answer.can_run
    assert "did not show within 0.05 s" in answer.reason


HELD = """
import asyncio, sys, time
from pathlib import Path
from launcher.advertise import command
command._LAST_S = 1
async def look(settings):
    time.sleep(600)
command.look = look
command.answer_in_time(cache=Path(sys.argv[1]), scratch=Path(sys.argv[1]), account=None)
"""


def test_a_node_that_holds_the_command_up_is_an_answer(folder: Path) -> None:
    began_s = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", HELD, str(folder)], capture_output=True, text=True, timeout=60, check=True
    )
    assert time.monotonic() - began_s < 60
    told = attributes(ended.stdout)
    assert told["CAN_RUN_VIRTUAL_MACHINE"] == "false"
    assert "does not let go" in told["VMBROKER_REASON"]


def test_a_bug_in_the_trial_is_an_answer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_: Settings) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(command, "look", broken)
    answer = command._answer(cache=folder / "c", scratch=folder / "s")
    assert (answer.can_run, "ZeroDivisionError: oh" in answer.reason) == (False, True)
