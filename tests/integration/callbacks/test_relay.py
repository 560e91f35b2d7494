"""From the outbox by RQ to a server: whoever dies on the way, every event arrives, and each under one `webhook-id`."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from rq import Queue

from broker.auth.keys import BrokerKeys, load_keys
from broker.callbacks.queue import CallbackQueue, connect, queue_over
from broker.callbacks.relay import Relay
from broker.callbacks.working import CallbackDuties
from broker.domain.errors import Unavailable
from broker.domain.limits import default
from broker.domain.turns import Turns
from broker.store import EmbeddedStore, Store
from broker.wire.callbacks import Callback, CallbackState
from broker.wire.names import ItemRef, OwnedName, StreamRef, UserName
from broker.wire.secrets import SecretKind
from tests.integration.callbacks.conftest import OWED, new_key
from tests.integration.store.scene import SPEC, Scene
from tests.support.authority import Authority
from tests.support.grid import Broker, Home, free_port
from tests.support.receivers import Receiver, never
from tests.support.stores import PREFIX, age, short_folder
from tests.support.waiting import until
from tests.support.workers import children_of, is_alive

ALICE, BOB = UserName("alice"), UserName("bob")
LONGER_THAN_AN_ATTEMPT_MS = 120_000
EVENTS = 40


class Gate:
    """What a receiver answers: nothing until it is open."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.waiting = 0

    async def __call__(self, _: web.Request) -> web.StreamResponse:
        self.waiting += 1
        await self.opened.wait()
        return web.Response(status=204)


@dataclass
class Ground:
    """Everything between an outbox and a receiver, each in a process of its own, but for two relays that take turns."""

    kept: EmbeddedStore
    forgetful: EmbeddedStore
    store: Store
    keys: BrokerKeys
    receiver: Receiver
    duties: CallbackDuties
    workers: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def start_worker(self) -> "subprocess.Popen[bytes]":
        worker = subprocess.Popen([sys.executable, "-m", "broker.callbacks.working"], stdin=subprocess.PIPE)
        assert worker.stdin is not None
        worker.stdin.write(msgspec.json.encode(self.duties))
        worker.stdin.close()
        self.workers.append(worker)
        return worker

    async def owe(self, number: int, user: UserName = ALICE) -> None:
        await owe(self.store, self.keys, self.receiver, number, user)

    async def all_delivered(self, number: int, user: UserName = ALICE) -> None:
        await all_delivered(self.store, number, user)

    def told(self) -> Counter[str]:
        return told(self.receiver)


async def owe(store: Store, keys: BrokerKeys, receiver: Receiver, number: int, user: UserName = ALICE) -> None:
    """Let the receiver be owed `number` events of a stream of the user's."""
    ref = StreamRef(user, "render")

    def seal(version: int) -> str:
        return keys.sealing.seal(new_key().encode(), user, "hook", str(version))

    await store.put_secret(OwnedName(user, "hook"), SecretKind.WEBHOOK_KEY, 50, seal)
    callback = Callback(url=f"{receiver.url}/{user}", secrets=("hook",))
    await Scene(store).set_up(msgspec.structs.replace(SPEC, callback=callback), number, ref)
    for item in range(1, number + 1):
        await store.cancel(ItemRef(ref, item), user)


async def all_delivered(store: Store, number: int, user: UserName = ALICE) -> None:
    async def are_delivered() -> bool:
        counts = (await store.list_callbacks(user, None, None, 1)).counts
        return counts[CallbackState.DELIVERED] == number

    await until(are_delivered, f"{number} callbacks of {user} are delivered", timeout_s=30)


def told(receiver: Receiver) -> Counter[str]:
    """Return how often each `webhook-id` was told."""
    return Counter(each.headers["webhook-id"] for each in receiver.told)


@pytest.mark.parametrize(
    "left",
    [
        {"last_heartbeat": "2026-11-28T12:00:00.000000Z"},
        {"status": "nonsense", "created_at": "yesterday", "data": "no job", "enqueued_at": "soon"},
    ],
)
async def test_what_is_left_of_a_job_that_ended_meanwhile_keeps_no_event_back(left: dict[str, str]) -> None:
    with short_folder("cb") as folder:
        async with EmbeddedStore(folder / "rq", is_durable=False) as forgetful:
            queue, connection = CallbackQueue(forgetful.url), connect(forgetful.url)
            connection.hset(f"rq:job:{OWED.id}", items=[part for pair in left.items() for part in pair])
            queue.put([OWED])
            assert queue_over(connection).job_ids == [OWED.id]
            assert queue_over(connection).fetch_job(OWED.id) is not None
            queue.close()
            connection.close()


