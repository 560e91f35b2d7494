"""A broker of several processes on one port: real ones, seen from outside."""

import asyncio
import base64
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from broker import workers as pool
from broker.app import running_broker
from broker.listening import CannotServe, bound_sockets
from broker.settings import Address, BadSettings, load_settings
from broker.store import Store
from tests.support.api import Answer, Api, add_stream, digest_of, offer
from tests.support.grid import Broker, Home, free_port
from tests.support.launching import short_folder
from tests.support.waiting import until, wait_until
from tests.support.workers import Parked, bound_to, children_of, is_alive, parked_at_all, workers_of

TUS = {"Tus-Resumable": "1.0.0"}
PIECE_BYTES = 300_000


@dataclass(frozen=True)
class Tree:
    """A broker with two workers."""

    broker: Broker
    process: "subprocess.Popen[bytes]"

    @property
    def store(self) -> str:
        return f"unix://{self.broker.data / 'store' / 'store.sock'}"

    def workers(self) -> list[int]:
        return workers_of(self.process.pid)


@contextmanager
def grown() -> Iterator[Tree]:
    with short_folder("vw-") as folder:
        broker = Broker(Home(folder), free_port(), ("--workers", "2"))
        with broker.serving() as process:
            yield Tree(broker, process)


@pytest.fixture(scope="module")
def tree() -> Iterator[Tree]:
    with grown() as tree:
        yield tree


class Calls:
    """Calls to one worker each, over as many connections as a test asks for."""

    def __init__(self, tree: Tree, stack: AsyncExitStack) -> None:
        self._tree = tree
        self._stack = stack

    async def user(self, worker: int) -> Api:
        return await self._bound(worker, "login")

    async def launcher(self, worker: int) -> Api:
        return await self._bound(worker, "launcher")

    async def _bound(self, worker: int, whose: str) -> Api:
        broker = self._tree.broker
        return await self._stack.enter_async_context(bound_to(worker, broker.url, broker.token(whose)))


@pytest.fixture
async def calls(tree: Tree) -> AsyncIterator[Calls]:
    async with AsyncExitStack() as stack:
        yield Calls(tree, stack)


@pytest.fixture
async def parked(tree: Tree) -> AsyncIterator[Parked]:
    async with parked_at_all(tree.store) as parked:
        yield parked


def waiting(launcher: Api, name: str, wait_ms: int = 30_000, **room: Any) -> asyncio.Task[Answer]:
    asked = launcher.call("POST", "/v1/dispatch", json=offer(wait_ms=wait_ms, launcher=name, **room))
    return asyncio.create_task(asked)


async def test_each_process_answers_those_that_came_to_it(tree: Tree, calls: Calls) -> None:
    first, second = tree.workers()
    for worker in (first, second, first):
        assert await (await calls.user(worker)).ok("GET", "/readyz") == {"status": "ready"}


async def test_one_item_wakes_one_launcher_wherever_it_waits(tree: Tree, calls: Calls, parked: Parked) -> None:
    first, second = tree.workers()
    user = await calls.user(first)
    stream = await add_stream(user, "wake")
    await prove(user, await calls.launcher(first), stream)
    tasks = {
        name: waiting(await calls.launcher(worker), name)
        for name, worker in (("a1", first), ("a2", first), ("b1", second), ("b2", second))
    }
    await parked.are(*tasks)

    given: list[str] = []
    while tasks:
        await user.ok("POST", f"{stream}/items", json=[{}])
        done, _ = await asyncio.wait(tasks.values(), timeout=5, return_when=asyncio.FIRST_COMPLETED)
        [name] = [name for name, task in tasks.items() if task in done]
        given.append((await tasks.pop(name)).json["item"])
        await parked.are(*tasks)
    assert len(set(given)) == 4
    for item in given:
        await cancel(user, item)


async def test_what_no_launcher_has_room_for_is_told_of_all_of_them_by_each_process(
    tree: Tree, calls: Calls, parked: Parked
) -> None:
    first, second = tree.workers()
    users = [await calls.user(worker) for worker in (first, second)]
    stream = await add_stream(users[0], "large", needs={"vcpus": 64})
    await users[0].ok("POST", f"{stream}/items", json=[{}])
    tasks = [
        waiting(await calls.launcher(worker), name, 4_000) for name, worker in (("why-a", first), ("why-b", second))
    ]
    await parked.are("why-a", "why-b")

    told = [(await user.ok("GET", f"{stream}/items/1"))["waits"] for user in users]
    assert {each["code"] for each in told} == {"needs_unmet"}
    assert told[0] == told[1], "each knows what the other one was offered"
    assert "wants 64 vcpus" in told[0]["sentence"]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_follower_at_one_process_sees_what_comes_through_the_other(tree: Tree, calls: Calls) -> None:
    first, second = tree.workers()
    user = await calls.user(second)
    stream = await add_stream(user, "seen", needs={"vcpus": 64})
    follower = await calls.user(first)
    async with asyncio.timeout(10), follower.stream(f"{stream}/events") as answer:
        assert (await answer.content.readline()).startswith(b"retry:")
        for number in (1, 2, 3):
            await user.ok("POST", f"{stream}/items", json=[{}])
            event = await next_event(answer.content)
            assert int(event["sequence"]) == number


