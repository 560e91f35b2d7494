import os
import pty
import tty
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from broker.wire.port import MAX_LINE_BYTES, Welcome
from guest.steps import port as port_module
from guest.steps.port import NoPort, NoWelcome, Port, find_port

WELCOME = Welcome(ticket="vt1.x", broker="http://b", now="2026-01-01T00:00:00Z", entropy=b"e" * 32)


@pytest.fixture
def ends() -> Iterator[tuple[int, Port]]:
    """The launcher's descriptor and the guest's port, over a pseudo terminal."""
    master, slave = pty.openpty()
    tty.setraw(master)
    tty.setraw(slave)
    port = Port.open(Path(os.ttyname(slave)))
    yield master, port
    port.close()
    os.close(master)
    os.close(slave)


def test_finds_the_port_by_the_kernels_list_where_there_is_no_udev(tmp_path: Path) -> None:
    devices, ports = tmp_path / "dev", tmp_path / "ports"
    for device, name in {"vport0p1": "com.redhat.spice.0", "vport0p2": "org.vmbroker.0"}.items():
        (ports / device).mkdir(parents=True)
        (ports / device / "name").write_text(f"{name}\n")
        devices.mkdir(exist_ok=True)
        (devices / device).touch()
    assert find_port(0, devices, ports) == devices / "vport0p2"
    (devices / "virtio-ports").mkdir()
    (devices / "virtio-ports" / "org.vmbroker.0").touch()
    assert find_port(0, devices, ports) == devices / "virtio-ports" / "org.vmbroker.0"


def test_a_port_that_does_not_appear_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoPort, match=r"no virtio port org.vmbroker.0"):
        find_port(0, tmp_path, tmp_path)


def test_greets_and_reads_the_welcome_behind_the_rest_of_an_earlier_line(ends: tuple[int, Port]) -> None:
    master, port = ends
    assert port.greet("vmbroker-guest/1")
    assert os.read(master, 100) == b'{"type":"hello","client":"vmbroker-guest/1"}\n'
    os.write(master, b'cket":"old"}\n' + msgspec.json.encode(WELCOME) + b"\n")
    assert port.wait_for_welcome("vmbroker-guest/1", 10) == WELCOME


def test_repeats_its_hello_until_the_deadline(ends: tuple[int, Port], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_module, "REPEAT_HELLO_S", 0.05)
    master, port = ends
    with pytest.raises(NoWelcome):
        port.wait_for_welcome("c", 0.3)
    assert os.read(master, 4096).count(b"hello") >= 2


def test_a_line_without_an_end_is_not_kept(ends: tuple[int, Port]) -> None:
    master, port = ends
    os.set_blocking(master, False)
    for _ in range(64):
        try:
            os.write(master, b"x" * 4096)
        except BlockingIOError:
            port._read_lines(0.1)
    while port._read_lines(0.05):
        pass
    assert len(port._incoming) <= MAX_LINE_BYTES


def test_a_launcher_that_does_not_read_costs_a_log_line_and_not_the_client(
    ends: tuple[int, Port], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(port_module, "WRITE_TIMEOUT_S", 0.05)
    master, port = ends
    for _ in range(20):
        port.log("x" * 10_000)
    os.set_blocking(master, False)
    heard = b""
    while not heard.endswith(b'{"type":"log","text":"at last"}\n'):
        try:
            heard += os.read(master, 65_536)
        except BlockingIOError:
            port.log("at last")
    assert b'\n{"type":"log","text":"at last"}\n' in heard
