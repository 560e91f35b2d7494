"""The launcher's calls: an item for its room, then what becomes of the vm.

A launcher is known as `TOKEN'S NAME/ITS OWN NAME`: one token may serve a whole machine or slot, while presence is each
launcher's own. The store checks every later call on a dispatch against the launcher that took it.
"""

import asyncio
import hashlib
import re
from typing import NamedTuple

import msgspec
import structlog
from aiohttp import web

from broker.auth.tickets import make_ticket
from broker.domain import deadlines, specs, targets
from broker.domain.errors import Rejected
from broker.http.addresses import origins_of, staged_addresses
from broker.http.call import Call, bounded, bounded_facts, check_room, check_users, json_answer, speaker
from broker.http.contract import JSON, NOTHING, Content, Form, operation
from broker.http.file_addresses import file_origins
from broker.http.handing_out import masked, masked_facts, masked_text, shown_values
from broker.http.offers import Offer
from broker.store import Dispatched
from broker.wire.dispatches import (
    MAX_BOOTED_XML_BYTES,
    MAX_CONSOLE_BYTES,
    MAX_DISPATCHES,
    MAX_WAIT_MS,
    DiskSource,
    DispatchAnswer,
    DispatchAnswers,
    DispatchExtend,
    DispatchExtended,
    DispatchLimits,
    DispatchRequest,
    EndVm,
    StagedItem,
    VmEnded,
    VmEvent,
)
from broker.wire.machines import Disk
from broker.wire.names import DispatchId, is_dispatch
from broker.wire.problems import ProblemCode
from broker.wire.states import Exchange

log = structlog.get_logger(__name__)

_DISPATCH_KEY = re.compile(r"[\x21-\x7e]{16,128}")


@operation(
    takes=DispatchRequest,
    answers={200: Content(JSON, Form.JSON, (DispatchAnswer, DispatchAnswers)), 204: NOTHING},
    problems=(ProblemCode.TOO_MANY_LAUNCHERS,),
)
async def dispatch(call: Call) -> web.Response:
    """Wait for items that fit the offered room; 204 when none came."""
    request = await call.body(DispatchRequest)
    if not _DISPATCH_KEY.fullmatch(request.dispatch_key):
        raise Rejected(ProblemCode.BAD_REQUEST, "dispatch_key is not good: send 16 to 128 random printable characters")
    check_room(request.room, "room")
    check_users(request.users)
    if request.most is not None and not 1 <= request.most <= MAX_DISPATCHES:
        raise Rejected(ProblemCode.BAD_REQUEST, f"most is {request.most}: take 1 to {MAX_DISPATCHES} items at once")
    came_s = asyncio.get_running_loop().time()
    offer = Offer(_bound(call, request), call.who.scopes, came_s, labels=call.who.labels, bound=call.who.bound)
    wait_s = max(0, min(request.wait_ms, MAX_WAIT_MS)) / 1000
    found = await call.services.waiting.offer(offer, lambda: _may_be_given(call), wait_s)
    if not found:
        return web.Response(status=204)
    common = _Common([targets.origin_of(call.services.urls.public_url), *file_origins(call)], {})
    answers = [await _answer(call, each, common) for each in found]
    return json_answer(answers[0] if request.most is None else DispatchAnswers(dispatches=answers))


@operation(takes=DispatchExtend, answers=DispatchExtended)
async def extend(call: Call) -> web.Response:
    """Take note that the launcher is there, and tell it what to do."""
    body = await call.body(DispatchExtend)
    launcher = speaker(call, body.launcher)
    return json_answer(await call.services.store.extend_dispatch(_dispatch(call), launcher, body.stops_in_ms))


@operation(takes=VmEvent, answers=DispatchExtended)
async def vm_event(call: Call) -> web.Response:
    """Note a phase of the vm; answered like an extend."""
    event = await call.body(VmEvent)
    dispatch, launcher = _dispatch(call), speaker(call, event.launcher)
    await call.services.store.vm_event(dispatch, launcher, event.phase, bounded_facts(event.facts))
    return json_answer(await call.services.store.extend_dispatch(dispatch, launcher))


@operation(takes=EndVm, answers=VmEnded)
async def end(call: Call) -> web.Response:
    """Note the verdict and keep the console's tail."""
    body = await call.body(EndVm)
    if len(body.console) > MAX_CONSOLE_BYTES:
        raise Rejected(ProblemCode.TOO_LARGE, f"a console's tail is at most {MAX_CONSOLE_BYTES} bytes: send its end")
    if len(body.domain_xml.encode()) > MAX_BOOTED_XML_BYTES:
        raise Rejected(
            ProblemCode.TOO_LARGE, f"a booted vm's XML is at most {MAX_BOOTED_XML_BYTES} bytes: leave it out"
        )
    dispatch, launcher = _dispatch(call), speaker(call, body.launcher)
    body = await _masked(call, dispatch, body)
    kept = msgspec.structs.replace(
        body, sentence=bounded(body.sentence, 1_000), facts=bounded_facts(body.facts), console=b"", domain_xml=""
    )
    ended = await call.services.store.end(dispatch, launcher, kept, has_console=bool(body.console))
    # After the store, which knows whether this launcher may speak of that vm; lost in between, a retry brings it again.
    await _keep_tails(call, dispatch, body)
    return json_answer(ended)