async def test_of_the_same_file_created_through_both_at_once_one_wins(tree: Tree, calls: Calls) -> None:
    users = [await calls.user(worker) for worker in tree.workers()]
    for number in range(20):
        answers = await asyncio.gather(
            *(
                user.call("PUT", f"/v1/files/alice/one-{number}", data=b"%d" % place, headers={"If-None-Match": "*"})
                for place, user in enumerate(users)
            )
        )
        assert sorted(answer.status for answer in answers) == [201, 409], number
        winner = b"0" if answers[0].status == 201 else b"1"
        for user in users:
            assert (await user.call("GET", f"/v1/files/alice/one-{number}")).body == winner


async def test_the_same_upload_through_both_at_once_comes_whole(tree: Tree, calls: Calls) -> None:
    async def both() -> list[Api]:
        """Connect anew: who is refused before the body was read finds the connection closed."""
        return [await calls.user(worker) for worker in tree.workers()]

    for number in range(2):
        image = os.urandom(1_000_000) + bytes([number])
        begun = await asyncio.gather(*(begin(user, image) for user in await both()))
        assert begun[0] == begun[1], "both go on with one upload"
        offset = 0
        while offset < len(image):
            answers = await asyncio.gather(*(append(user, begun[0], image, offset) for user in await both()))
            assert {answer.status for answer in answers} <= {204, 409, 423}, answers
            before, offset = offset, await stands_at((await both())[offset % 2], begun[0])
            assert offset == min(before + PIECE_BYTES, len(image)), "one of them added its piece, once"
        for user in await both():
            assert digest_of(image) in [each["digest"] for each in await user.ok("GET", "/v1/images")]
            assert (await user.call("GET", f"/v1/images/{digest_of(image)}")).body == image


async def test_a_killed_worker_is_replaced_while_the_other_goes_on(tree: Tree, calls: Calls, parked: Parked) -> None:
    dying, other = tree.workers()
    user = await calls.user(other)
    stream = await add_stream(user, "lives")
    await prove(user, await calls.launcher(other), stream)
    task = waiting(await calls.launcher(other), "lives")
    await parked.are("lives")

    os.kill(dying, signal.SIGKILL)
    wait_until(lambda: not is_alive(dying), "the worker is dead")
    # Each of these is a new connection: about half of them wait for the new worker, and none is lost.
    healths = await asyncio.gather(*(asyncio.to_thread(tree.broker.call, "GET", "/healthz") for _ in range(16)))
    assert healths == [{"status": "ok"}] * 16

    await user.ok("POST", f"{stream}/items", json=[{}])
    assert (await task).status == 200
    wait_until(lambda: len(tree.workers()) == 2, "there is another worker")
    [new] = set(tree.workers()) - {other}
    assert await (await calls.user(new)).ok("GET", "/readyz") == {"status": "ready"}


async def test_the_clock_goes_on_while_a_worker_hangs(tree: Tree) -> None:
    store = await Store.connect(tree.store)
    hanging = tree.workers()[0]
    os.kill(hanging, signal.SIGSTOP)
    try:
        seen: set[str] = set()

        async def ticks() -> bool:
            seen.add(await store._server.command("HGET", store._keys.clock, "ticked_ms"))
            return len(seen) == 3

        await until(ticks, "the clock ticks")
    finally:
        os.kill(hanging, signal.SIGCONT)
        await store.close()


async def test_a_stop_lets_those_who_wait_at_every_process_go() -> None:
    with grown() as tree:
        children = children_of(tree.process.pid)
        assert {os.getsid(worker) for worker in tree.workers()}.isdisjoint({os.getsid(tree.process.pid)}), (
            "a Ctrl-C at the terminal is the parent's alone"
        )
        async with AsyncExitStack() as stack, parked_at_all(tree.store) as parked:
            calls = Calls(tree, stack)
            tasks = [waiting(await calls.launcher(worker), f"l{worker}") for worker in tree.workers()]
            await parked.are(*(f"l{worker}" for worker in tree.workers()))
            tree.process.send_signal(signal.SIGINT)
            for worker in tree.workers():
                os.kill(worker, signal.SIGTERM)  # as a service manager does, and then the parent does, too
            assert [(await task).status for task in tasks] == [204, 204]
        assert await asyncio.to_thread(tree.process.wait, 30) == 0
        assert not any(map(is_alive, children))


