"""Every kind of event, made by the acts that emit it, read from the wire's bytes by CloudEvents' own SDK."""

import json
from datetime import datetime

import msgspec
import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from broker.domain.errors import Conflict
from broker.http.events import _sse
from broker.store import EventBatch, Forgotten
from broker.wire.callbacks import Callback
from broker.wire.events import Event, EventType
from broker.wire.names import ItemRef, OwnedName
from broker.wire.secrets import SecretKind
from broker.wire.states import Phase, Verdict
from broker.wire.streams import BulkAct, BulkRequest
from tests.integration.store.scene import ALICE, RENDER, SPEC, Scene, failure, lease_of, result
from tests.support.stores import age

HOUR_MS = 3_600_000
ONCE_MORE = msgspec.structs.replace(SPEC, keep_ms=HOUR_MS, retry=msgspec.structs.replace(SPEC.retry, attempts=2))


async def test_sdk_reads_every_kind_of_event_from_log_and_feed(scene: Scene) -> None:
    await _let_everything_happen(scene)
    await _act_on_all_of_it(scene)
    log = await scene.store.read_events(RENDER, None, 1_000)
    await _purge(scene)
    feed = await scene.store.read_feed(ALICE, None, 1_000)

    assert {event.kind for event in log.events} == set(EventType) - {EventType.STREAM_PURGED}
    assert {event.kind for event in feed.events} == set(EventType)
    for batch in (log, feed):
        _check(batch)


def _check(batch: EventBatch) -> None:
    read = [_read(event) for event in batch.events]
    # What makes an event the same one again, whichever way it came.
    assert len({(event.get_source(), event.get_id()) for event in read}) == len(read)
    for event, sent in zip(read, batch.events, strict=True):
        assert event.get_specversion() == "1.0"
        assert event.get_type() == f"org.vmbroker.{sent.kind}"
        assert event.get_data() == sent.data
        assert event.get_subject() == (sent.subject or None)
        assert event.get_extension("sequence") == sent.sequence
        assert event.get_extension("position") == (sent.position or None)
        assert event.get_time() == datetime.fromisoformat(sent.time)
        assert {*event.get_attributes(), "data"} == set(json.loads(_data(sent)))


def _read(event: Event) -> BaseCloudEvent:
    return JSONFormat().read(CloudEvent, _data(event))


def _data(event: Event) -> bytes:
    """Return the data of the message by which the event is sent."""
    place, data, *end = _sse(event).split(b"\n")
    assert place == b"id: " + event.place.encode()
    assert end == [b"", b""]
    return data.removeprefix(b"data: ")


async def _let_everything_happen(scene: Scene) -> None:
    await scene.set_up(ONCE_MORE)
    await scene.prove()
    for act in (_fail_twice, _complete, _give_back):
        await scene.push(1)
        await act(scene)
    await _replay(scene)
    await scene.store.cancel(ItemRef(RENDER, 3), "alice")
    await age(scene.store, 2 * HOUR_MS)
    assert await scene.store.forget(_nothing_to_remove) == 3


async def _act_on_all_of_it(scene: Scene) -> None:
    store = scene.store
    pushed = await scene.push(2)
    await store.hold(ItemRef(RENDER, pushed.first), "alice")
    await store.release(ItemRef(RENDER, pushed.first))
    await store.pause(RENDER, "alice")
    await store.resume(RENDER, "alice")
    callback = Callback(url="https://hooks.example/done", secrets=("hook",))
    await store.put_stream(RENDER, msgspec.structs.replace(ONCE_MORE, callback=callback))
    await store.stop_callback(RENDER, "it answered 410")
    for act in (BulkAct.HOLD, BulkAct.RELEASE, BulkAct.CANCEL):
        await store.start_bulk(RENDER, act, BulkRequest(), "alice")
        while await store.tick():
            pass


async def _purge(scene: Scene) -> None:
    await scene.store.start_bulk(RENDER, BulkAct.PURGE, BulkRequest(), "alice")
    while await scene.store.tick() or await scene.store.forget(_nothing_to_remove):
        pass


async def _complete(scene: Scene) -> None:
    given = await scene.prepared()
    for phase in (Phase.PREPARED, Phase.BOOTING, Phase.STARTED):
        await scene.store.vm_event(given.dispatch, scene.launcher, phase, {})
    claimed = await scene.claim(given)
    proxy = OwnedName(ALICE, "proxy")
    await scene.store.put_secret(proxy, SecretKind.FILE, 1, str)
    sealed = await scene.store.sealed_secrets([proxy])
    assert await scene.store.give_secrets(claimed.item.ref, given.dispatch, list(sealed.values()), HOUR_MS)
    await scene.store.complete(lease_of(claimed), result())
    await scene.end(given, Verdict.COMPLETED)
    with pytest.raises(Conflict):
        await scene.claim(given, "too late")


async def _fail_twice(scene: Scene) -> None:
    await scene.store.fail(await scene.running(), failure())
    await age(scene.store, HOUR_MS)
    await scene.store.tick()
    await scene.store.fail(await scene.running(), failure())


async def _give_back(scene: Scene) -> None:
    await scene.end(await scene.prepared(), Verdict.HOST_ERROR)


async def _replay(scene: Scene) -> None:
    given = await scene.prepared()
    await scene.claim(given, "thief")
    with pytest.raises(Conflict):
        await scene.claim(given, "guest")


async def _nothing_to_remove(forgotten: Forgotten) -> None:
    """The tails of what is forgotten are no part of the store."""