@pytest.fixture
async def ground(receiver: Receiver, authority: Authority, tmp_path: Path) -> AsyncIterator[Ground]:
    ca = tmp_path / "ca.pem"
    ca.write_text(authority.ca_pem)
    with short_folder("cb") as folder:
        async with AsyncExitStack() as stack:
            kept = await stack.enter_async_context(EmbeddedStore(folder / "store"))
            forgetful = await stack.enter_async_context(EmbeddedStore(folder / "rq", is_durable=False))
            store = await Store.connect(kept.url, prefix=PREFIX)
            stack.push_async_callback(store.close)
            duties = CallbackDuties(
                store=kept.url,
                queue=forgetful.url,
                data=str(tmp_path),
                log_format="text",
                log_level="warning",
                outgoing_trusted=(str(receiver.origin),),
                outgoing_ca=str(ca),
                parent=os.getpid(),
            )
            ground = Ground(kept, forgetful, store, load_keys(tmp_path / "keys"), receiver, duties)
            queue = CallbackQueue(forgetful.url)
            stack.callback(queue.close)
            relays = {asyncio.create_task(Relay(store, queue).run(Turns(place, 2))) for place in (0, 1)}
            try:
                yield ground
            finally:
                for relay in relays:
                    relay.cancel()
                await asyncio.wait(relays)
                for worker in ground.workers:
                    worker.kill()
                    worker.wait()


async def _is(value: bool) -> bool:
    return value


async def test_every_event_is_told_once_and_rq_keeps_nothing_of_it(ground: Ground) -> None:
    ground.start_worker()
    await ground.owe(EVENTS)
    await ground.all_delivered(EVENTS)
    assert list(ground.told().values()) == [1] * EVENTS
    with queue_of(ground) as queue:

        async def is_empty() -> bool:
            return not queue.connection.keys("rq:job:*") and not queue.started_job_registry.get_job_and_execution_ids()

        await until(is_empty, "RQ has done its bookkeeping")


@contextmanager
def queue_of(ground: Ground) -> Iterator[Queue]:
    connection = connect(ground.forgetful.url)
    try:
        yield queue_over(connection)
    finally:
        connection.close()


async def _kill_worker(ground: Ground) -> None:
    ground.workers[0].kill()
    ground.workers[0].wait()
    ground.start_worker()


async def _kill_queue(ground: Ground) -> None:
    pid = ground.forgetful.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


async def _kill_store(ground: Ground) -> None:
    pid = ground.kept.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("kill", [_kill_worker, _kill_queue, _kill_store])
