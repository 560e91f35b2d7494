"""The researcher's calls: machines, streams, items, results."""

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from broker.client.session import ONCE, Session
from broker.wire.accounts import UserSettings, UserView, WhoAmI
from broker.wire.callbacks import CallbackPage, CallbackState, CallbackTried, CallbackView
from broker.wire.files import ResultLine
from broker.wire.items import (
    CHUNK_BYTES,
    CHUNK_ITEMS,
    CancelledItem,
    DryRun,
    HoldItem,
    ItemPage,
    ItemView,
    NewItem,
    Pushed,
    Why,
)
from broker.wire.jobs import JobsPage, JobsView
from broker.wire.launchers import LauncherPage, LauncherView, ListedState
from broker.wire.machines import MachineDefinition, MachineReaders, MachineView
from broker.wire.names import ItemRef, MachineRef, OwnedName, StreamRef
from broker.wire.secrets import PutSecret, SecretView
from broker.wire.states import ItemState
from broker.wire.streams import BulkAct, BulkRequest, PauseRequest, RevisionView, StreamSpec, StreamView

T = TypeVar("T")

NDJSON = "application/x-ndjson"
_PAGE_ITEMS = 500
_LINE_BYTES = 4_194_304


class Researcher:
    """One method for each route that a researcher uses; every one may be repeated.

    Every method raises `ApiError` when the broker refuses and `Unreachable` when no answer came.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    async def whoami(self) -> WhoAmI:
        """Return whom the token speaks for."""
        return await self._get("/v1/whoami", WhoAmI)

    async def put_machine(self, ref: MachineRef, definition: MachineDefinition) -> MachineView:
        """Make a revision of a machine; its images must have been uploaded before."""
        path = f"/v1/machines/{ref}"
        return await self._session.call("PUT", path, body=definition, answer=MachineView)

    async def machine(self, ref: MachineRef) -> MachineView:
        return await self._get(f"/v1/machines/{ref}", MachineView)

    async def machines(self, user: str) -> list[MachineView]:
        return await self._get("/v1/machines", list[MachineView], user=user)

    async def delete_machine(self, ref: MachineRef) -> None:
        """Remove a machine that no stream uses, and what no other machine of its user needs of its images."""
        await self._session.send("DELETE", f"/v1/machines/{ref}")

    async def share_machine(self, ref: MachineRef, reader: str) -> list[str]:
        """Let another user see the machine and name it in streams of their own; return all who may."""
        return await self._readers("PUT", f"/v1/machines/{ref}/readers/{quote(reader, safe='')}")

    async def unshare_machine(self, ref: MachineRef, reader: str) -> list[str]:
        """Take a share back; return who may still see the machine. What runs already runs on."""
        return await self._readers("DELETE", f"/v1/machines/{ref}/readers/{quote(reader, safe='')}")

    async def machine_readers(self, ref: MachineRef) -> list[str]:
        """Return the users that the machine is shared with, by name."""
        return await self._readers("GET", f"/v1/machines/{ref}/readers")

    async def put_stream(self, ref: StreamRef, spec: StreamSpec) -> StreamView:
        """Create a stream, or change its spec; items keep the revision they were pushed under."""
        return await self._session.call("PUT", f"/v1/streams/{ref}", body=spec, answer=StreamView)

    async def stream(self, ref: StreamRef, revision: int | None = None) -> StreamView:
        """Return a stream's latest spec, or that of a revision, and its counts."""
        query = {} if revision is None else {"revision": str(revision)}
        return await self._get(f"/v1/streams/{ref}", StreamView, **query)

    async def revisions(self, ref: StreamRef) -> list[RevisionView]:
        """Return the latest revisions of a stream's spec, the newest first."""
        return await self._get(f"/v1/streams/{ref}/revisions", list[RevisionView])

    async def streams(self, user: str) -> list[StreamView]:
        return await self._get("/v1/streams", list[StreamView], user=user)

    async def push(self, ref: StreamRef, items: Iterable[NewItem], key: str) -> AsyncIterator[Pushed]:
        """Push any number of items in chunks, each accepted as a whole or not at all, and acknowledged by one answer.

        Chunk `i` carries the idempotency key `key/i`: pushed again with the same key, nothing is added twice, and a
        push that stopped goes on. The answers before an error tell what was accepted; the lines that a refusal names
        count from the first item after those.
        """
        for number, lines in enumerate(_chunks(items)):
            yield await self.push_lines(ref, lines, f"{key}/{number}")

    async def push_lines(
        self, ref: StreamRef, lines: bytes, key: str, *, skip_bad: bool = False, part: int | None = None
    ) -> Pushed:
        """Push one chunk, an item a line as JSON: all of it or nothing, or with `skip_bad` all but the bad lines.

        With a `part` several chunks may go up together, all but the last one full: in turn, each as a whole, the first
        with the idempotency key `key/part`. They are sent once: when that fails, some of them may have been accepted,
        and each can be pushed by itself with its own key.
        """
        query = {"skip_bad": "1"} if skip_bad else {}
        if part is not None:
            query["part"] = str(part)
        reply = await self._session.send(
            "POST",
            f"/v1/streams/{ref}/items",
            body=lines,
            headers={"Content-Type": NDJSON, "Idempotency-Key": key},
            query=query or None,
            patience=None if part is None else ONCE,
        )
        return msgspec.json.decode(reply.body, type=Pushed)

    async def rehearse_stream(self, ref: StreamRef, spec: StreamSpec) -> DryRun:
        """Check a spec as `put_stream` would, and learn where an item's files would go; nothing is kept."""
        body = msgspec.json.encode(spec)
        reply = await self._session.send("PUT", f"/v1/streams/{ref}", body=body, query={"dry_run": "1"})
        return msgspec.json.decode(reply.body, type=DryRun)

    async def rehearse(self, ref: StreamRef, lines: bytes) -> DryRun:
        """Check a chunk as a push would, an item a line as JSON, and learn where its files would go."""
        reply = await self._session.send(
            "POST", f"/v1/streams/{ref}/items", body=lines, headers={"Content-Type": NDJSON}, query={"dry_run": "1"}
        )
        return msgspec.json.decode(reply.body, type=DryRun)

    async def item(self, ref: ItemRef) -> ItemView:
        return await self._get(_item_path(ref), ItemView)

    async def why(self, ref: ItemRef) -> Why:
        """Return why an item is where it is."""
        return await self._get(f"{_item_path(ref)}/why", Why)

    async def why_stream(self, ref: StreamRef) -> Why:
        """Return why a stream does what it does."""
        return await self._get(f"/v1/streams/{ref}/why", Why)

    async def cancel(self, ref: ItemRef) -> CancelledItem:
        """Stop an item for good, whoever has it; again does no harm. Refused as `settled` when it is done."""
        return await self._session.call("POST", f"{_item_path(ref)}/cancel", answer=CancelledItem)

    async def hold(self, ref: ItemRef, reason: str = "") -> ItemView:
        """Set an item aside until it is released; refused as `given_out` while a vm has it."""
        return await self._session.call(
            "POST", f"{_item_path(ref)}/hold", body=HoldItem(reason=reason), answer=ItemView
        )

    async def release(self, ref: ItemRef) -> ItemView:
        """Put a held item back to the ready ones, its counters reset."""
        return await self._session.call("POST", f"{_item_path(ref)}/release", answer=ItemView)

    async def pause(self, ref: StreamRef, reason: str = "") -> StreamView:
        """Let a stream give nothing out for now; what is out goes on."""
        body = PauseRequest(reason=reason)
        return await self._session.call("POST", f"/v1/streams/{ref}/pause", body=body, answer=StreamView)

    async def resume(self, ref: StreamRef) -> StreamView:
        """Let a paused stream give out again."""
        return await self._session.call("POST", f"/v1/streams/{ref}/resume", answer=StreamView)

    async def purge(self, ref: StreamRef) -> StreamView:
        """Begin to remove a stream and all its items; it is gone when it is no longer found."""
        return await self._session.call("DELETE", f"/v1/streams/{ref}", answer=StreamView)

    async def bulk(self, ref: StreamRef, act: BulkAct, request: BulkRequest) -> StreamView:
        """Begin to cancel, hold or release a stream's items; its `bulk` shows how far that came."""
        return await self._session.call("POST", f"/v1/streams/{ref}/{act.value}", body=request, answer=StreamView)

    async def items(self, ref: StreamRef, state: ItemState | None = None) -> AsyncIterator[ItemView]:
        """Yield a stream's items, or those in one state, page by page."""
        query = {"limit": str(_PAGE_ITEMS)} | ({"state": state.value} if state else {})
        while True:
            page = await self._get(f"/v1/streams/{ref}/items", ItemPage, **query)
            for item in page.items:
                yield item
            if page.next_cursor is None:
                return
            query["cursor"] = page.next_cursor

    async def launchers(self, state: ListedState | None = None) -> AsyncIterator[LauncherView]:
        """Yield the launchers that were heard of in the last day and that the token may see, those there first."""
        query = {"limit": str(_PAGE_ITEMS)} | ({"state": state.value} if state else {})
        while True:
            page = await self._get("/v1/launchers", LauncherPage, **query)
            for launcher in page.launchers:
                yield launcher
            if page.cursor is None:
                return
            query["cursor"] = page.cursor

    async def user(self, user: str) -> UserView:
        """Return a user's share, what they have and may have."""
        return await self._get(f"/v1/users/{quote(user, safe='')}", UserView)

    async def put_user(self, user: str, settings: UserSettings) -> UserView:
        """Set a user's weight and bounds; what is left out is as it is for everybody."""
        return await self._session.call("PUT", f"/v1/users/{quote(user, safe='')}", body=settings, answer=UserView)

    async def test_callback(self, ref: StreamRef) -> CallbackTried:
        """Have the stream's server told of an event that settles nothing; once, since each call tells it anew."""
        path = f"/v1/streams/{ref}/callback/test"
        return await self._session.call("POST", path, answer=CallbackTried, patience=ONCE)

    async def callbacks(
        self, user: str, state: CallbackState | None = None, cursor: str | None = None, limit: int = _PAGE_ITEMS
    ) -> CallbackPage:
        """Return a page of what a user's servers are told or were told of late; `limit` is at most 1,000."""
        query = {"user": user, "limit": str(limit)} | ({"state": state.value} if state else {})
        return await self._get("/v1/callbacks", CallbackPage, **query | ({"cursor": cursor} if cursor else {}))

    async def replay_callback(self, callback: str) -> CallbackView:
        """Have a server of the user's own told of an event once more."""
        path = f"/v1/callbacks/{quote(callback, safe='')}/replay"
        return await self._session.call("POST", path, answer=CallbackView)

    async def put_secret(self, ref: OwnedName, secret: PutSecret) -> SecretView:
        """Keep a secret at the broker, sealed; vms get it from now on in place of the one before."""
        return await self._session.call("PUT", f"/v1/secrets/{ref}", body=secret, answer=SecretView)

    async def secrets(self, user: str) -> list[SecretView]:
        """Return what is told of the user's secrets; never a value."""
        return await self._get("/v1/secrets", list[SecretView], user=user)

    async def delete_secret(self, ref: OwnedName) -> None:
        """Remove a secret; what vms have of it they keep to their end."""
        await self._session.send("DELETE", f"/v1/secrets/{ref}")

    async def launcher_jobs(self) -> list[JobsView]:
        """Return what submitters of launcher jobs told in the last day, as far as the token may see it."""
        return (await self._get("/v1/launcher-jobs", JobsPage)).jobs

    async def results(self, ref: StreamRef) -> AsyncIterator[ResultLine]:
        """Yield the results of done and held items as they are now."""
        async with self._session.open("GET", f"/v1/streams/{ref}/results") as answer:
            async for line in lines_of(answer):
                yield msgspec.json.decode(line, type=ResultLine)

    async def console(self, ref: ItemRef) -> bytes:
        """Return the console's tail of the item's last vm, raw: never print it as it is."""
        return (await self._session.send("GET", f"{_item_path(ref)}/console")).body

    async def log(self, ref: ItemRef) -> bytes:
        """Return what the item's program wrote, raw: never print it as it is."""
        return (await self._session.send("GET", f"{_item_path(ref)}/log")).body

    async def _readers(self, method: str, path: str) -> list[str]:
        return (await self._session.call(method, path, answer=MachineReaders)).readers

    async def domain_xml(self, ref: ItemRef) -> bytes:
        """Return the XML with which the item's last vm was booted."""
        return (await self._session.send("GET", f"{_item_path(ref)}/domain-xml")).body

    async def _get(self, path: str, answer: type[T], **query: str) -> T:
        return await self._session.call("GET", path, answer=answer, query=query or None)


def _chunks(items: Iterable[NewItem]) -> Iterator[bytes]:
    """Cut a push into request bodies: always the same for the same items, so that each keeps its key."""
    lines: list[bytes] = []
    size_bytes = 0
    for item in items:
        line = msgspec.json.encode(item) + b"\n"
        if lines and (len(lines) == CHUNK_ITEMS or size_bytes + len(line) > CHUNK_BYTES):
            yield b"".join(lines)
            lines, size_bytes = [], 0
        lines.append(line)
        size_bytes += len(line)
    if lines:
        yield b"".join(lines)


def _item_path(ref: ItemRef) -> str:
    return f"/v1/streams/{ref.stream}/items/{ref.number}"


async def lines_of(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield whole lines, of whatever length up to `_LINE_BYTES`: aiohttp's own reader stops at a shorter one."""
    rest = b""
    async for chunk in answer.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield line
        if len(rest) > _LINE_BYTES:
            raise ValueError("the broker sent a line that is longer than any result")
