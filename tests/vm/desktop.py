"""A researcher's desktop: the machine boots under plain QEMU, with the network that virt-manager's user session has."""

import os
import selectors
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STOP_S = 10


class Console:
    """The serial console of a running machine."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._keyboard, self._screen = process.stdin, process.stdout
        self._seen = bytearray()
        self._waited_to = 0

    def type(self, line: str) -> None:
        """Type a line, and Enter."""
        self._keyboard.write(f"{line}\n".encode())
        self._keyboard.flush()

    def wait_for(self, text: str, *, timeout_s: float) -> None:
        """Wait until the text appears after what was waited for last."""
        ends = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._screen, selectors.EVENT_READ)
            while (found := self._seen.find(text.encode(), self._waited_to)) < 0:
                left_s = ends - time.monotonic()
                assert left_s > 0, f"no {text!r} within {timeout_s} s:\n{self._seen.decode(errors='replace')}"
                if selector.select(left_s):
                    chunk = os.read(self._screen.fileno(), 65_536)
                    assert chunk, f"the machine ended before {text!r}:\n{self._seen.decode(errors='replace')}"
                    self._seen += chunk
        self._waited_to = found + len(text.encode())

    def wait_for_power_off(self, *, timeout_s: float) -> None:
        """Wait until the machine has switched itself off."""
        self._process.communicate(timeout=timeout_s)
        assert self._process.returncode == 0


@contextmanager
def booted_on_a_desktop(disk: Path) -> Iterator[Console]:
    """Boot the qcow2 disk, which keeps what the machine writes; this host is 10.0.2.2 to whoever is at its console."""
    command = ("qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "qemu64,+rdrand", "-m", "512", "-no-reboot")
    devices = (
        "-drive",
        f"file={disk},if=virtio,format=qcow2,cache=unsafe",
        "-nic",
        "user,model=virtio-net-pci",
    )
    with subprocess.Popen(
        [*command, *devices, "-nodefaults", "-nographic", "-serial", "stdio"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            yield Console(process)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(_STOP_S)