async def _masked(call: Call, dispatch: DispatchId, end: EndVm) -> EndVm:
    """Take the secrets that the vm was given out of what it said."""
    values = await shown_values(call.services, await call.services.store.secrets_of_vm(dispatch))
    if not values:
        return end
    return msgspec.structs.replace(
        end,
        sentence=await masked_text(end.sentence, values),
        facts=await masked_facts(bounded_facts(end.facts), values),
        console=await masked(end.console, values),
    )


async def _keep_tails(call: Call, dispatch: DispatchId, end: EndVm) -> None:
    """Keep the console's tail and the booted XML; the store's answer stands whatever becomes of them."""
    try:
        if end.console:
            await call.services.tails.keep_console(dispatch, end.console)
        if end.domain_xml:
            await call.services.tails.keep_domain_xml(dispatch, end.domain_xml)
    except OSError as error:
        log.warning("tails_not_kept", dispatch=dispatch, reason=str(error))


def _may_be_given(call: Call) -> bool:
    """Tell whether an item may be given to who waited: still there, and not revoked meanwhile."""
    return is_connected(call.request) and not call.services.revocations.includes(call.who)


def is_connected(request: web.Request) -> bool:
    """Tell whether an answer could still arrive."""
    return request.transport is not None and not request.transport.is_closing()


def _bound(call: Call, request: DispatchRequest) -> DispatchRequest:
    """Bind the request to its token: nobody's key reaches another launcher's dispatch."""
    launcher = speaker(call, request.launcher)
    key = hashlib.sha256(f"{launcher}\0{request.dispatch_key}".encode()).hexdigest()
    return msgspec.structs.replace(
        request,
        dispatch_key=key,
        launcher=launcher,
        node=bounded(request.node, 255),
        client=bounded(request.client, 200),
    )


def _dispatch(call: Call) -> DispatchId:
    dispatch = call.request.match_info["dispatch"]
    if not is_dispatch(dispatch):
        raise Rejected(ProblemCode.NOT_FOUND, f"{dispatch[:64]!r} is no dispatch of this launcher")
    return DispatchId(dispatch)


class _Sources(NamedTuple):
    """Where a machine's files can be had."""

    disks: dict[str, DiskSource]
    nvram: DiskSource | None


class _Common(NamedTuple):
    """What is made once for all items of one answer: origins that every vm may reach, files signed by machine."""

    origins: list[str | None]
    sources: dict[tuple[str, int], _Sources]


async def _answer(call: Call, found: Dispatched, common: _Common) -> DispatchAnswer:
    machine = found.machine
    name = (machine.machine, machine.revision)
    sources = common.sources[name] = common.sources.get(name) or _Sources(
        {target: _source(call, disk) for target, disk in machine.disks.items()},
        _source(call, machine.nvram) if machine.nvram is not None else None,
    )
    return DispatchAnswer(
        dispatch=found.dispatch,
        item=str(found.item.ref),
        fence=found.fence,
        ticket=make_ticket(call.services.keys.mac, found.dispatch),
        machine=machine.machine,
        machine_revision=machine.revision,
        domain_xml=machine.domain_xml,
        disks=sources.disks,
        nvram=sources.nvram,
        vcpus=found.size.vcpus,
        memory_mib=found.size.memory_mib,
        disk_mib=found.size.disk_mib,
        limits=DispatchLimits(
            boot_ms=found.boot_ms,
            run_ms=found.spec.limits.run_ms,
            first_deadline_ms=deadlines.FIRST_DEADLINE_MS,
            heartbeat_ms=call.services.deadlines.heartbeat_ms,
        ),
        origins=_origins(common.origins, found) if _has_network(found) else [],
        exchange=found.spec.needs.exchange,
        exchange_folder=found.spec.needs.exchange_folder if found.spec.needs.exchange is Exchange.ROOTDISK else "",
        staged=None if _has_network(found) else await _staged(call, found),
    )


def _source(call: Call, disk: Disk) -> DiskSource:
    """Tell where an image can be had: where its owner says, or here, signed for a while."""
    return DiskSource(
        digest=disk.digest,
        size_bytes=disk.size_bytes,
        format=disk.format,
        url=disk.url or call.services.urls.sign("GET", f"/v1/images/{disk.digest}"),
    )


def _has_network(found: Dispatched) -> bool:
    return found.spec.needs.exchange is Exchange.NETWORK


async def _staged(call: Call, found: Dispatched) -> StagedItem:
    """Tell all of the item that its guest cannot ask for."""
    spec, item = found.spec, found.item
    first, inputs = await staged_addresses(call, found)
    return StagedItem(
        run=spec.run,
        script=spec.script,
        as_user=spec.as_user,
        params=specs.params_of(spec, item.params),
        output_files=list(spec.output.files),
        output_mib=spec.limits.output_mib,
        input_name=targets.input_name(item.url) if item.url else None,
        input=first,
        inputs=inputs,
        input_names={name: targets.input_name(signed.target) for name, signed in inputs.items()},
    )


def _origins(of_broker: list[str | None], found: Dispatched) -> list[str]:
    """List what the vm may reach, each once: broker, its files' bucket, inputs, targets, what the stream names."""
    wanted = [*of_broker, *origins_of(found), *found.spec.network]
    return list(dict.fromkeys(origin for origin in wanted if origin))
