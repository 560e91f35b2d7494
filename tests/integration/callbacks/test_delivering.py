"""One callback to a real receiver: what is sent, and what its answer makes of it."""

import json
import socket
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import pytest
from aiohttp import web
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from cloudevents.core.formats.json import JSONFormat
from standardwebhooks import Webhook, WebhookVerificationError

from broker.callbacks import delivering
from broker.callbacks.delivering import BOUNDS, deliver
from broker.client.origins import Origin
from broker.client.outgoing import Bounds, OutgoingClient
from broker.domain.callbacks import ATTEMPTS
from broker.store.answers import CallbackOutcome
from broker.wire.callbacks import Callback, CallbackState
from broker.wire.names import OwnedName
from broker.wire.secrets import SecretKind
from tests.integration.callbacks.conftest import BODY, OWED, Broker, new_key
from tests.integration.store.scene import ALICE, RENDER
from tests.support import receivers
from tests.support.authority import Authority
from tests.support.receivers import SAID, Receiver, receiving, with_status

WAITING, DELIVERED, DEAD = CallbackState.WAITING, CallbackState.DELIVERED, CallbackState.DEAD
SOON = Bounds(size_bytes=BOUNDS.size_bytes, total_s=0.3)


async def test_what_is_told_is_a_signed_cloud_event(broker: Broker, receiver: Receiver) -> None:
    key = new_key()
    await broker.put_key("hook", key)

    outcome = await deliver(broker, OWED, 1)

    assert outcome == CallbackOutcome(DELIVERED, "its server answered 200", 200)
    (told,) = receiver.told
    assert Webhook(key).verify(told.body, dict(told.headers.items())) == json.loads(BODY)
    assert told.headers["webhook-id"] == OWED.id
    event = from_structured_event(HTTPMessage(dict(told.headers), told.body), JSONFormat())
    assert (event.get_id(), event.get_subject()) == ("1-7", "alice/render/17")
    assert event.get_data() == {"fence": 3, "exit_code": 0}


async def test_while_a_key_is_replaced_either_verifies_and_no_other(broker: Broker, receiver: Receiver) -> None:
    old, new = new_key(), new_key()
    await broker.put_key("old", old)
    await broker.put_key("new", f"{new}\n")
    await broker.name(Callback(url=receiver.url, secrets=("new", "old")))

    await deliver(broker, OWED, 1)

    (told,) = receiver.told
    headers = dict(told.headers.items())
    for key in (old, new):
        assert Webhook(key).verify(told.body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_key()).verify(told.body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new).verify(told.body.replace(b"completed", b"cancelled"), headers)


async def test_each_attempt_has_the_same_id_and_body(broker: Broker, receiver: Receiver) -> None:
    receiver.answer = with_status(500)
    for attempt in (1, 2):
        await deliver(broker, OWED, attempt)
    assert len({told.headers["webhook-id"] for told in receiver.told}) == 1
    assert [told.body for told in receiver.told] == [BODY, BODY]


@pytest.mark.parametrize(
    ("answer", "state", "status", "said"),
    [
        (with_status(204), DELIVERED, 204, "its server answered 204"),
        (with_status(500), WAITING, 500, "its server answered 500"),
        (with_status(302, Location="https://127.0.0.1:1/"), WAITING, 302, "redirects are not followed"),
        (with_status(304), WAITING, 304, "redirects are not followed"),
        (with_status(410), DEAD, 410, "gone: it is told nothing more of this stream"),
        (with_status(429, Retry_After="7000"), WAITING, 429, "and asks to wait 1h56m40s"),
        (with_status(503, Retry_After="x" * 1_000), WAITING, 503, "its server answered 503"),
        (receivers.never, WAITING, None, "was not answered within 0.3 s"),
        (receivers.dripping_head, WAITING, None, ""),
        (receivers.close, WAITING, None, "broke"),
        (receivers.huge, DELIVERED, 200, "its server answered 200"),
        (receivers.dripping, DELIVERED, 200, "its server answered 200"),
    ],
)
async def test_the_answer_decides_and_is_never_shown(
    broker: Broker,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    answer: receivers.Answering,
    state: CallbackState,
    status: int | None,
    said: str,
) -> None:
    monkeypatch.setattr(delivering, "BOUNDS", SOON)
    receiver.answer = answer

    outcome = await deliver(broker, OWED, 1)

    assert (outcome.state, outcome.status) == (state, status)
    assert said in outcome.sentence
    assert SAID not in outcome.sentence
    assert (outcome.again_ms > 0) == (state is WAITING)
    assert len(receiver.told) == 1, "nothing is followed"