def test_a_killed_parent_leaves_neither_workers_nor_store() -> None:
    with grown() as tree:
        children = children_of(tree.process.pid)
        assert len(children) == 4, "two workers, the store, RQ's Redis"
        tree.process.kill()
        tree.process.wait()
        wait_until(lambda: not any(map(is_alive, children)), "no process is left", timeout_s=20)


async def test_a_worker_that_dies_again_and_again_ends_the_broker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(pool, "MOST_DEATHS", 2)
    settings = load_settings({"data": tmp_path / "data", "listen": "127.0.0.1:0", "user": "alice", "workers": 2})
    others = set(workers_of(os.getpid()))

    def own() -> set[int]:
        return set(workers_of(os.getpid())) - others

    async def kill_one_and_its_successor() -> None:
        victim, other = own()
        os.kill(victim, signal.SIGKILL)

        async def is_replaced() -> bool:
            found = own()
            return len(found) == 2 and victim not in found

        await until(is_replaced, "there is another worker")
        [again] = own() - {other}
        os.kill(again, signal.SIGKILL)
        await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as caught:
        async with running_broker(settings):
            await kill_one_and_its_successor()
    assert caught.group_contains(CannotServe, match="died 2 times in a row")
    assert own() == set()


def test_why_a_worker_cannot_serve_is_told_in_one_sentence() -> None:
    with short_folder("vw-") as folder:
        (folder / "cert.pem").write_text("no certificate")
        pem = str(folder / "cert.pem")
        command = ("broker", "serve", "--listen", "127.0.0.1:0", "--user", "alice", "--workers", "2")
        said = Home(folder).run(*command, "--tls-cert", pem, "--tls-key", pem)
        assert said.status == 1
        assert said.err.strip().splitlines()[-1].startswith(f"broker: the certificate {pem} and its key cannot be used")
        assert "Traceback" not in said.err


def test_a_port_is_shared_with_no_other_broker() -> None:
    sockets = bound_sockets(Address("127.0.0.1", 0), 3)
    try:
        ports = [each.getsockname()[1] for each in sockets]
        assert len(sockets) == 3
        assert all(one == other for one, other in pairwise(ports))
        sockets[0].listen()
        for count in (1, 2):
            with pytest.raises(CannotServe, match="Address already in use; choose another --listen"):
                bound_sockets(Address("127.0.0.1", ports[0]), count)
    finally:
        for each in sockets:
            each.close()


@pytest.mark.parametrize("count", [0, 65])
def test_the_number_of_workers_is_bounded(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(BadSettings, match=r"^workers: "):
        load_settings({"user": "alice", "workers": count})


async def prove(user: Api, launcher: Api, stream: str) -> None:
    """Let a vm of the stream claim, so that no canary holds its items back."""
    await user.ok("POST", f"{stream}/items", json=[{}])
    dispatched = await launcher.ok("POST", "/v1/dispatch", json=offer())
    await launcher.ok("POST", "/v1/claim", json={"ticket": dispatched["ticket"], "claim_key": "A" * 43 + "="})
    await cancel(user, dispatched["item"])


async def cancel(user: Api, item: str) -> None:
    """End an item that no vm works on, before it goes to another test's launcher."""
    stream, _, number = item.rpartition("/")
    await user.ok("POST", f"/v1/streams/{stream}/items/{number}/cancel")


async def next_event(content: Any) -> dict[str, Any]:
    while not (line := await content.readline()).startswith(b"data:"):
        assert line, "the stream of events ended"
    return dict(json.loads(line.removeprefix(b"data:")))


async def begin(user: Api, image: bytes) -> str:
    metadata = f"digest {base64_of(digest_of(image))},resume"
    headers = {**TUS, "Upload-Length": str(len(image)), "Upload-Metadata": metadata}
    answer = await user.call("POST", "/v1/uploads", headers=headers)
    assert answer.status == 201, answer
    return str(answer.headers["Location"])


async def append(user: Api, upload: str, image: bytes, offset: int) -> Answer:
    headers = {**TUS, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
    return await user.call("PATCH", upload, data=image[offset : offset + PIECE_BYTES], headers=headers)


async def stands_at(user: Api, upload: str) -> int:
    return int((await user.call("HEAD", upload, headers=TUS)).headers["Upload-Offset"])


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
