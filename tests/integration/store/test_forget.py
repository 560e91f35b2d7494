from pathlib import Path

import msgspec
import pytest

from broker.domain.errors import Conflict, Rejected
from broker.files.tails import Tails
from broker.process import forget_once
from broker.store import Forgotten
from broker.wire.states import ItemState, Verdict
from tests.integration.store.scene import RENDER, SPEC, Scene, failure, lease_of, result
from tests.support.stores import age

KEEP_MS = 3_600_000
MINUTE_MS = 60_000
SHORT = msgspec.structs.replace(
    SPEC, keep_ms=KEEP_MS, retry=msgspec.structs.replace(SPEC.retry, hold_exit_codes=(3,), backoff_first_ms=0)
)


class Cleared:
    """Takes note of what was to be removed beside the store."""

    def __init__(self) -> None:
        self.items: list[Forgotten] = []

    async def __call__(self, forgotten: Forgotten) -> None:
        self.items.append(forgotten)

    @property
    def numbers(self) -> list[int]:
        return [forgotten.item.number for forgotten in self.items]


@pytest.fixture
async def short(scene: Scene) -> Scene:
    """A scene whose stream keeps settled items for an hour."""
    await scene.set_up(SHORT)
    await scene.prove()
    return scene


async def _done(scene: Scene) -> None:
    await scene.store.complete(await scene.running(), result())


async def _forget(scene: Scene) -> Cleared:
    cleared = Cleared()
    assert await scene.store.forget(cleared) == len(cleared.items)
    return cleared


async def test_done_and_held_items_are_forgotten_once_they_were_kept_as_long_as_the_spec_says(short: Scene) -> None:
    await short.push(4)
    await _done(short)
    await short.store.fail(await short.running(), failure(3))
    running = await short.running()

    await age(short.store, KEEP_MS - MINUTE_MS)
    assert (await _forget(short)).numbers == []
    await age(short.store, 2 * MINUTE_MS)
    assert (await _forget(short)).numbers == [1, 2]

    assert await short.counts() == {"running": 1, "ready": 1}
    assert await short.numbers(None) == [3, 4]
    assert await short.numbers(ItemState.DONE) == await short.numbers(ItemState.HELD) == []
    view = await short.store.get_stream(RENDER)
    assert view is not None
    assert view.forgotten == 2
    assert str((await short.store.leased(running)).item.ref) == "alice/render/3"
    assert (await _forget(short)).numbers == []


async def test_every_vm_of_a_forgotten_item_goes_with_it(short: Scene) -> None:
    await short.push(1)
    first = await short.prepared()
    await short.end(first, Verdict.HOST_ERROR)
    second = await short.prepared()
    await short.end(second, Verdict.HOST_ERROR)
    await short.store.tick()
    last = await short.dispatched() if (await short.item()).state == ItemState.READY else None
    if last is None:
        await age(short.store, MINUTE_MS)
        await short.store.tick()
        last = await short.dispatched()
    claimed = await short.claim(last)
    await short.store.complete(lease_of(claimed), result())
    await age(short.store, KEEP_MS + MINUTE_MS)

    [forgotten] = (await _forget(short)).items

    assert forgotten.dispatches == (last.dispatch, second.dispatch, first.dispatch)
    keys = await short.store._server.command("KEYS", "*")
    assert [key for key in keys if ":vm:" in key or ":item:" in key] == []


async def test_items_that_settle_in_one_minute_are_one_event_and_the_sequence_has_no_gap(short: Scene) -> None:
    await short.push(3)
    for _ in range(3):
        await _done(short)
    await age(short.store, KEEP_MS + MINUTE_MS)
    await _forget(short)

    events = (await short.store.read_events(RENDER, None, 1_000)).events
    assert [int(event.sequence) for event in events] == list(range(1, len(events) + 1))
    forgotten = [event.data for event in events if event.kind.value == "items.forgotten"]
    assert sum(int(data["count"] or 0) for data in forgotten) == 3
    assert forgotten[-1]["last"] == 3


async def test_items_are_kept_as_the_revision_says_that_they_were_pushed_under(short: Scene) -> None:
    await short.push(1)
    await short.store.put_stream(RENDER, msgspec.structs.replace(SHORT, keep_ms=10 * KEEP_MS))
    await short.prove()
    await short.push(1)
    await _done(short)
    await _done(short)
    await age(short.store, KEEP_MS + MINUTE_MS)
    assert (await _forget(short)).numbers == [1]
    await age(short.store, 10 * KEEP_MS)
    assert (await _forget(short)).numbers == [2]


async def test_one_call_forgets_a_bounded_number_and_the_next_goes_on(
    short: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.store.forgetting.MAX_FORGOTTEN", 2)
    await short.push(3)
    for _ in range(3):
        await _done(short)
    await age(short.store, KEEP_MS + MINUTE_MS)
    assert [len((await _forget(short)).items) for _ in range(3)] == [2, 1, 0]


async def test_what_is_said_of_a_forgotten_item_is_refused(short: Scene) -> None:
    await short.push(1)
    given = await short.offer(key="the key")
    assert given is not None
    lease = lease_of(await short.claim(given))
    await short.store.complete(lease, result())
    await age(short.store, KEEP_MS + MINUTE_MS)
    assert (await _forget(short)).numbers == [1]

    with pytest.raises(Conflict, match="no longer this vm's"):
        await short.store.complete(lease, result())
    with pytest.raises(Conflict, match="no longer this vm's"):
        await short.store.fail(lease, failure())
    with pytest.raises(Conflict, match="dispatch is over"):
        await short.claim(given)
    with pytest.raises(Rejected, match="has no vm"):
        await short.end(given, Verdict.COMPLETED)
    assert await short.offer(key="the key") is None
    assert not await short.store.is_last(lease)


async def test_what_vms_and_programs_said_goes_with_the_item_and_nothing_else_does(
    short: Scene, tmp_path: Path
) -> None:
    tails = Tails(tmp_path)
    await short.push(2)
    forgotten, kept = await short.claimed(), await short.claimed()
    for claimed in (forgotten, kept):
        await tails.keep_console(claimed.dispatch, b"console")
        await tails.keep_domain_xml(claimed.dispatch, "<domain/>")
        await tails.keep_log(lease_of(claimed).item, b"log")
    await short.store.complete(lease_of(forgotten), result())
    await age(short.store, KEEP_MS + MINUTE_MS)

    assert await forget_once(short.store, tails) == 1

    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {kept.dispatch, str(lease_of(kept).item.number)}
    assert await tails.console(kept.dispatch) == b"console"
    assert await tails.domain_xml(kept.dispatch) == b"<domain/>"
    assert await forget_once(short.store, tails) == 0


async def test_listing_does_not_look_for_what_a_stream_has_forgotten(short: Scene) -> None:
    await short.push(3)
    for _ in range(2):
        await _done(short)
    await age(short.store, KEEP_MS + MINUTE_MS)
    await _forget(short)
    page = await short.store.list_items(RENDER, None, None, 1)
    assert [item.item for item in page.items] == ["alice/render/3"]
    assert await short.store._server.command("HGET", short.store._keys.of_stream(RENDER).stream, "gone") == "2"
