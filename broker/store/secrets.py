"""Secrets, sealed by those above: the store never sees a value, nor a key that opens one.

A value that a vm was given is kept, sealed, while that vm may still show it, though it was replaced or removed: so that
what the vm said can be masked. One that no vm was given is gone when it is removed.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from broker.domain.limits import LIMITS
from broker.domain.quotas import quota_exceeded
from broker.domain.retry import Cause, Outcome
from broker.domain.secrets import given_secrets
from broker.store import arguments
from broker.store.outcomes import decided
from broker.store.reading import TRIES, Reading, kept_changing, lease_lost
from broker.store.records import Hash, rfc3339
from broker.store.scripts import Word
from broker.wire.names import DispatchId, ItemRef, OwnedName, UserName
from broker.wire.secrets import SecretKind, SecretView
from broker.wire.states import ItemState

SHOWN_AFTER_MS = 3_600_000
"""What a vm said comes to the broker within this time of the last moment in which it may run."""


class Sealed(NamedTuple):
    """A secret's sealed value, and what it is sealed to."""

    secret: OwnedName
    kind: SecretKind
    version: int
    sealed: str


class Secrets(Reading):
    async def put_secret(
        self, ref: OwnedName, kind: SecretKind, size_bytes: int, seal: Callable[[int], str]
    ) -> SecretView:
        """Keep a value, which `seal` seals to the version that it is given.

        Raises:
            Rejected: QUOTA_EXCEEDED.
            Unavailable: repeat it.
        """
        for _ in range(TRIES):
            last = await self._server.command("HGET", self._keys.account(ref.user), "secret_version")
            version = int(last or 0) + 1
            reply = await self._server.act(
                arguments.PutSecret(
                    name=ref.name,
                    kind=kind.value,
                    size=size_bytes,
                    sealed=seal(version),
                    version=version,
                    most=LIMITS["user_secrets"].default,
                ),
                secret=self._keys.secret(ref),
                secrets=self._keys.secrets(ref.user),
                masks=self._keys.masks(ref),
                account=self._keys.account(ref.user),
            )
            if reply.word == Word.FULL:
                raise quota_exceeded(f"{ref.user} has {reply.values[0]} secrets, as many as may be: remove one first")
            if reply.word == Word.DONE and (view := await self.get_secret(ref)) is not None:
                return view
        raise kept_changing()

    async def get_secret(self, ref: OwnedName) -> SecretView | None:
        """Return what is told of a secret; None when there is none."""
        record = await self._server.command("HGETALL", self._keys.secret(ref))
        return _view(ref, record) if record else None

    async def list_secrets(self, user: UserName) -> list[SecretView]:
        """Return what is told of the user's secrets, by name."""
        names = sorted(await self._server.command("SMEMBERS", self._keys.secrets(user)))
        refs = [OwnedName(user, name) for name in names]
        records = await self._server.commands([("HGETALL", self._keys.secret(ref)) for ref in refs])
        return [_view(ref, record) for ref, record in zip(refs, records, strict=True) if record]

    async def delete_secret(self, ref: OwnedName) -> bool:
        """Remove a secret; False when there is none."""
        reply = await self._server.act(
            arguments.DeleteSecret(name=ref.name),
            secret=self._keys.secret(ref),
            secrets=self._keys.secrets(ref.user),
            masks=self._keys.masks(ref),
        )
        return reply.word == Word.DONE

    async def sealed_secrets(self, refs: Sequence[OwnedName]) -> dict[str, Sealed]:
        """Return those of the secrets that are there, by name."""
        records = await self._server.commands(
            [("HMGET", self._keys.secret(ref), "kind", "version", "sealed") for ref in refs]
        )
        return {
            ref.name: Sealed(ref, SecretKind(kind), int(version), sealed)
            for ref, (kind, version, sealed) in zip(refs, records, strict=True)
            if sealed is not None
        }

    async def shown_secrets(self, refs: Sequence[OwnedName]) -> list[Sealed]:
        """Return all that vms may have been given of these secrets, what was replaced or removed since as well."""
        now = list((await self.sealed_secrets(refs)).values())
        before = await self._server.commands([("HGETALL", self._keys.masks(ref)) for ref in refs])
        return now + [
            Sealed(ref, SecretKind.FILE, int(version), sealed)
            for ref, masks in zip(refs, before, strict=True)
            for version, sealed in masks.items()
        ]

    async def trusted_as(self, dispatch: DispatchId) -> str:
        """Return the label for which the vm's launcher was trusted with secrets; '' when it was not."""
        return await self._server.command("HGET", self._keys.vm(dispatch), "trusted") or ""

    async def secrets_of_vm(self, dispatch: DispatchId) -> list[OwnedName]:
        """Return the secrets of a vm's item; none for one that was given out without any."""
        ref = await self._item_of(dispatch) if await self.trusted_as(dispatch) else None
        return [] if ref is None else await self.secrets_of_item(ref)

    async def secrets_of_item(self, ref: ItemRef) -> list[OwnedName]:
        """Return the secrets that the spec of an item names."""
        revision = await self._server.command("HGET", self._keys.item(ref), "revision")
        if revision is None:
            return []
        spec = await self._spec(ref.stream, int(revision))
        return [OwnedName(ref.stream.user, name) for name in given_secrets(spec)]

    async def give_secrets(self, ref: ItemRef, dispatch: DispatchId, given: Sequence[Sealed], run_ms: int) -> bool:
        """Note that a vm is given these, an event each; False when one of them is another by now: read them again.

        Raises:
            Conflict: LEASE_LOST: the item is no longer this vm's.
        """
        reply = await self._server.act(
            arguments.GiveSecrets(
                user=ref.stream.user,
                job=ref.stream.name,
                number=str(ref.number),
                dispatch=dispatch,
                shown_ms=run_ms + SHOWN_AFTER_MS,
                rest=tuple(part for each in given for part in (each.secret.name, str(each.version))),
            ),
            self._keys.of_stream(ref.stream),
            secrets_of=self._keys.secrets_of(ref.stream.user),
        )
        if reply.word == Word.LOST:
            raise lease_lost()
        return reply.word == Word.DONE

    async def withhold(self, ref: ItemRef, dispatch: DispatchId, code: str, sentence: str) -> None:
        """Pause the stream and hold a claimed item whose secrets are not handed out.

        Without the pause each item of the stream would take a boot to be held. Nothing happens to an item that is no
        longer this vm's.
        """
        keys, stream = self._keys.of_stream(ref.stream), ref.stream
        await self._server.act(arguments.Pause(stream.user, stream.name, code, sentence), keys)
        said = f"{sentence}; then `broker release {ref}` and `broker resume {stream}`"
        for _ in range(TRIES):
            item = await self._item(ref)
            if item.get("dispatch") != dispatch or item.get("state") != ItemState.RUNNING:
                return
            spec = await self._spec(ref.stream, int(item["revision"]))
            outcome = Outcome(ItemState.HELD, code, said)
            reply = await self._server.act(
                arguments.Fail(
                    user=stream.user,
                    job=stream.name,
                    number=str(ref.number),
                    dispatch=dispatch,
                    rest=(),
                    **decided(item, "attempts", outcome, Cause(code, said), spec.keep_ms)._asdict(),
                ),
                keys,
            )
            if reply.word == Word.DONE:
                return
        raise kept_changing()


def _view(ref: OwnedName, record: Hash) -> SecretView:
    return SecretView(
        secret=str(ref),
        kind=SecretKind(record["kind"]),
        size_bytes=int(record["size"]),
        version=int(record["version"]),
        created_at=rfc3339(int(record["created_ms"])),
        updated_at=rfc3339(int(record["updated_ms"])),
    )
