"""One attempt to deliver one callback: from what is owed to what became of it.

Where it goes and by which keys it is signed is read anew for each attempt: what a researcher mends counts for what is
owed already. The store says what is owed, and alone keeps what becomes of it; whoever runs this may die at any point,
and the attempt is made again. So a server may be told twice, by the same `webhook-id`.

The server's answer comes down to its status and `Retry-After`; no byte of it is kept or shown.
"""

import email.utils
import random
import time
from datetime import UTC
from typing import Protocol

import structlog

from broker.auth.keys import BrokerKeys
from broker.auth.sealing import CannotUnseal
from broker.callbacks.signing import BadKey, read_key, signature_of
from broker.client.errors import Unreachable
from broker.client.outgoing import Answer, Bounds, OutgoingClient
from broker.domain import callbacks
from broker.domain.callbacks import Verdict
from broker.store import Store
from broker.store.answers import CallbackOutcome, OwedCallback
from broker.wire.callbacks import Callback
from broker.wire.names import OwnedName, StreamRef
from broker.wire.secrets import SecretKind

MEDIA_TYPE = "application/cloudevents+json"
BOUNDS = Bounds(size_bytes=65_536, total_s=15.0)
_MOST_RETRY_AFTER_CHARS = 64
_MOST_DIGITS = 9

log = structlog.get_logger(__name__)


class Services(Protocol):
    """What delivering needs."""

    @property
    def store(self) -> Store: ...

    @property
    def keys(self) -> BrokerKeys: ...

    @property
    def outgoing(self) -> OutgoingClient: ...


class CannotSign(Exception):
    """The keys of a stream's callback cannot be had; the text is a sentence for the stream's user."""


async def deliver(services: Services, owed: OwedCallback, attempt: int) -> CallbackOutcome:
    """Tell a stream's server of one event, once, within `BOUNDS`; return what is to be noted of it.

    When the server wants to hear no more, the stream's callback is off already on return.

    Args:
        services: An open client among them.
        owed: What is owed, as the store gave it out.
        attempt: Which one this is, from 1.

    Raises:
        Unavailable: the store is away; the event may have arrived all the same.
    """
    verdict = await _attempt(services, owed, attempt)
    log.info(
        "callback_attempted",
        callback=owed.id,
        stream=str(owed.stream),
        attempt=attempt,
        state=verdict.state.value,
        status=verdict.status,
    )
    return CallbackOutcome(verdict.state, verdict.sentence, verdict.status, verdict.again_ms)


async def tell(services: Services, stream: StreamRef, callback: Callback, webhook_id: str, body: bytes) -> Answer:
    """Sign an event and send it to a stream's server, once, within `BOUNDS`; return the head of what it answered.

    Raises:
        CannotSign: nothing was sent.
        Unreachable: no answer came; the event may have arrived all the same.
        Unavailable: the store is away; nothing was sent.
    """
    headers = await _headers(services, stream, callback, webhook_id, body)
    return await services.outgoing.tell(callback.url, body, headers=headers, bounds=BOUNDS)


async def _attempt(services: Services, owed: OwedCallback, attempt: int) -> Verdict:
    known = await services.store.latest_spec(owed.stream)
    if known is None:
        return callbacks.hopeless(f"the stream {owed.stream} was removed: nobody is to be told any more")
    callback = known[1].callback
    if callback is None:
        return callbacks.hopeless(f"the stream {owed.stream} has no callback any more: nobody is to be told")
    jitter = random.random()  # noqa: S311 # spreads retries, and protects nothing
    try:
        answer = await tell(services, owed.stream, callback, owed.id, owed.body)
    except (CannotSign, Unreachable) as error:
        return callbacks.after_silence(str(error), attempt, jitter)
    wait_s = retry_after_s(answer.headers.get("Retry-After", ""), time.time())
    verdict = callbacks.after_answer(answer.status, wait_s, attempt, jitter)
    if verdict.is_off:
        await _turn_off(services, owed.stream, callback, verdict.sentence)
    return verdict


async def _turn_off(services: Services, stream: StreamRef, callback: Callback, sentence: str) -> None:
    """Owe a server nothing more; not the one that the stream names by now, if that is another."""
    known = await services.store.latest_spec(stream)
    if known is not None and known[1].callback == callback:
        await services.store.stop_callback(stream, sentence)


async def _headers(
    services: Services, stream: StreamRef, callback: Callback, webhook_id: str, body: bytes
) -> dict[str, str]:
    keys = await _signing_keys(services, stream, callback)
    timestamp_s = int(time.time())
    return {
        "Content-Type": MEDIA_TYPE,
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": signature_of(keys, webhook_id, timestamp_s, body),
    }


async def _signing_keys(services: Services, stream: StreamRef, callback: Callback) -> list[bytes]:
    """Return the keys that a callback names, unsealed, in its order.

    Raises:
        CannotSign: one of them is gone, of another kind, or cannot be opened. None is left out: the server may know
            that one alone.
    """
    refs = [OwnedName(stream.user, name) for name in callback.secrets]
    known = await services.store.sealed_secrets(refs)
    kind, keys = SecretKind.WEBHOOK_KEY, []
    for ref in refs:
        found = known.get(ref.name)
        if found is None or found.kind is not kind:
            raise CannotSign(f"there is no secret {ref} of kind {kind}: `broker secret add {ref.name} --kind {kind}`")
        try:
            keys.append(read_key(services.keys.unseal(found.sealed, ref.user, ref.name, str(found.version))))
        except (CannotUnseal, BadKey) as error:
            raise CannotSign(f"the secret {ref} cannot be opened by the broker: add it anew") from error
    return keys


def retry_after_s(text: str, now_s: float) -> float | None:
    """Return for how long a `Retry-After` asks to wait, seconds or a date; None when it says neither.

    Source: RFC 9110 section 10.2.3.
    """
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS:
        return float(text)
    if not text or len(text) > _MOST_RETRY_AFTER_CHARS:
        return None
    try:
        when = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    return max((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now_s, 0.0)
