"""Streams, and what is pushed into them."""

import hashlib
import re
from collections.abc import Iterator

import msgspec
from aiohttp import web

from broker.domain import pushes, specs, targets
from broker.domain.errors import Rejected
from broker.domain.faults import MAX_FAULTS
from broker.domain.paths import FilePath
from broker.domain.scopes import Authority
from broker.http.call import Call, allow, decode, json_answer, limit
from broker.http.contract import NDJSON, NOT_SEEN, lines_of, operation
from broker.http.parameters import IDEMPOTENCY_KEY, REVISION, USER
from broker.store.catalogue import machine_not_usable
from broker.wire.items import NewItem, Pushed
from broker.wire.names import StreamRef, UserName, check_name
from broker.wire.problems import ProblemCode
from broker.wire.streams import RevisionView, StreamSpec, StreamView

_MAX_KEY = 255
_REVISION = re.compile(r"[1-9][0-9]{0,8}")
_ITEM = msgspec.json.Decoder(NewItem)


@operation(takes=StreamSpec, answers=StreamView, problems=(ProblemCode.BAD_SPEC,))
async def put_stream(call: Call) -> web.Response:
    """Create the stream, or give it a new revision of its spec."""
    spec = await call.body(StreamSpec)
    specs.check_spec(spec, call.stream)
    await _check_machine(call, spec)
    below = targets.written_below(spec.output.to, call.stream)
    if below is not None:
        allow(call.who, Authority.FILE_WRITE, below)
    return json_answer(await call.services.store.put_stream(call.stream, spec))


@operation(answers=StreamView, parameters=(REVISION,))
async def get_stream(call: Call) -> web.Response:
    """Send the latest spec, or that of `?revision=`, and the counts as they are now."""
    text = call.query("revision").get("revision")
    if text is None:
        return json_answer(await known_stream(call))
    if not _REVISION.fullmatch(text):
        raise Rejected(ProblemCode.BAD_REQUEST, "revision is a number from 1")
    await known_stream(call)
    view = await call.services.store.get_stream(call.stream, int(text))
    if view is None:
        raise Rejected(
            ProblemCode.NOT_FOUND,
            f"{call.stream} has no revision {text}: `broker stream revisions {call.stream}` lists them",
        )
    return json_answer(view)


@operation(answers=list[RevisionView])
async def list_revisions(call: Call) -> web.Response:
    await known_stream(call)
    return json_answer(await call.services.store.revisions(call.stream))


@operation(answers=list[StreamView], problems=NOT_SEEN, parameters=(USER,))
async def list_streams(call: Call) -> web.Response:
    user = check_name(call.query("user").get("user", call.who.subject), "user")
    allow(call.who, Authority.READ, (user,))
    return json_answer(await call.services.store.list_streams(UserName(user)))


@operation(
    takes=(list[NewItem], lines_of(NewItem)),
    answers={201: Pushed},
    problems=(ProblemCode.BAD_ITEMS, ProblemCode.BAD_SPEC, ProblemCode.KEY_REUSED),
    parameters=(IDEMPOTENCY_KEY,),
)
async def push(call: Call) -> web.Response:
    """Add items, all or none. With an `Idempotency-Key` the same body gets the first answer again."""
    body = await call.request.read()
    key = _key(call)
    digest = hashlib.sha256(body).hexdigest()
    view = await known_stream(call)
    # Before anything is checked: what was right when it was accepted may have changed since.
    known = await call.services.store.first_answer(call.stream, key, digest) if key is not None else None
    if known is not None:
        return json_answer(known, status=201)
    items = _decode_items(body, call.request.content_type)
    await _check_share(call, view.spec)
    pushes.check_items(view.spec, call.stream, items)
    await _check_inputs(call, items)
    pushed = await call.services.store.push(call.stream, items, idempotency_key=key, body_digest=digest)
    return json_answer(pushed, status=201)


async def known_stream(call: Call) -> StreamView:
    """Return the stream of the address.

    Raises:
        Rejected: `not_found`.
    """
    view = await call.services.store.get_stream(call.stream)
    if view is None:
        raise no_stream(call.stream)
    return view


def no_stream(stream: StreamRef) -> Rejected:
    return Rejected(ProblemCode.NOT_FOUND, f"there is no stream {stream}: add it with `broker stream add`")


async def _check_machine(call: Call, spec: StreamSpec) -> None:
    """Check that the machine is the stream's user's to use: their own, or shared with them. The store looks again."""
    machine, user = specs.machine_of(spec, call.stream), call.stream.user
    if not call.who.may(Authority.READ, user) or not await call.services.store.may_use(user, machine):
        raise machine_not_usable(machine, user)


async def _check_share(call: Call, spec: StreamSpec) -> None:
    """Check that what is pushed could run: a share may have been taken back since the spec was put."""
    machine, user = specs.machine_of(spec, call.stream), call.stream.user
    if not await call.services.store.may_use(user, machine):
        raise machine_not_usable(machine, user)


def _key(call: Call) -> str | None:
    key = call.request.headers.get("Idempotency-Key")
    if key is not None and not (0 < len(key) <= _MAX_KEY and key.isascii() and key.isprintable()):
        raise Rejected(ProblemCode.BAD_REQUEST, f"Idempotency-Key is 1 to {_MAX_KEY} printable ASCII characters")
    return key


def _decode_items(body: bytes, content_type: str) -> list[NewItem]:
    items = list(_lines(body)) if content_type == NDJSON else decode(body, list[NewItem])
    if not items:
        raise Rejected(ProblemCode.BAD_REQUEST, "the push holds no item: send at least one")
    if len(items) > limit("push_items"):
        raise Rejected(ProblemCode.TOO_LARGE, f"one push takes {limit('push_items')} items: cut it into several")
    return items


def _lines(body: bytes) -> Iterator[NewItem]:
    for number, line in enumerate(body.splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield _ITEM.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            refusal = {"line": str(number), "reason": str(error), "remedy": 'write {"url": …, "name": …, "params": …}'}
            raise Rejected(
                ProblemCode.BAD_ITEMS, f"line {number} is no item: {error}; nothing was accepted", refusals=[refusal]
            ) from error


async def _check_inputs(call: Call, items: list[NewItem]) -> None:
    files = pushes.input_files(items)
    readable = {file for file in files if call.who.may(Authority.FILE_READ, file.user, *file.segments)}
    missing = files - await call.services.files.find_all(readable)
    if missing:
        lines = sorted(_refusals(items, missing), key=lambda refusal: int(refusal["line"]))
        raise Rejected(
            ProblemCode.BAD_ITEMS,
            f"line {lines[0]['line']}: {lines[0]['reason']}; {lines[0]['remedy']}",
            refusals=lines[:MAX_FAULTS],
        )


def _refusals(items: list[NewItem], missing: set[FilePath]) -> Iterator[dict[str, str]]:
    urls = {file.url for file in missing}
    for line, item in enumerate(items, 1):
        if item.url in urls:
            reason = f"there is no file {item.url}, or you may not read it"
            yield {"line": str(line), "reason": reason, "remedy": "upload it with `broker file put`"}