async def test_a_server_is_given_the_time_that_it_asks_for(broker: Broker, receiver: Receiver) -> None:
    later = datetime.fromtimestamp(datetime.now(UTC).timestamp() + 3_600, UTC)
    receiver.answer = with_status(503, Retry_After=format_datetime(later, usegmt=True))
    assert 3_500_000 < (await deliver(broker, OWED, 1)).again_ms < 4_600_000
    receiver.answer = with_status(500, Retry_After="3600")
    assert (await deliver(broker, OWED, 1)).again_ms < 10_000, "of these two statuses alone"


async def test_after_the_last_attempt_it_is_given_up(broker: Broker, receiver: Receiver) -> None:
    receiver.answer = with_status(500)
    outcome = await deliver(broker, OWED, ATTEMPTS)
    assert (outcome.state, outcome.status, outcome.again_ms) == (DEAD, 500, 0)
    assert "`broker callback replay` begins anew" in outcome.sentence


async def test_connections_are_kept_from_one_to_the_next(broker: Broker, receiver: Receiver) -> None:
    peers = set()

    async def remember(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return await with_status(200)(request)

    receiver.answer = remember
    for _ in range(3):
        await deliver(broker, OWED, 1)
    assert len(peers) == 1


async def test_a_certificate_of_another_name_or_authority_is_no_server_of_the_streams(
    broker: Broker, authority: Authority, tmp_path: Path
) -> None:
    for issuer, host in ((authority, "other.example"), (Authority(), "127.0.0.1")):
        async with (
            receiving(issuer, tmp_path, host) as other,
            OutgoingClient([other.origin], authority.ca_pem) as outgoing,
        ):
            await broker.name(Callback(url=other.url, secrets=("hook",)))
            outcome = await deliver(Broker(broker.store, broker.keys, outgoing), OWED, 1)
        assert (outcome.state, other.told) == (WAITING, [])
        assert "certificate" in outcome.sentence


async def test_what_is_not_on_the_public_internet_is_not_told(broker: Broker, receiver: Receiver) -> None:
    async with OutgoingClient() as outgoing:
        outcome = await deliver(Broker(broker.store, broker.keys, outgoing), OWED, 1)
    assert (outcome.state, receiver.told) == (WAITING, [])
    assert "loopback address" in outcome.sentence
    assert "outgoing_trusted" in outcome.sentence


async def test_nobody_there_is_told_as_such(broker: Broker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"https://127.0.0.1:{closed.getsockname()[1]}/hook?token=x"
    async with OutgoingClient([Origin.parse(url)]) as outgoing:
        await broker.name(Callback(url=url, secrets=("hook",)))
        outcome = await deliver(Broker(broker.store, broker.keys, outgoing), OWED, 1)
    assert "/hook cannot be reached: " in outcome.sentence
    assert "token" not in outcome.sentence


async def test_without_its_key_nothing_is_sent_and_what_is_owed_waits(broker: Broker, receiver: Receiver) -> None:
    await broker.put_key("token", "x" * 40, SecretKind.BEARER_TOKEN)
    await broker.name(Callback(url=receiver.url, secrets=("hook", "token")))
    outcome = await deliver(broker, OWED, 1)
    assert outcome.sentence.startswith("there is no secret alice/token of kind webhook_key")
    await broker.name(Callback(url=receiver.url, secrets=("hook",)))
    await broker.store.delete_secret(OwnedName(ALICE, "hook"))
    outcome = await deliver(broker, OWED, 1)
    assert (outcome.state, receiver.told) == (WAITING, [])
    assert outcome.sentence.startswith("there is no secret alice/hook of kind webhook_key")


async def test_without_a_callback_there_is_nobody_to_tell(broker: Broker, receiver: Receiver) -> None:
    await broker.name(None)
    outcome = await deliver(broker, OWED, 1)
    assert (outcome.state, receiver.told) == (DEAD, [])
    assert outcome.sentence == "the stream alice/render has no callback any more: nobody is to be told"


async def test_a_server_that_is_gone_turns_the_streams_callback_off_until_it_is_named_anew(
    broker: Broker, receiver: Receiver
) -> None:
    receiver.answer = with_status(410)
    outcome = await deliver(broker, OWED, 1)
    view = await broker.store.get_stream(RENDER)
    assert view is not None
    assert view.callback_off is not None
    assert view.callback_off.sentence == outcome.sentence

    async def after_a_change(request: web.Request) -> web.StreamResponse:
        await broker.name(Callback(url=f"{receiver.url}/new", secrets=("hook",)))
        return await with_status(410)(request)

    receiver.answer = after_a_change
    await deliver(broker, OWED, 2)
    view = await broker.store.get_stream(RENDER)
    assert view is not None
    assert view.callback_off is None, "another server than the one that is gone"
