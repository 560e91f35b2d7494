"""A stream's callback: what its spec says of it is checked, and its server is told of an event that settles nothing."""

import asyncio
import secrets
import time

import msgspec
import structlog
from aiohttp import web

from broker.callbacks.delivering import CannotSign, tell
from broker.client.errors import Unreachable
from broker.domain.callbacks import is_success, said_by
from broker.domain.errors import Rejected
from broker.domain.faults import Fault, rejected
from broker.domain.scopes import Authority
from broker.http.call import Call, allow, json_answer
from broker.http.contract import operation
from broker.store.records import rfc3339
from broker.wire.callbacks import CallbackTried, webhook_id
from broker.wire.events import TYPE_PREFIX, Event
from broker.wire.names import OwnedName, StreamRef
from broker.wire.problems import ProblemCode
from broker.wire.secrets import SecretKind
from broker.wire.streams import StreamSpec

TEST = f"{TYPE_PREFIX}callback.test"
"""The type of an event that no log holds."""
_NOT_IN_A_LOG = "0" * 20
_KIND = SecretKind.WEBHOOK_KEY

log = structlog.get_logger(__name__)


@operation(answers=CallbackTried, problems=(ProblemCode.TOO_MANY_TESTS,))
async def try_callback(call: Call) -> web.Response:
    """Tell the stream's server of an event that settles nothing, once, and say what came of it: the status alone."""
    known = await call.services.store.latest_spec(call.stream)
    if known is None or known[1].callback is None:
        what = "there is no stream" if known is None else "no callback is named by the stream"
        how = f"`broker stream add {call.stream.name} --callback url=URL --callback secret=NAME` names one"
        raise Rejected(ProblemCode.NOT_FOUND, f"{what} {call.stream}: {how}")
    event = trial_event(call.stream)
    id_, clock = webhook_id(event.source, event.id), asyncio.get_running_loop().time
    began_s, status = clock(), None
    try:
        with call.services.callback_tests.place(call.who.subject):
            answer = await tell(call.services, call.stream, known[1].callback, id_, msgspec.json.encode(event))
    except (CannotSign, Unreachable) as error:
        sentence = str(error)
    else:
        status, sentence = answer.status, said_by(answer.status)
    log.info("callback_tested", stream=str(call.stream), by=call.who.subject, status=status)
    return json_answer(
        CallbackTried(
            callback=id_,
            delivered=status is not None and is_success(status),
            sentence=sentence,
            status=status,
            took_ms=int((clock() - began_s) * 1_000),
        )
    )


def trial_event(stream: StreamRef) -> Event:
    """Make an event that settles nothing, and is no other one's copy."""
    return Event(
        id=f"test-{secrets.token_hex(8)}",
        source=f"/streams/{stream}",
        type=TEST,
        time=rfc3339(int(time.time() * 1_000)),
        sequence=_NOT_IN_A_LOG,
        data={"sentence": "a test of this stream's callback: no item was settled"},
    )


async def check_callback(call: Call, spec: StreamSpec) -> None:
    """Check that whoever puts the spec may use the callback's keys, that they are there, and that its address is asked.

    Raises:
        Rejected: `forbidden`, `not_found`, `bad_spec`.
    """
    if spec.callback is None:
        return
    names = spec.callback.secrets
    for name in names:
        allow(call.who, Authority.SECRET_USE, (call.stream.user, name))
    known = await call.services.store.sealed_secrets([OwnedName(call.stream.user, name) for name in names])
    kinds = {name: known[name].kind if name in known else None for name in names}
    faults = [
        Fault(
            "callback",
            f"there is no secret {call.stream.user}/{name}" if kind is None else f"{name} is {kind}, no {_KIND}",
            f"`broker secret add {name} --kind {_KIND}`",
        )
        for name, kind in kinds.items()
        if kind is not _KIND
    ]
    try:
        call.services.outgoing.check(spec.callback.url)
    except Unreachable as error:
        faults.append(Fault("callback", str(error), "write https://HOST/PATH"))
    if faults:
        raise rejected(ProblemCode.BAD_SPEC, "path", faults)
