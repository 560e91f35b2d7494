"""Launchers as people start them, for tests: in a folder of their own, their vms counted."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.grid import Broker
from tests.support.tally import count_booted


@contextmanager
def short_folder(prefix: str) -> Iterator[Path]:
    """A folder with a short path, which QEMU's account may pass through."""
    with tempfile.TemporaryDirectory(prefix=prefix, dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


@contextmanager
def launched(broker: Broker, folder: Path, *arguments: str) -> Iterator[Path]:
    """Run a launcher for the block; its vms are counted from its log afterwards."""
    log = folder / "launcher.log"
    command = ("launcher", "run", "--scratch", str(folder / "n"), "--cache", str(folder / "c"), *arguments)
    try:
        with broker.home.running(log, *command):
            yield log
    finally:
        count_vms_of(log)


def count_vms_of(log: Path) -> None:
    for dispatch in re.findall(r"event=vm_phase dispatch=(\S+) .*phase=started", log.read_text()):
        count_booted(dispatch)
