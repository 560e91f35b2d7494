"""Machines: what a user defined, whom it is shared with, and when it may go.

A machine goes when no stream can want a vm of it any more; its user's grants that no other machine of theirs names go
with it. What must not change between looking and removing is handed to the script, which compares.
"""

from collections.abc import Iterable

import msgspec

from broker.domain.errors import Conflict, Rejected
from broker.domain.limits import default
from broker.domain.quotas import quota_exceeded
from broker.store.answers import MachineFacts
from broker.store.arguments import DeleteMachine, PutMachine, ShareMachine
from broker.store.images import ImageGrants
from broker.store.keys import StreamKeys
from broker.store.reading import TRIES, kept_changing
from broker.store.records import encode_json
from broker.store.scripts import Word
from broker.wire.machines import MachineDefinition, MachineView
from broker.wire.names import MachineRef, StreamRef, UserName, parse_owned
from broker.wire.problems import ProblemCode

_UNNUMBERED = 0
_UNSETTLED = ("ready", "delayed", "dispatched", "running")
_AT_A_VM = ("dispatched", "running")
MAX_LOOKED_AT = 100_000
"""Unsettled items of one stream that are looked at, when it is asked whether one wants a machine."""


class Machines(ImageGrants):
    async def put_machine(self, ref: MachineRef, definition: MachineDefinition, facts: MachineFacts) -> MachineView:
        """Keep a machine's definition as its next revision; earlier ones stay for what was dispatched with them.

        The same definition again keeps the revision. Images that only the revision before named stay granted for a
        while, for its vms.

        Raises:
            Rejected: `image_missing`: an image that the broker should hold is not granted to the user; or
                `quota_exceeded`.
        """
        view = MachineView(
            machine=str(ref),
            revision=_UNNUMBERED,
            domain_xml=definition.domain_xml,
            disks=dict(sorted(definition.disks.items())),
            nvram=definition.nvram,
            vcpus=facts.vcpus,
            memory_mib=facts.memory_mib,
            firmware=facts.firmware,
            dropped=list(facts.dropped),
        )
        held = [disk.digest for disk in (*view.disks.values(), view.nvram) if disk is not None and disk.url is None]
        reply = await self._server.act(
            PutMachine(
                user=ref.user,
                name=ref.name,
                definition=encode_json(view),
                most=default("user_machines"),
                revisions=default("machine_revisions"),
                rest=tuple(dict.fromkeys(held)),
            ),
            machine=self._keys.machine(ref),
            machines=self._keys.machines(ref.user),
            removed_machines=self._keys.removed_machines(ref.user),
            images=self._keys.images(ref.user),
            unnamed=self._keys.unnamed,
            account=self._keys.account(ref.user),
        )
        if reply.word == Word.MISSING:
            raise image_missing(f"the machine names the image {reply.values[0]}", ref.user)
        if reply.word == Word.FULL:
            raise _full(ref, reply.values[0])
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

    async def delete_machine(self, ref: MachineRef) -> None:
        """Remove a machine that nothing can want any more, its shares, and its user's grants that only it needed.

        Atomic. Its definitions stay for what was dispatched with them, until as many machines were removed after it as
        the user may have; numbers go on when it is added again.

        Raises:
            Rejected: `not_found`.
            Conflict: `machine_in_use`: a stream names it, or has unsettled items that do.
            Unavailable: repeat it.
        """
        for _ in range(TRIES):
            readers = await self.machine_readers(ref)
            named_by = await self._server.command("HGETALL", self._keys.machine_streams(ref))
            for stream, last in sorted(named_by.items()):
                await self._check_unused(ref, parse_owned(stream, None, "stream"), last, readers)
            reply = await self._server.act(
                DeleteMachine(
                    user=ref.user,
                    name=ref.name,
                    most=default("user_machines"),
                    rest=_seen(readers, named_by),
                ),
                machine=self._keys.machine(ref),
                machines=self._keys.machines(ref.user),
                machines_of=self._keys.machines_of(ref.user),
                removed_machines=self._keys.removed_machines(ref.user),
                images=self._keys.images(ref.user),
                readers=self._keys.readers(ref),
                machine_streams=self._keys.machine_streams(ref),
                grants=self._keys.grants,
                ungranted=self._keys.ungranted,
                unnamed=self._keys.unnamed,
                account=self._keys.account(ref.user),
            )
            if reply.word == Word.MISSING:
                raise no_machine(ref)
            if reply.word == Word.DONE:
                return
        raise kept_changing()

    async def share_machine(self, ref: MachineRef, reader: UserName) -> None:
        """Let another user see the machine and name it in streams of their own. Idempotent.

        Raises:
            Rejected: `not_found`, or `bad_request` when it is shared with too many already.
        """
        if await self._server.command("SCARD", self._keys.readers(ref)) >= default("machine_readers"):
            raise Rejected(
                ProblemCode.BAD_REQUEST, f"{ref} is shared with {default('machine_readers')} users, as many as may be"
            )
        reply = await self._server.act(
            ShareMachine(reader), machine=self._keys.machine(ref), readers=self._keys.readers(ref)
        )
        if reply.word == Word.MISSING:
            raise no_machine(ref)

    async def unshare_machine(self, ref: MachineRef, reader: UserName) -> None:
        """Take a share back. Idempotent. What runs already runs on; nothing more is dispatched for that user."""
        await self._server.command("SREM", self._keys.readers(ref), reader)

    async def machine_readers(self, ref: MachineRef) -> list[str]:
        """Return whom the machine is shared with, by name."""
        return sorted(await self._server.command("SMEMBERS", self._keys.readers(ref)))

    async def usable_machine(self, user: UserName, ref: MachineRef) -> MachineView | None:
        """Return a machine that the user's streams may name; None when there is none, or it is not shared with them."""
        return await self.get_machine(ref) if await self.may_use(user, ref) else None

    async def may_use(self, user: UserName, ref: MachineRef) -> bool:
        """Tell whether the machine is the user's own, or shared with them; not whether it exists."""
        return user == ref.user or bool(await self._server.command("SISMEMBER", self._keys.readers(ref), user))

    async def _check_unused(self, ref: MachineRef, stream: StreamRef, last: str, readers: Iterable[str]) -> None:
        """Check that a stream that names the machine, or did until its item `last`, wants no vm of it."""
        whose = f"your stream {stream.name}" if stream.user == ref.user else f"a stream of {stream.user}'s"
        may_dispatch = stream.user == ref.user or stream.user in readers
        if may_dispatch and not last:
            raise _in_use(ref, f"{whose} names it: give that stream another machine first")
        # Items of somebody who may not use the machine any more are not dispatched with it.
        states = _UNSETTLED if may_dispatch else _AT_A_VM
        if await self._has_items(stream, states, int(last) if last else None):
            raise _in_use(ref, f"{whose} has unsettled items that were pushed for it: wait until they are settled")

    async def _has_items(self, stream: StreamRef, states: tuple[str, ...], last: int | None) -> bool:
        """Tell whether items up to `last` are in one of the states; when there are too many to look at, that they are.

        Read at one instant: an item that moves is not missed.
        """
        keys = self._keys.of_stream(stream)
        counts = await self._server.command("HMGET", keys.stream, *states)
        if sum(int(count or 0) for count in counts) > MAX_LOOKED_AT:
            return True
        entries = await self._entries(keys, states)
        numbers = (int(str(entry).partition(":")[0]) for entry in entries)
        return any(last is None or number <= last for number in numbers)

    async def _entries(self, keys: StreamKeys, states: tuple[str, ...]) -> list[str]:
        """Return the entries, each beginning with its item's number, of those that are in one of the states."""
        others = [("ZRANGE", getattr(keys, state), 0, MAX_LOOKED_AT) for state in states if state != "ready"]
        revisions = await self._server.command("ZRANGE", keys.ready, 0, -1) if "ready" in states else []
        for _ in range(TRIES):
            ready = [("LRANGE", f"{keys.ready_of}{revision}", 0, MAX_LOOKED_AT) for revision in revisions]
            now, *found = await self._server.commands([("ZRANGE", keys.ready, 0, -1), *ready, *others], atomic=True)
            if "ready" not in states or set(now) <= set(revisions):
                return [entry for entries in found for entry in entries]
            revisions = now
        raise kept_changing()


def _full(ref: MachineRef, of: str) -> Rejected:
    if of == "revisions":
        return quota_exceeded(f"{ref} has {default('machine_revisions')} revisions: add the machine under another name")
    return quota_exceeded(f"{ref.user} has {default('user_machines')} machines, as many as may be: remove one first")


def no_machine(ref: MachineRef) -> Rejected:
    return Rejected(ProblemCode.NOT_FOUND, f"there is no machine {ref}: add it with `broker machine add`")


def image_missing(what: str, user: UserName) -> Rejected:
    """Return what is said when a machine names an image that its user has not brought."""
    return Rejected(
        ProblemCode.IMAGE_MISSING,
        f"{what}, which {user} has not uploaded: PUT it to /v1/images first, or use `broker machine add`",
    )


def _in_use(ref: MachineRef, why: str) -> Conflict:
    return Conflict(ProblemCode.MACHINE_IN_USE, f"{ref} cannot be removed: {why}")


def _seen(readers: Iterable[str], named_by: dict[str, str]) -> tuple[str, ...]:
    return (*readers, *(f"{stream}={last}" for stream, last in named_by.items()))
