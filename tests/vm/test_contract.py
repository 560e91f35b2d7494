"""The program's contract, seen from inside of real vms by programs in sh, Python and C.

Each writes what it sees into its output, and one table says what that must be. The one in sh travels with the stream to
an image that has nothing but busybox, the one in Python to an image with cloud-init; the one in C is linked statically
and lies in its image.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.grid import REPOSITORY
from tests.support.launching import short_folder
from tests.vm.conftest import Grid

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

PROGRAMS = REPOSITORY / "tests" / "vm" / "programs"
IN_IMAGE = "/opt/contract"
ARGUMENTS = "{input} {output} {item} {param.my_seed}"
SEED = "$(id) 'two' \"words\""
LIMIT_S = 1_800

EXPECTED = (
    ("arguments", "4"),
    ("input is argument", "yes"),
    ("input in folder", "yes"),
    ("folder", "frame 1.txt"),
    ("input", "work of a"),
    ("output is argument", "yes"),
    ("output", "0"),
    ("item", "{item} {item}"),
    ("parameter", SEED),
    ("parameter", SEED),
    ("cpus", "1 1"),
    ("limit", str(LIMIT_S)),
    ("job", "{item}"),
    ("memory", "yes"),
    ("shutdown later", "yes"),
    ("proxies", "yes"),
    ("no proxy", "localhost,127.0.0.1,::1 localhost,127.0.0.1,::1"),
    ("account", "0 /root"),
    ("standard input", "0"),
)
"""Each line that a program writes: what it looked at, and what it must have seen. A parameter comes as an argument and
as a variable."""


@pytest.fixture(scope="module")
def image_with_program(exchange_image: Path) -> Iterator[Path]:
    """A copy of an image with the C program put into its root file system, as its owner would have installed it."""
    with short_folder("vc-") as folder:
        raw, image, program = folder / "raw", folder / "disk.qcow2", folder / "contract"
        source = PROGRAMS / "contract.c"
        # /opt is made first; the file keeps the mode that it has here.
        commands = f"mkdir /opt\nwrite {program} {IN_IMAGE}\n"
        for command, given in (
            (["gcc", "-static", "-Os", "-Wall", "-Wextra", "-Werror", "-o", program, source], None),
            (["qemu-img", "convert", "-O", "raw", exchange_image, raw], None),
            (["debugfs", "-w", "-f", "-", f"{raw}?offset={1024 * 1024}"], commands),
            (["qemu-img", "convert", "-O", "qcow2", raw, image], None),
        ):
            assert shutil.which(str(command[0])), f"{command[0]} is missing: deploy/setup/system-packages test"
            subprocess.run(
                list(map(str, command)), input=given, check=True, capture_output=True, text=True, timeout=120
            )
        raw.unlink()
        yield image


@pytest.fixture(scope="module")
def settled(grid: Grid, minimal_image: Path, cloud_image: Path, image_with_program: Path) -> Grid:
    """The grid after the three programs have run; all are pushed first, so that two run at once."""
    ways = {
        "contract-py": (cloud_image, f"{{script}} {ARGUMENTS}", ("--script", str(PROGRAMS / "contract.py"))),
        "contract-sh": (minimal_image, f"{{script}} {ARGUMENTS}", ("--script", str(PROGRAMS / "contract.sh"))),
        "contract-c": (image_with_program, f"{IN_IMAGE} {ARGUMENTS}", ()),
    }
    given = grid.file("contract/frame 1.txt", b"work of a\n")
    for name, (image, run, more) in ways.items():
        grid.add_machine(name, image)
        grid.add_stream(name, name, run, "--run-limit", f"{LIMIT_S}s", *more)
        grid.push(name, given, "--param", f"my_seed={SEED}")
    for name in ways:
        grid.settled(name, timeout_s=500)
    return grid


@pytest.mark.parametrize("stream", ["contract-sh", "contract-py", "contract-c"])
def test_a_program_sees_what_it_was_promised(settled: Grid, stream: str) -> None:
    item = f"{stream}/1"
    assert settled.broker.items(stream)[0]["state"] == "done", settled.story(item)

    lines = settled.outputs(stream)["seen"].decode().splitlines()

    wanted = [(name, value.replace("{item}", f"alice/{item}")) for name, value in EXPECTED]
    assert lines == [f"{name} {value}" for name, value in wanted]
    assert sorted(settled.home.ok("broker", "logs", item, "--output").split()) == ["complained", "said"]
