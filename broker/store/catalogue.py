"""Streams, beside machines and images: what researchers define before they push."""

from broker.domain.errors import Rejected
from broker.domain.limits import LIMITS
from broker.domain.quotas import quota_exceeded
from broker.store.arguments import PutStream
from broker.store.callbacks import told_kinds
from broker.store.items import purging
from broker.store.machines import Machines
from broker.store.records import encode_spec, first_revision, revision_view, stream_view
from broker.store.scripts import Word
from broker.wire.names import MachineRef, StreamRef, UserName, parse_owned
from broker.wire.problems import ProblemCode
from broker.wire.streams import RevisionView, StreamSpec, StreamView

MAX_REVISIONS = 50
"""Revisions that are listed; every one can be asked for by its number."""


class Catalogue(Machines):
    async def put_stream(self, ref: StreamRef, spec: StreamSpec) -> StreamView:
        """Create a stream or give it another spec; the same spec again keeps the revision.

        Items keep the revision they were pushed under.

        Raises:
            Rejected: `bad_spec`: the machine is not there, or not shared with the stream's user; QUOTA_EXCEEDED.
            Conflict: PURGING.
        """
        machine = parse_owned(spec.machine, ref.user, "machine")
        reply = await self._server.act(
            PutStream(
                user=ref.user,
                job=ref.name,
                spec=encode_spec(spec),
                named=str(machine),
                is_own=machine.user == ref.user,
                most=LIMITS["user_streams"].default,
                revisions=LIMITS["stream_revisions"].default,
                callback=told_kinds(spec),
            ),
            self._keys.of_stream(ref),
            machine=self._keys.machine(machine),
            readers=self._keys.readers(machine),
            machine_streams=self._keys.machine_streams(machine),
            machine_streams_of=self._keys.machine_streams(""),
        )
        match reply.word:
            case Word.MISSING:
                raise machine_not_usable(machine, ref.user)
            case Word.PURGING:
                raise purging(ref)
            case Word.FULL:
                raise _full(ref, *reply.values)
        view = await self.get_stream(ref)
        if view is None:
            raise purging(ref)
        return view

    async def get_stream(self, ref: StreamRef, revision: int | None = None) -> StreamView | None:
        """Return a stream's latest spec, or that of a revision, and its counts; None when there is none such."""
        keys = self._keys.of_stream(ref)
        stream, bulk = await self._server.commands([("HGETALL", keys.stream), ("HGETALL", keys.bulk)])
        if not stream:
            return None
        last = int(stream["revision"])
        shown = revision or last
        if not first_revision(stream.get("first_revision")) <= shown <= last:
            return None
        return stream_view(ref, {**stream, "revision": str(shown)}, await self._spec(ref, shown), bulk)

    async def latest_spec(self, ref: StreamRef) -> tuple[int, StreamSpec] | None:
        """Return the spec that what is pushed now runs under, and its revision; None when there is no such stream."""
        known = await self._server.command("HGET", self._keys.of_stream(ref).stream, "revision")
        if known is None:
            self._seen_revisions.pop(ref, None)
            return None
        revision = int(known)
        self._seen_revisions.keep(ref, revision)
        return revision, await self._spec(ref, revision)

    def seen_spec(self, ref: StreamRef) -> tuple[int, StreamSpec] | None:
        """Return what `latest_spec` did last in this process, as far as it is remembered: it may be another now."""
        revision = self._seen_revisions.get(ref, 0)
        spec = self._kept_spec(ref, revision)
        return None if spec is None else (revision, spec)

    async def revisions(self, ref: StreamRef) -> list[RevisionView]:
        """Return a stream's latest revisions, at most `MAX_REVISIONS`, the newest first; none when it is not there."""
        keys = self._keys.of_stream(ref)
        known, first = await self._server.command("HMGET", keys.stream, "revision", "first_revision")
        last = int(known or 0)
        numbers = range(last, max(first_revision(first) - 1, last - MAX_REVISIONS), -1)
        put = await self._server.commands([("HGET", keys.specs, f"put:{number}") for number in numbers])
        return [
            revision_view(number, at, await self._spec(ref, number)) for number, at in zip(numbers, put, strict=True)
        ]

    async def list_streams(self, user: UserName) -> list[StreamView]:
        """Return the user's streams by name."""
        names = sorted(await self._server.command("SMEMBERS", self._keys.streams(user)))
        streams = [await self.get_stream(StreamRef(user, name)) for name in names]
        return [stream for stream in streams if stream is not None]


def _full(ref: StreamRef, of: object, most: object) -> Rejected:
    if of == "revisions":
        return quota_exceeded(
            f"{ref} has {most} revisions of its spec, as many as may be: add a stream of another name"
        )
    return quota_exceeded(f"{ref.user} has {most} streams, as many as may be: purge one first")


def machine_not_usable(machine: MachineRef, user: UserName) -> Rejected:
    """Return what is said when a stream names a machine that its user has not, or has no more."""
    remedy = "add it with `broker machine add` first" if machine.user == user else f"ask {machine.user} to share it"
    shared = "" if machine.user == user else f", or it is not shared with {user}"
    return Rejected(ProblemCode.BAD_SPEC, f"machine: there is no machine {machine}{shared}; {remedy}")
