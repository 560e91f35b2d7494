"""Every way by which the client comes into an image, each by a real vm of a machine that a researcher would hand over.

The image that needs no client at all is in test_exchanges.py.
"""

import shutil
from pathlib import Path

import pytest

from tests.vm.conftest import DOMAIN, Grid
from tests.vm.desktop import booted_on_a_desktop

pytestmark = [pytest.mark.vm, pytest.mark.timeout(420)]

LOOK_AROUND = (
    '/bin/sh -c "cp {input} {output}/copy; { hostname; ldd --version | sed 1q; command -v python3 || echo no Python; '
    'getent passwd debian || echo no account debian; } > {output}/machine"'
)
SETTLED_S = 360
DESKTOP_S = 120


def add(grid: Grid, name: str, image: Path, *arguments: str) -> None:
    command = ("broker", "machine", "add", name, str(DOMAIN), "--disk", f"vda={image}", *arguments)
    grid.home.ok(*command, timeout_s=400)
    grid.add_stream(name, name, LOOK_AROUND)
    grid.push(name, grid.file(f"{name}.txt", f"work for {name}".encode()))


def result(grid: Grid, name: str) -> list[str]:
    """Wait for the stream's one item, which must be done, and return what it found in its machine."""
    (item,) = grid.settled(name, timeout_s=SETTLED_S)
    assert item["state"] == "done", grid.story(f"{name}/1")
    outputs = grid.outputs(name)
    assert outputs["copy"] == f"work for {name}".encode()
    return outputs["machine"].decode().splitlines()


def prepare_on_a_desktop(disk: Path, broker_port: int) -> None:
    """Do once what the how-to says: in the machine, as root; --remove and a second time are tried on the way."""
    curl = f"curl -fsS --retry 30 --retry-all-errors --retry-delay 1 http://10.0.2.2:{broker_port}/guest/install"
    with booted_on_a_desktop(disk) as console:
        console.wait_for("root@stock:~# ", timeout_s=DESKTOP_S)
        for line, answer in (
            (f"{curl} | sh", "the stub is installed for systemd"),
            (f"{curl} | sh -s -- --remove; ls /etc/systemd/system/vmbroker-guest.service", "No such file"),
            (f"{curl} | sh && {curl} | sh && systemctl is-enabled vmbroker-guest", "\nenabled"),
        ):
            console.type(line)
            console.wait_for(answer, timeout_s=DESKTOP_S)
        console.type("systemctl poweroff")
        console.wait_for_power_off(timeout_s=DESKTOP_S)


@pytest.fixture(scope="module")
def machines(grid: Grid, cloud_image: Path, stock_image: Path) -> None:
    """All machines handed over and their items pushed: the vms of one boot while the next is prepared."""
    add(grid, "cloud", cloud_image)
    by_curl, shut_down = grid.folder / "by-curl.qcow2", grid.folder / "shut-down.qcow2"
    for copy in (by_curl, shut_down):
        shutil.copyfile(stock_image, copy)
    prepare_on_a_desktop(by_curl, grid.broker.port)
    add(grid, "by-curl", by_curl)
    add(grid, "shut-down", shut_down, "--install-guest")


def test_a_cloud_image_needs_nothing_and_keeps_its_name_and_accounts(grid: Grid, machines: None) -> None:
    hostname, _, _, account = result(grid, "cloud")
    assert hostname == "cloud"
    assert account == "no account debian"


@pytest.mark.parametrize("name", ["by-curl", "shut-down"])
def test_a_machine_of_an_older_release_without_python_needs_the_stub_once(
    grid: Grid, machines: None, name: str
) -> None:
    hostname, libc, python, _ = result(grid, name)
    assert hostname == "stock"
    assert libc.endswith("2.31")
    assert python == "no Python"
