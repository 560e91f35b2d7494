"""2 GiB into a vm and 2 GiB out of it, bit for bit, while no process on their way keeps more than a little of them.

The vm has no disk to speak of: its files are in its memory, which is what makes this quick without KVM. For the same
reason the program moves its input to its output. What the client keeps of them is told by the client itself.
"""

import hashlib
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.grid import Broker
from tests.support.waiting import wait_until
from tests.vm.conftest import Grid

pytestmark = [pytest.mark.vm, pytest.mark.large]

MIB = 1 << 20
SIZE_MIB = 2_048
GROWTH_BYTES = 64 * MIB
"""What a process may keep more than when nothing moved: buffers, not files."""
CLIENT_BYTES = 96 * MIB
"""What the client may have in all, its interpreter included."""
SETTLED_S = 900
BLOCK = hashlib.shake_128(b"two GiB").digest(MIB)
MEMORY_MIB = 4_608
"""/tmp may fill half of it; what is never filled costs the node nothing."""
PROGRAM = """#!/bin/sh
mv "$1" "$2/moved"
"""


@pytest.mark.timeout(SETTLED_S + 120)
def test_two_gib_go_in_and_out_bit_exact_while_memory_stays_flat(grid: Grid, minimal_image: Path) -> None:
    broker = grid.broker
    pids = {"broker": _broker_pid(broker), "launcher": _launcher_pid(grid)}
    grid.add_machine("roomy", minimal_image)
    spec = {
        "machine": "roomy",
        "script": PROGRAM,
        "run": "{script} {input} {output}",
        "needs": {"vcpus": 2, "memory_mib": MEMORY_MIB},
        "retry": {"attempts": 1, "boots": 1},
    }
    broker.call("PUT", "/v1/streams/alice/two-gib", spec, token=broker.token())
    idle_bytes = {name: _forget_peak(pid) for name, pid in pids.items()}

    digest = _put(broker, "/v1/files/alice/two-gib.bin")
    grid.push("two-gib", "file:alice/two-gib.bin")
    [item] = grid.settled("two-gib", timeout_s=SETTLED_S)

    assert item["state"] == "done", grid.story("two-gib/1")
    [output] = item["outputs"]
    assert (output["size_bytes"], output["digest"]) == (SIZE_MIB * MIB, f"sha256:{digest}")
    assert _digest_of(broker, f"/v1/files/{output['url'].removeprefix('file:')}") == digest
    for name, pid in pids.items():
        assert _peak_bytes(pid) - idle_bytes[name] < GROWTH_BYTES, name
    assert 0 < int(item["vm"]["facts"]["client_peak_rss_bytes"]) < CLIENT_BYTES


def _blocks() -> Iterator[bytes]:
    """2 GiB of which no two blocks are alike, and none can be compressed."""
    for number in range(SIZE_MIB):
        yield number.to_bytes(8, "big") + BLOCK[8:]


def _put(broker: Broker, path: str) -> str:
    """Upload them to the file service from nowhere; return their digest."""
    hasher = hashlib.sha256()

    def hashed() -> Iterator[bytes]:
        for block in _blocks():
            hasher.update(block)
            yield block

    headers = {"Authorization": f"Bearer {broker.token()}", "Content-Length": str(SIZE_MIB * MIB)}
    connection = _connection(broker)
    connection.request("PUT", path, body=hashed(), headers=headers)
    answer = connection.getresponse()
    assert answer.status == 201, answer.read()
    connection.close()
    return hasher.hexdigest()


def _digest_of(broker: Broker, path: str) -> str:
    connection = _connection(broker)
    connection.request("GET", path, headers={"Authorization": f"Bearer {broker.token()}"})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    hasher = hashlib.sha256()
    while chunk := answer.read(MIB):
        hasher.update(chunk)
    connection.close()
    return hasher.hexdigest()


def _connection(broker: Broker) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(broker.url).netloc, timeout=120)


def _broker_pid(broker: Broker) -> int:
    return int(json.loads((broker.home.folder / "ready").read_text())["pid"])


def _launcher_pid(grid: Grid) -> int:
    """Return the launcher's process, once it offers room: the first that was started with its scratch folder."""
    wait_until(lambda: "launcher_started" in grid.launcher_log.read_text(), "the launcher has started", timeout_s=120)
    named = f"\0run\0--scratch\0{grid.launcher_log.parent / 'n'}\0".encode()
    return min(int(file.parent.name) for file in Path("/proc").glob("[0-9]*/cmdline") if named in _read(file))


def _forget_peak(pid: int) -> int:
    """Let the process's peak begin anew; return what it has now. Source: proc(5), clear_refs."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return _peak_bytes(pid)


def _peak_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0]) * 1_024
    raise AssertionError(f"process {pid} tells no peak of its memory")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
