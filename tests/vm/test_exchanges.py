"""Each way in and out of a vm, with a real one: an input goes in, an output comes back, and nothing else reaches it.

The program says what it sees from inside: which network interfaces there are, how its folder was mounted.
"""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.vm.conftest import Grid

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

CONTENT = b"bytes of an input\n" * 1_000
SCRIPT = """#!/bin/sh
set -e
cat "$1" >"$2/copy"
mkdir "$2/seen"
ls /sys/class/net >"$2/seen/interfaces"
grep -E 'virtiofs|9p' /proc/mounts >"$2/seen/mounts" || true
printf '%s' "$VMBROKER_PARAM_WORDS" >"$2/seen/words"
ln -s /etc/passwd "$2/link"
if mount -t 9p -o trans=virtio,version=9p2000.L vmbroker9p /mnt; then
	cat /mnt/in/input/* >"$2/seen/in-by-9p"
	echo "written through 9p" >/mnt/out/output/out-by-9p
	ln -s /etc/passwd /mnt/out/output/link-by-9p
	umount /mnt
fi
echo "the program was here"
"""
WORDS = "it's two words; $HOME"


@pytest.fixture(scope="module")
def pushed(grid: Grid, exchange_image: Path) -> Grid:
    """One item for each of the ways, so that two vms run at once; rootdisk first, as it takes longest."""
    grid.add_machine("bare", exchange_image)
    script = grid.file("exchange/script", SCRIPT.encode())
    work = grid.file("exchange/input file.txt", CONTENT)
    for exchange in ("rootdisk", "shared", "disk"):
        arguments = ("--exchange", exchange, "--script", str(script), "--param", f"WORDS={WORDS}")
        grid.add_stream(f"by-{exchange}", "bare", "{script} {input} {output}", *arguments)
        grid.push(f"by-{exchange}", work)
    return grid


def _done(grid: Grid, stream: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    (item,) = grid.settled(stream, timeout_s=500)
    assert item["state"] == "done", grid.story(f"{stream}/1")
    return item, grid.outputs(stream)


@pytest.mark.parametrize("exchange", ["shared", "disk", "rootdisk"])
def test_an_input_goes_in_and_outputs_come_back(pushed: Grid, exchange: str) -> None:
    item, outputs = _done(pushed, f"by-{exchange}")

    assert outputs["copy"] == CONTENT
    assert outputs["words"].decode() == WORDS
    assert "link" not in outputs
    assert outputs["interfaces"].split() == [b"lo"], "the vm has a network device"
    assert item["vm"]["facts"]["exchange"] == exchange, item


@pytest.mark.parametrize("exchange", ["disk", "rootdisk"])
def test_the_booted_machine_had_neither_network_nor_client(pushed: Grid, exchange: str) -> None:
    _done(pushed, f"by-{exchange}")

    xml = _booted_xml(pushed, f"by-{exchange}/1")
    assert "<interface" not in xml
    assert "<filesystem" not in xml
    assert "VMBROKER" not in xml


def test_a_share_is_virtiofs_and_9p_as_the_node_says(pushed: Grid) -> None:
    _, outputs = _done(pushed, "by-shared")
    (offered,) = re.findall(r"event=exchanges_probed (.*)", pushed.launcher_log.read_text())

    assert outputs["mounts"].split()[2] == (b"virtiofs" if "virtiofs=yes" in offered else b"9p")
    if "9p=yes" in offered:
        assert outputs["in-by-9p"] == CONTENT
        assert outputs["out-by-9p"] == b"written through 9p\n"
        assert "link-by-9p" not in outputs


def test_our_client_works_by_the_share(grid: Grid, exchange_image: Path) -> None:
    grid.add_machine("with-client", exchange_image)
    grid.add_stream(
        "by-client", "with-client", "/bin/cp {input} {output}/copy", "--exchange", "shared", "--param", "client=yes"
    )
    grid.push("by-client", grid.file("exchange/for-client", CONTENT))

    item, outputs = _done(grid, "by-client")

    assert outputs["copy"] == CONTENT
    assert item["vm"]["facts"]["client"], item


def _booted_xml(grid: Grid, item: str) -> str:
    return grid.home.ok("broker", "logs", item, "--xml")
