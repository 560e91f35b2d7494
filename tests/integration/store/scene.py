"""One researcher, one machine, one stream, and the parties that act on its items."""

from dataclasses import dataclass, field
from itertools import count

import msgspec

from broker.domain.errors import Unavailable
from broker.store import Claimed, Dispatched, Lease, MachineFacts, Store
from broker.wire.dispatches import DispatchRequest, EndVm, Room, VmEnded
from broker.wire.items import ItemView, NewItem, OutputFile, Pushed
from broker.wire.leases import CompleteRequest, FailRequest
from broker.wire.machines import Disk, MachineDefinition
from broker.wire.names import ItemRef, MachineRef, StreamRef, UserName, check_digest, parse_item
from broker.wire.states import Accelerator, FailureCode, ItemState, Phase, Verdict
from broker.wire.streams import StreamSpec

ALICE = UserName("alice")
RENDER = StreamRef(ALICE, "render")
SPEC = StreamSpec(machine="deb12", run="/opt/app/run {input} {output}")
ROOM = Room(vcpus=4, memory_mib=8_192, disk_mib=100_000, accelerator=Accelerator.KVM)
IMAGE = check_digest(f"sha256:{'0' * 64}")
DEFINITION = MachineDefinition(domain_xml="<domain type='kvm'/>", disks={"vda": Disk(digest=IMAGE, size_bytes=1_000)})
FACTS = MachineFacts(vcpus=1, memory_mib=1_024, firmware="bios")
SECOND_MS = 1_000


def secret(seed: str) -> str:
    """Return something of the shape of a hash."""
    return seed.encode().hex().rjust(64, "0")[:64]


def result(content: str = "1") -> CompleteRequest:
    output = OutputFile(name="out.png", size_bytes=3, digest=f"sha256:{content * 64}", url="file:alice/out.png")
    return CompleteRequest(outputs=[output], facts={"run_ms": "1200"})


def failure(exit_code: int | None = 3) -> FailRequest:
    return FailRequest(
        code=FailureCode.PROGRAM_FAILED, sentence=f"the program exited with {exit_code}", exit_code=exit_code
    )


def lease_of(claimed: Claimed) -> Lease:
    return Lease(claimed.item.ref, claimed.fence, secret(claimed.dispatch))


@dataclass
class Scene:
    """A store with a stream in it; each call is one party's act with everything filled in."""

    store: Store
    launcher: str = "node1.example"
    labels: frozenset[str] = frozenset()
    """Of the launcher's token."""
    _keys: "count[int]" = field(default_factory=count)

    async def set_up(self, spec: StreamSpec = SPEC, items: int = 0, ref: StreamRef = RENDER) -> "Scene":
        if await self.store.get_machine(MachineRef(ref.user, "deb12")) is None:
            await self.store.grant_image(ref.user, IMAGE, 1_000)
            await self.store.put_machine(MachineRef(ref.user, "deb12"), DEFINITION, FACTS)
        await self.store.put_stream(ref, spec)
        if items:
            await self.push(items, ref)
        return self

    async def set_machine(self, domain_xml: str, ref: StreamRef = RENDER, facts: MachineFacts = FACTS) -> None:
        """Give the stream's machine other XML: its next revision."""
        definition = msgspec.structs.replace(DEFINITION, domain_xml=domain_xml)
        await self.store.put_machine(MachineRef(ref.user, "deb12"), definition, facts)

    async def prove(self, ref: StreamRef = RENDER) -> None:
        """End the stream's canary as a claim would, without an item's cost."""
        view = await self.store.get_stream(ref)
        assert view is not None
        machine = await self.store.get_machine(MachineRef(ref.user, "deb12"))
        assert machine is not None
        stream = self.store._keys.of_stream(ref).stream
        await self.store._server.command("HSET", stream, f"proven:{view.revision}", machine.revision)

    async def push(self, number: int, ref: StreamRef = RENDER) -> Pushed:
        items = [NewItem(url=f"https://share.example/{index}") for index in range(number)]
        return await self.store.push(ref, items, idempotency_key=None, body_digest="")

    async def push_until_refused(self, number: int) -> tuple[int, Unavailable]:
        """Push so many items at a time until the store refuses; return how many it took, and the refusal."""
        accepted = 0
        while True:
            try:
                accepted += (await self.push(number)).accepted
            except Unavailable as refusal:
                return accepted, refusal

    async def offer(
        self, room: Room = ROOM, key: str | None = None, serves: frozenset[str] | None = None, node: str = "node1"
    ) -> Dispatched | None:
        """Offer room for one vm; `serves` are the users whom the launcher serves, all by default."""
        given = await self.offers(room, None, key, serves, node)
        return given[0] if given else None

    async def offers(
        self,
        room: Room = ROOM,
        most: int | None = None,
        key: str | None = None,
        serves: frozenset[str] | None = None,
        node: str = "node1",
    ) -> list[Dispatched]:
        request = DispatchRequest(
            dispatch_key=key if key is not None else f"key-{next(self._keys)}",
            launcher=self.launcher,
            node=node,
            room=room,
            most=most,
        )
        return await self.store.dispatch(request, lambda user: serves is None or user in serves, labels=self.labels)

    async def dispatched(self, node: str = "node1") -> Dispatched:
        given = await self.offer(node=node)
        assert given is not None
        return given

    async def prepared(self) -> Dispatched:
        given = await self.dispatched()
        await self.store.vm_event(given.dispatch, self.launcher, Phase.PREPARING, {})
        return given

    async def claim(self, given: Dispatched, claim_key: str = "guest") -> Claimed:
        return await self.store.claim(
            given.dispatch,
            claim_key_hash=secret(claim_key),
            nonce_hash=secret(given.dispatch),
            guest_os="Debian GNU/Linux 12",
            client="0.1.0",
        )

    async def claimed(self) -> Claimed:
        return await self.claim(await self.prepared())

    async def running(self) -> Lease:
        return lease_of(await self.claimed())

    async def end(self, given: Dispatched, verdict: Verdict, sentence: str = "it ended") -> VmEnded:
        return await self.store.end(
            given.dispatch,
            self.launcher,
            EndVm(launcher=self.launcher, verdict=verdict, sentence=sentence),
            has_console=True,
        )

    async def hear(self) -> None:
        """Let the launcher be heard: an offer for which there is no room."""
        assert await self.offer(room=_NO_ROOM) is None

    async def item(self, number: int = 1, ref: StreamRef = RENDER) -> ItemView:
        view = await self.store.get_item(ItemRef(ref, number))
        assert view is not None
        return view

    async def counts(self, ref: StreamRef = RENDER) -> dict[str, int]:
        """Return how many items are in each state that has any."""
        view = await self.store.get_stream(ref)
        assert view is not None
        return {state: number for state, number in view.counts.items() if number}

    async def events(self, ref: StreamRef = RENDER) -> list[str]:
        """Return the kinds of all events, in order."""
        batch = await self.store.read_events(ref, None, 1_000)
        return [event.kind.value for event in batch.events]

    async def numbers(self, state: ItemState | None) -> list[int]:
        page = await self.store.list_items(RENDER, state, None, 1_000)
        return [parse_item(view.item, None).number for view in page.items]


_NO_ROOM = Room(vcpus=0, memory_mib=0, disk_mib=0, accelerator=Accelerator.KVM)
