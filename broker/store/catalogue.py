"""Machines, images, streams: what researchers define before they push."""

import msgspec

from broker.store.answers import MachineFacts
from broker.store.arguments import PutMachine, PutStream
from broker.store.reading import Reading
from broker.store.records import encode_json, stream_view
from broker.wire.machines import MachineDefinition, MachineView
from broker.wire.names import Digest, MachineRef, StreamRef, UserName
from broker.wire.streams import StreamSpec, StreamView

_UNNUMBERED = 0


class Catalogue(Reading):
    async def put_machine(self, ref: MachineRef, definition: MachineDefinition, facts: MachineFacts) -> MachineView:
        """Keep a machine's definition as its next revision; earlier ones stay for what was dispatched with them.

        The same definition again keeps the revision.
        """
        view = MachineView(
            machine=str(ref),
            revision=_UNNUMBERED,
            domain_xml=definition.domain_xml,
            disks=dict(sorted(definition.disks.items())),
            vcpus=facts.vcpus,
            memory_mib=facts.memory_mib,
            firmware=facts.firmware,
            dropped=list(facts.dropped),
        )
        reply = await self._server.act(
            PutMachine(name=ref.name, definition=encode_json(view)),
            machine=self._keys.machine(ref),
            machines=self._keys.machines(ref.user),
        )
        return msgspec.structs.replace(view, revision=int(reply.values[0]))

    async def get_machine(self, ref: MachineRef, revision: int | None = None) -> MachineView | None:
        """Return a machine's revision, the latest by default, or None when there is none."""
        if revision is None:
            latest = await self._server.command("HGET", self._keys.machine(ref), "latest")
            if latest is None:
                return None
            revision = int(latest)
        elif not await self._server.command("HEXISTS", self._keys.machine(ref), revision):
            return None
        view = await self._machine(ref, revision)
        return msgspec.structs.replace(view, revision=revision)

    async def list_machines(self, user: UserName) -> list[MachineView]:
        """Return the user's machines by name."""
        names = sorted(await self._server.command("SMEMBERS", self._keys.machines(user)))
        machines = [await self.get_machine(MachineRef(user, name)) for name in names]
        return [machine for machine in machines if machine is not None]

    async def grant_image(self, user: UserName, digest: Digest, size_bytes: int) -> None:
        """Note that the user brought all bytes of an image: only then may their machines name it."""
        await self._server.command("HSET", self._keys.images(user), digest, size_bytes)

    async def image_size(self, user: UserName, digest: Digest) -> int | None:
        """Return the size of an image granted to the user; None for any other, whether it exists or not."""
        size = await self._server.command("HGET", self._keys.images(user), digest)
        return int(size) if size is not None else None

    async def put_stream(self, ref: StreamRef, spec: StreamSpec) -> StreamView:
        """Create a stream or give it another spec; the same spec again keeps the revision.

        Items keep the revision they were pushed under.
        """
        await self._server.act(
            PutStream(job=ref.name, spec=encode_json(spec)),
            self._keys.of_stream(ref),
        )
        view = await self.get_stream(ref)
        assert view is not None, "a stream that was just put is there: nothing removes streams"
        return view

    async def get_stream(self, ref: StreamRef) -> StreamView | None:
        """Return a stream's latest spec and its counts, or None when there is none."""
        stream = await self._server.command("HGETALL", self._keys.of_stream(ref).stream)
        if not stream:
            return None
        return stream_view(ref, stream, await self._spec(ref, int(stream["revision"])))

    async def list_streams(self, user: UserName) -> list[StreamView]:
        """Return the user's streams by name."""
        names = sorted(await self._server.command("SMEMBERS", self._keys.streams(user)))
        streams = [await self.get_stream(StreamRef(user, name)) for name in names]
        return [stream for stream in streams if stream is not None]
