from broker.cli.watching import View
from broker.wire.events import Event
from broker.wire.streams import StreamSpec, StreamView


def test_event_of_a_type_that_only_a_newer_broker_knows_is_passed_over() -> None:
    view = View(_stream())
    assert view.take(_event("item.frobbed")) is None
    assert view.take(_event("items.pushed")) is not None


def _event(kind: str) -> Event:
    return Event(
        id="1-1",
        source="/streams/alice/render",
        type=f"org.vmbroker.{kind}",
        time="2026-11-22T14:39:13.447Z",
        sequence="1",
        data={"first": 1, "last": 1},
    )


def _stream() -> StreamView:
    return StreamView(
        stream="alice/render", revision=1, spec=StreamSpec(machine="m", run="true"), counts={"ready": 1}, created_at=""
    )
