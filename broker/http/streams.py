"""Streams: their specs, and what is done to all of one."""

import re

from aiohttp import web

from broker.domain import prefixes, specs, targets
from broker.domain.errors import Rejected
from broker.domain.faults import Fault, rejected
from broker.domain.paths import FILE_SCHEME, parse_file_url
from broker.domain.scopes import Authority
from broker.http.call import Call, allow, json_answer, limit
from broker.http.contract import JSON, NOT_SEEN, Content, Form, operation
from broker.http.handing_out import check_uses
from broker.http.parameters import DRY_RUN, REVISION, USER
from broker.http.rehearsing import Rehearsal
from broker.http.stream_callbacks import check_callback
from broker.store.catalogue import machine_not_usable
from broker.wire.items import DryRun
from broker.wire.names import StreamRef, UserName, check_name
from broker.wire.problems import ProblemCode
from broker.wire.streams import BulkAct, BulkRequest, PauseRequest, RevisionView, StreamSpec, StreamView

_REVISION = re.compile(r"[1-9][0-9]{0,8}")


@operation(
    takes=StreamSpec,
    answers={200: Content(JSON, Form.JSON, (StreamView, DryRun))},
    parameters=(DRY_RUN,),
    problems=(ProblemCode.BAD_SPEC, ProblemCode.PURGING, ProblemCode.QUOTA_EXCEEDED),
)
async def put_stream(call: Call) -> web.Response:
    """Create the stream, or give it a new revision of its spec; with `?dry_run=1` check the spec, and keep nothing."""
    dry_run = call.query("dry_run").get("dry_run", "0")
    if dry_run not in {"0", "1"}:
        raise Rejected(ProblemCode.BAD_REQUEST, "dry_run is 0 or 1")
    spec = await call.body(StreamSpec)
    specs.check_spec(spec, call.stream)
    await _check_machine(call, spec)
    await check_uses(call, spec)
    await check_callback(call, spec)
    await _check_inputs(call, spec)
    may_be = (await call.services.store.get_user(call.stream.user)).targets
    endpoint = spec.s3.endpoint if spec.s3 else None
    if may_be is not None and not prefixes.is_below(spec.output.to, call.stream, may_be, endpoint=endpoint):
        where = " or ".join(may_be)
        raise Rejected(
            ProblemCode.BAD_SPEC,
            f"output.to: targets of {call.stream.user} are to be below {where}, and {spec.output.to!r} is not",
        )
    below = targets.written_below(spec.output.to, call.stream)
    if below is not None:
        allow(call.who, Authority.FILE_WRITE, below)
    if dry_run == "1":
        return json_answer(Rehearsal.of_spec(call.stream, spec))
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


@operation(takes=PauseRequest, answers=StreamView, body_is_optional=True)
async def pause(call: Call) -> web.Response:
    """Let the stream give nothing out for now."""
    request = await call.optional_body(PauseRequest)
    await call.services.store.pause(call.stream, call.who.subject, checked_reason(request.reason))
    return json_answer(await known_stream(call))


@operation(answers=StreamView, problems=(ProblemCode.PURGING,))
async def resume(call: Call) -> web.Response:
    """Let the stream give out again."""
    await call.services.store.resume(call.stream, call.who.subject)
    return json_answer(await known_stream(call))


_bulk = operation(
    takes=BulkRequest, answers={202: StreamView}, problems=(ProblemCode.BULK_BUSY,), body_is_optional=True
)
_release = operation(
    takes=BulkRequest,
    answers={202: StreamView},
    problems=(ProblemCode.BULK_BUSY, ProblemCode.QUOTA_EXCEEDED),
    body_is_optional=True,
)


@_bulk
async def cancel_all(call: Call) -> web.Response:
    return await _start_bulk(call, BulkAct.CANCEL, await call.optional_body(BulkRequest))


@_bulk
async def hold_all(call: Call) -> web.Response:
    return await _start_bulk(call, BulkAct.HOLD, await call.optional_body(BulkRequest))


@_release
async def release_all(call: Call) -> web.Response:
    return await _start_bulk(call, BulkAct.RELEASE, await call.optional_body(BulkRequest))


@operation(answers={202: StreamView})
async def purge(call: Call) -> web.Response:
    """Remove the stream and all its items; it is gone when it is no longer found."""
    await call.services.store.start_bulk(call.stream, BulkAct.PURGE, BulkRequest(), call.who.subject)
    return json_answer(await known_stream(call), status=202)


async def _start_bulk(call: Call, act: BulkAct, request: BulkRequest) -> web.Response:
    """Begin an act on all items, or those in some states; the stream shows how far it came."""
    checked_reason(request.reason)
    await call.services.store.start_bulk(call.stream, act, request, call.who.subject)
    return json_answer(await known_stream(call), status=202)


def checked_reason(reason: str) -> str:
    """Return a person's reason.

    Raises:
        Rejected: `bad_request`: it is too long, or not printable.
    """
    if len(reason) > limit("reason_chars") or not (reason.isprintable() or not reason):
        raise Rejected(
            ProblemCode.BAD_REQUEST, f"a reason is one line of at most {limit('reason_chars')} printable characters"
        )
    return reason


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


async def _check_inputs(call: Call, spec: StreamSpec) -> None:
    """Check that files of ours that every item has as input are there, and may be read by who puts the spec."""
    files = {name: parse_file_url(url) for name, url in spec.inputs.items() if url.startswith(FILE_SCHEME)}
    readable = {file for file in files.values() if call.who.may(Authority.FILE_READ, file.user, *file.segments)}
    missing = set(files.values()) - (await call.services.files.find_all(readable) if readable else set())
    faults = [
        Fault("inputs", f"{name}: there is no file {file.url}, or you may not read it", "`broker file put` it first")
        for name, file in files.items()
        if file in missing
    ]
    if faults:
        raise rejected(ProblemCode.BAD_SPEC, "path", faults)


async def _check_machine(call: Call, spec: StreamSpec) -> None:
    """Check that the machine is the stream's user's to use: their own, or shared with them. The store looks again."""
    machine, user = specs.machine_of(spec, call.stream), call.stream.user
    if not call.who.may(Authority.READ, user) or not await call.services.store.may_use(user, machine):
        raise machine_not_usable(machine, user)
