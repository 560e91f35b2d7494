"""The virtio port to the launcher: found, greeted, and read and written for as long as the client lives.

Synchronous on purpose: the greeting goes out before the slow imports, so that the launcher's answer travels meanwhile.
While nobody has opened the port's other side, the kernel shows a hang-up, reads give nothing and writes would block.
Source: Linux drivers/char/virtio_console.c, port_fops_read, port_fops_write, port_fops_poll.
"""

import os
import select
import time
from pathlib import Path
from typing import Self

import msgspec

from broker.wire.port import MAX_LINE_BYTES, PORT_NAME, Hello, Log, Stop, Welcome

LOOK_INTERVAL_S = 0.1
LISTEN_S = 1.0
REPEAT_HELLO_S = 5.0
WRITE_TIMEOUT_S = 1.0
MAX_LOG_CHARACTERS = 4096

_decoder = msgspec.json.Decoder(Welcome | Stop)


class NoPort(Exception):
    """The port did not appear, or is in another process's hands."""


class NoWelcome(Exception):
    """The launcher did not answer in time."""


def find_port(timeout_s: float, devices: Path = Path("/dev"), ports: Path = Path("/sys/class/virtio-ports")) -> Path:
    """Wait until the port's device is there: by udev's name where there is udev, else by the kernel's list.

    Raises:
        NoPort: after `timeout_s`.
    """
    deadline_s = time.monotonic() + timeout_s
    while True:
        by_name = devices / "virtio-ports" / PORT_NAME
        if by_name.exists():
            return by_name
        for entry in ports.glob("*/name"):
            device = devices / entry.parent.name
            if entry.read_text().strip() == PORT_NAME and device.exists():
                return device
        if time.monotonic() >= deadline_s:
            raise NoPort(f"there is no virtio port {PORT_NAME}: has this vm been started by a launcher?")
        time.sleep(LOOK_INTERVAL_S)


class Port:
    """One side of the port, line by line. Incoming lines that are no `Welcome` are skipped: a restarted client may find
    the rest of an earlier one.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._incoming = bytearray()
        self._early_stop: Stop | None = None
        self._is_mid_line = False

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the device; the kernel lets one process at a time have it.

        Raises:
            NoPort: it cannot be opened.
        """
        try:
            return cls(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY))
        except OSError as error:
            raise NoPort(f"the port {path} cannot be opened: {error.strerror}") from error

    def close(self) -> None:
        os.close(self._descriptor)

    def greet(self, client: str) -> bool:
        """Say hello; tells whether somebody took it."""
        return self._send(Hello(client=client))

    def log(self, text: str) -> None:
        """Tell the launcher something; dropped when it does not read within `WRITE_TIMEOUT_S`."""
        self._send(Log(text=text[:MAX_LOG_CHARACTERS]))

    def wait_for_welcome(self, client: str, timeout_s: float) -> Welcome:
        """Read the launcher's answer, repeating the greeting until it comes.

        Raises:
            NoWelcome: after `timeout_s`.
        """
        deadline_s = time.monotonic() + timeout_s
        repeat_at_s = time.monotonic() + REPEAT_HELLO_S
        while (now_s := time.monotonic()) < deadline_s:
            welcome = None
            for message in self._read_messages(min(deadline_s, repeat_at_s) - now_s):
                if isinstance(message, Stop):
                    self._early_stop = message
                else:
                    welcome = welcome or message
            if welcome is not None:
                return welcome
            if time.monotonic() >= repeat_at_s:
                self.greet(client)
                repeat_at_s = time.monotonic() + REPEAT_HELLO_S
        raise NoWelcome(f"the launcher did not answer on the port within {timeout_s:.0f} s")

    def read_stop(self) -> Stop | None:
        """Wait for the launcher's order to stop; None when none came within `LISTEN_S`. For one thread at a time."""
        if self._early_stop is not None:
            return self._early_stop
        try:
            messages = self._read_messages(LISTEN_S)
        except OSError:
            # Closed, by us at the end, or with its device.
            time.sleep(LISTEN_S)
            return None
        return next((message for message in messages if isinstance(message, Stop)), None)

    def _read_messages(self, timeout_s: float) -> list[Welcome | Stop]:
        messages = []
        for line in self._read_lines(timeout_s):
            try:
                messages.append(_decoder.decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
        return messages

    def _read_lines(self, timeout_s: float) -> list[bytes]:
        if not self._wait(select.POLLIN, timeout_s):
            return []
        try:
            chunk = os.read(self._descriptor, MAX_LINE_BYTES)
        except BlockingIOError:
            return []
        self._incoming += chunk
        *lines, rest = bytes(self._incoming).split(b"\n")
        self._incoming = bytearray(rest if len(rest) <= MAX_LINE_BYTES else b"")
        return lines

    def _send(self, message: Hello | Log) -> bool:
        line = msgspec.json.encode(message) + b"\n"
        # Ends the piece of a line that an earlier, given up write left behind.
        waiting = memoryview(b"\n" + line if self._is_mid_line else line)
        total_bytes = len(waiting)
        deadline_s = time.monotonic() + WRITE_TIMEOUT_S
        while waiting and (left_s := deadline_s - time.monotonic()) > 0:
            if not self._wait(select.POLLOUT, left_s):
                continue
            try:
                waiting = waiting[os.write(self._descriptor, waiting) :]
            except BlockingIOError:
                continue
        self._is_mid_line = 0 < len(waiting) < total_bytes or (self._is_mid_line and bool(waiting))
        return not waiting

    def _wait(self, event: int, timeout_s: float) -> bool:
        """Wait for the event at most so long; a hang-up is a short pause, because the kernel reports it at once."""
        poller = select.poll()
        poller.register(self._descriptor, event)
        ready = poller.poll(max(timeout_s, 0.0) * 1000)
        if any(events & event for _, events in ready):
            return True
        if ready:
            time.sleep(min(LOOK_INTERVAL_S, max(timeout_s, 0.0)))
        return False
