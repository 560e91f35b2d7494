"""One run: a broker with its store, launchers, guests and researchers as processes, and a saboteur among them."""

import contextlib
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from broker.client.dispatch import DispatchClient
from broker.client.events import read
from broker.client.files import Files, read_content
from broker.client.researcher import Researcher
from broker.client.session import Session
from broker.store import Store
from broker.wire.dispatches import DispatchRequest, Room
from broker.wire.events import Event
from broker.wire.machines import Disk, MachineDefinition
from broker.wire.names import MachineRef, StreamRef, UserName
from broker.wire.states import SETTLED, Accelerator
from tests.fault import plan
from tests.fault.evidence import Evidence, StreamEvidence
from tests.fault.history import History, read_histories
from tests.fault.jobs import MARK_VARIABLE, PATIENCE, Place
from tests.fault.keys_left import keys_left
from tests.fault.parties import BrokerProcess, Parties, Worker, processes_of
from tests.fault.saboteur import Saboteur
from tests.fault.way import Way
from tests.support.api import XML
from tests.support.grid import Broker, Home, free_port
from tests.support.ordinary_account import end_all
from tests.support.waiting import until

_USER: Final = UserName("alice")
_MACHINE: Final = MachineRef(_USER, "m")
_STREAMS: Final = tuple(StreamRef(_USER, name) for name in plan.STREAMS)
_SETTLE_S: Final = 120.0
_END_S: Final = 60.0
_SETTINGS: Final = {
    "VMBROKER_BROKER_HEARTBEAT_S": str(plan.HEARTBEAT_S),
    "VMBROKER_BROKER_LEASE_S": str(plan.LEASE_S),
    "VMBROKER_BROKER_LAUNCHER_GRACE_S": str(plan.GRACE_S),
}


async def run(seed: int, seconds: float, histories: Path) -> Evidence:
    """Let everything run for so long while the saboteur does what the seed plans; return what is there in the end.

    No process and no folder of the run is left but `histories`, whatever happens.
    """
    mark = secrets.token_hex(8)
    folder = Path(tempfile.mkdtemp(prefix="vf-"))
    broker = Broker(Home(folder, {**_SETTINGS, MARK_VARIABLE: mark}), free_port())
    try:
        async with _parties(broker, seed, histories, mark) as parties:
            await Saboteur(parties, History(histories, "saboteur")).work(seed, seconds)
            await _come_to_rest(parties, broker)
            return await _evidence(broker, histories)
    finally:
        end_all(lambda: processes_of(mark), "the run's processes")
        shutil.rmtree(folder)


@asynccontextmanager
async def _parties(broker: Broker, seed: int, histories: Path, mark: str) -> AsyncIterator[Parties]:
    process, way = BrokerProcess(broker), Way(broker.url, seed, History(histories, "way"))
    await process.start()
    try:
        await _set_up(broker)
        async with way.running():
            place = Place(histories=str(histories), who="", url=way.url, seed=seed, token=broker.token())
            researchers = [Worker("researcher", number, place, broker) for number in range(plan.RESEARCHERS)]
            place = Place(histories=str(histories), who="", url=way.url, seed=seed, token=broker.token("launcher"))
            launchers = [Worker("launcher", number, place, broker) for number in range(plan.LAUNCHERS)]
            for worker in (*researchers, *launchers):
                await worker.start()
            yield Parties(process, way, launchers, researchers, mark)
    finally:
        await process.stop()


async def _set_up(broker: Broker) -> None:
    """Give the user a machine and the streams over it."""
    image = broker.home.folder / "image"
    image.write_bytes(b"the bytes of an image")
    content = await read_content(image)
    disk = Disk(digest=content.digest, size_bytes=content.size_bytes, format="raw")
    async with Session(broker.url, token=broker.token()) as session:
        await Files(session).put_image(image, content)
        researcher = Researcher(session)
        await researcher.put_machine(_MACHINE, MachineDefinition(domain_xml=XML, disks={"vda": disk}))
        for stream in _STREAMS:
            await researcher.put_stream(stream, plan.spec())


async def _come_to_rest(parties: Parties, broker: Broker) -> None:
    """Let everything that was begun come to its end, undisturbed."""
    await parties.way.calm()
    for worker in parties.researchers:
        await worker.finish()
    async with Session(broker.url, token=broker.token(), patience=PATIENCE) as session:
        researcher = Researcher(session)

        async def are_settled() -> bool:
            counts = [(await researcher.stream(stream)).counts for stream in _STREAMS]
            return all(not number for count in counts for state, number in count.items() if state not in SETTLED)

        # What is not settled by then the checker names, with all else that is wrong.
        with contextlib.suppress(AssertionError):
            await until(are_settled, "every item is settled", timeout_s=_SETTLE_S, poll_s=0.5)
    for worker in parties.launchers:
        await worker.finish()

    async def are_gone() -> bool:
        return not processes_of(parties.mark, "guest")

    await until(are_gone, "every guest has ended", timeout_s=_END_S, poll_s=0.2)
    await _ask_once_more(broker)


async def _ask_once_more(broker: Broker) -> None:
    """Offer room: nothing should be given, and what is stale in the lists of ready items goes."""
    room = Room(vcpus=64, memory_mib=65_536, disk_mib=1_000_000, accelerator=Accelerator.TCG)
    request = DispatchRequest(dispatch_key=secrets.token_hex(16), launcher="last", node="n", room=room, wait_ms=0)
    async with Session(broker.url, token=broker.token("launcher"), patience=PATIENCE) as session:
        await DispatchClient(session).dispatch(request)


async def _evidence(broker: Broker, histories: Path) -> Evidence:
    async with Session(broker.url, token=broker.token(), patience=PATIENCE) as session:
        researcher = Researcher(session)
        streams = [
            StreamEvidence(
                stream=str(stream),
                counts=(await researcher.stream(stream)).counts,
                items=[item async for item in researcher.items(stream)],
                events=[event async for event in read(session, stream) if isinstance(event, Event)],
                results=[result async for result in researcher.results(stream)],
            )
            for stream in _STREAMS
        ]
    store = await Store.connect(f"unix://{broker.data}/store/store.sock")
    try:
        keys = await keys_left(store)
    finally:
        await store.close()
    return Evidence(
        calls=read_histories(histories),
        streams=streams,
        keys=keys,
        retry=plan.RETRY,
        lease_ms=plan.LEASE_S * 1_000,
    )
