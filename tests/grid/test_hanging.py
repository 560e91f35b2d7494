"""Daemons that accept and never answer: the event loop goes on, and the call ends at its deadline."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.batch.condor_process import CondorProcess
from launcher.batch.errors import Away, Refused

pytestmark = [pytest.mark.grid, pytest.mark.timeout(120)]

_CONFIG = """\
CONDOR_HOST = 127.0.0.1
COLLECTOR_HOST = 127.0.0.1:{port}
NETWORK_INTERFACE = 127.0.0.1
ENABLE_IPV6 = False
NO_DNS = True
DEFAULT_DOMAIN_NAME = pool.test
LOCAL_CONFIG_DIR =
LOCAL_CONFIG_FILE =
USER_CONFIG_FILE =
SEC_KNOWN_HOSTS = {folder}/known_hosts
SEC_SYSTEM_KNOWN_HOSTS = {folder}/known_hosts
SEC_TOKEN_DIRECTORY = {folder}/tokens
QUERY_TIMEOUT = 60
"""
LIMIT_S = 3.0
TICK_S = 0.02


@pytest.fixture
def silent_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A pool whose every daemon is one socket that takes connections and says nothing."""
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        config = tmp_path / "condor.conf"
        config.write_text(_CONFIG.format(port=server.getsockname()[1], folder=tmp_path))
        monkeypatch.setenv("CONDOR_CONFIG", str(config))
        yield
        server.shutdown(socket.SHUT_RDWR)
    for connection in held:
        connection.close()


async def test_a_call_to_a_daemon_that_hangs_ends_at_its_deadline_and_the_loop_goes_on(silent_pool: None) -> None:
    calls = CondorProcess()
    stalls: list[float] = []

    async def tick() -> None:
        while True:
            begun_s = time.monotonic()
            await asyncio.sleep(TICK_S)
            stalls.append(time.monotonic() - begun_s)

    ticking = asyncio.create_task(tick())
    try:
        with pytest.raises(Refused, match="/nowhere"):
            await calls.call("events", LIMIT_S, path="/nowhere")
        begun_s = time.monotonic()
        with pytest.raises(Away, match=r"no answer to `query` within 3 s"):
            await calls.call("query", LIMIT_S, constraint="true", attributes=["ClusterId"], limit=1)
        took_s = time.monotonic() - begun_s
    finally:
        ticking.cancel()
        await calls.aclose()
    assert LIMIT_S <= took_s < LIMIT_S + 2
    assert len(stalls) > LIMIT_S / TICK_S / 2, "the loop went on all the time"


async def test_the_worker_is_gone_after_a_call_that_was_cut_and_the_next_one_begins_anew(silent_pool: None) -> None:
    calls = CondorProcess()
    try:
        for starts in (1, 2):
            with pytest.raises(Away):
                async with asyncio.timeout(30):
                    await calls.call("query", 0.5, constraint="true", attributes=["ClusterId"], limit=1)
            assert calls.starts == starts
            assert calls._process is None
    finally:
        await calls.aclose()
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert not [pid for pid in children if b"condor_worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
