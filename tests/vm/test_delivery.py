"""Each way by which a ticket comes into a vm, with systemd and without, to an item that is done.

An image that finds its port uses that; the others here lack its driver, or that of fw_cfg too.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.portless import FW_CFG_DRIVER, PORT_DRIVER, forgetful, minimal_without_port, unpacked_kernel
from tests.vm.conftest import Grid

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

CONTENT = b"bytes of an input\n"
COPY = '/bin/sh -c "cp {input} {output}/copy && env > {output}/seen"'
NO_PORT = "there is no port; the ticket came by "


class Row(NamedTuple):
    """A machine, and what its client says of where the ticket came from; nothing where it came by the port."""

    name: str
    says: str


ROWS = (
    Row("busybox-port", ""),
    Row("busybox-fw-cfg", f"{NO_PORT}fw_cfg"),
    Row("busybox-seed", f"{NO_PORT}the seed disk"),
    Row("systemd247-fw-cfg", f"{NO_PORT}fw_cfg"),
    Row("systemd257-credential", f"{NO_PORT}a credential"),
    Row("cloud-init-seed", f"{NO_PORT}the seed disk"),
)


@pytest.fixture(scope="module")
def machines(grid: Grid, minimal_image: Path, cloud_image: Path, stock_image: Path) -> Mapping[str, Path]:
    """The machines handed over and an item pushed for each, those that boot longest first."""
    folder = grid.folder / "delivery"
    folder.mkdir()
    both = (PORT_DRIVER, FW_CFG_DRIVER)
    images = {
        "cloud-init-seed": forgetful(cloud_image, folder / "cloud-seed.qcow2", both),
        "systemd257-credential": forgetful(cloud_image, folder / "cloud.qcow2", both[:1]),
        "systemd247-fw-cfg": forgetful(stock_image, folder / "stock.qcow2", both[:1], with_stub=True),
        "busybox-port": minimal_image,
    }
    for name, image in images.items():
        push(grid, name, image)
    tree = unpacked_kernel(folder)
    push(grid, "busybox-seed", minimal_without_port(tree, folder / "bare.qcow2"))
    push(grid, "busybox-fw-cfg", minimal_without_port(tree, folder / "fw-cfg.qcow2", [FW_CFG_DRIVER]))
    return images


def push(grid: Grid, name: str, image: Path) -> None:
    grid.add_machine(name, image)
    grid.add_stream(name, name, COPY)
    grid.push(name, grid.file(f"delivery/{name}.txt", CONTENT))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_ticket_reaches_the_guest_and_its_item_is_done(grid: Grid, machines: Mapping[str, Path], row: Row) -> None:
    (item,) = grid.ended(row.name, timeout_s=500)
    assert item["state"] == "done", grid.story(f"{row.name}/1")
    outputs = grid.outputs(row.name)
    assert outputs["copy"] == CONTENT
    assert b"vt1." not in outputs["seen"]
    console = grid.home.ok("broker", "console", f"{row.name}/1")
    assert (row.says in console) if row.says else (NO_PORT not in console), console