async def test_kill_in_mid_delivery_loses_no_event(ground: Ground, kill: Callable[[Ground], Awaitable[None]]) -> None:
    gate = Gate()
    ground.receiver.answer = gate
    ground.start_worker()
    await ground.owe(EVENTS)
    await until(lambda: _is(gate.waiting >= EVENTS // 2), "the receiver is being told")
    await kill(ground)
    gate.opened.set()
    await until(lambda: _answers(ground.store), "the store answers")
    await age(ground.store, LONGER_THAN_AN_ATTEMPT_MS)
    await ground.all_delivered(EVENTS)
    assert len(ground.told()) == EVENTS


async def _answers(store: Store) -> bool:
    try:
        await store.ping()
    except Unavailable:
        return False
    return True


async def test_server_that_hangs_holds_up_its_own_user_alone(ground: Ground) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await never(request) if request.path.endswith("/bob") else web.Response()

    ground.receiver.answer = answer
    ground.start_worker()
    most = default("callbacks_out")
    await ground.owe(most + 20, BOB)
    await until(lambda: _is(len(ground.told()) >= most // 2), "much of bob's is on its way")
    await ground.owe(EVENTS)
    await ground.all_delivered(EVENTS)
    assert len(ground.told()) <= most + EVENTS


async def test_command_that_is_told_to_stop_ends_what_it_tells(ground: Ground, tmp_path: Path) -> None:
    gate = Gate()
    ground.receiver.answer = gate
    home = Home(tmp_path / "home")
    home.extra["VMBROKER_BROKER_OUTGOING_TRUSTED"] = ",".join(ground.duties.outgoing_trusted)
    home.extra["VMBROKER_BROKER_OUTGOING_CA"] = str(ground.duties.outgoing_ca)
    words = ("--store", ground.kept.url, "--callbacks-store", ground.forgetful.url, "--data", ground.duties.data)
    with home.running(tmp_path / "log", "broker", "callbacks", *words) as worker:
        await ground.owe(1)
        await until(lambda: _is(gate.waiting == 1), "the receiver is being told")
        worker.terminate()
        gate.opened.set()
        assert await asyncio.to_thread(worker.wait, 10) == 0, (tmp_path / "log").read_text()
    await ground.all_delivered(1)
    assert list(ground.told().values()) == [1]


def test_command_without_a_store_or_keys_says_what_to_give(tmp_path: Path) -> None:
    home = Home(tmp_path)
    said = home.run("broker", "callbacks")
    assert said.status == 2
    assert "with a store of its own tells callbacks itself; for another one give --store" in said.err
    said = home.run("broker", "callbacks", "--store", "unix:///nowhere", "--data", str(tmp_path / "none"))
    assert said.status == 2
    assert "give --data, the data folder of the broker" in said.err


async def test_job_that_names_another_function_is_not_done(ground: Ground, tmp_path: Path) -> None:
    trace = tmp_path / "made"
    ground.start_worker()
    with queue_of(ground) as queue:
        job = queue.enqueue_call("os.mkdir", args=(str(trace),))
        await until(lambda: asyncio.to_thread(lambda: job.is_failed), "the job has failed")
    assert not trace.exists()


async def test_kill_of_the_broker_in_mid_delivery_loses_no_event(
    receiver: Receiver, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text(authority.ca_pem)
    gate = Gate()
    receiver.answer = gate
    with short_folder("cb") as folder:
        home = Home(folder)
        home.extra["VMBROKER_BROKER_OUTGOING_TRUSTED"] = str(receiver.origin)
        home.extra["VMBROKER_BROKER_OUTGOING_CA"] = str(tmp_path / "ca.pem")
        broker = Broker(home, free_port())
        async with AsyncExitStack() as stack:
            process = await _served(broker, stack)
            store = await _store_of(broker, stack)
            await owe(store, load_keys(broker.data / "keys"), receiver, EVENTS)
            await until(lambda: _is(gate.waiting >= EVENTS // 2), "the receiver is being told", timeout_s=20)
            [first] = _tellers_of(process.pid)
            os.kill(first, signal.SIGKILL)
            await until(lambda: _is(_tellers_of(process.pid) not in ([], [first])), "another tells", timeout_s=20)
            children = children_of(process.pid)
            assert len(children) == 3, "the store, RQ's Redis, and who tells"
            process.kill()
            await until(lambda: _is(not any(map(is_alive, children))), "all of them died with it")
        gate.opened.set()
        async with AsyncExitStack() as stack:
            await _served(broker, stack)
            store = await _store_of(broker, stack)
            await age(store, LONGER_THAN_AN_ATTEMPT_MS)
            await all_delivered(store, EVENTS)
    assert len(told(receiver)) == EVENTS


def _tellers_of(broker: int) -> list[int]:
    return [
        pid for pid in children_of(broker) if b"broker.callbacks.working" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


async def _served(broker: Broker, stack: AsyncExitStack) -> "subprocess.Popen[bytes]":
    """Start the broker, which is stopped at the stack's end; neither holds up the receiver."""
    serving = broker.serving()
    process = await asyncio.to_thread(serving.__enter__)
    stack.push_async_callback(asyncio.to_thread, serving.__exit__, None, None, None)
    return process


async def _store_of(broker: Broker, stack: AsyncExitStack) -> Store:
    store = await Store.connect(f"unix://{broker.data}/store/store.sock", prefix=PREFIX)
    stack.push_async_callback(store.close)
    return store
