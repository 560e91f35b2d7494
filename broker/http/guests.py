"""The guest's calls: a ticket buys the item, the lease token does everything after.

Nothing a guest says of its outputs is believed: what it names must be the targets that were computed for this very run,
and those in our own file service must be there, with that size and digest.
"""

import structlog
from aiohttp import web

from broker.auth import tickets
from broker.domain import specs, targets
from broker.domain.errors import Conflict, Rejected, Unavailable
from broker.domain.paths import FILE_SCHEME, parse_file_url
from broker.http.addresses import signed_addresses
from broker.http.call import Call, bounded, bounded_facts, json_answer
from broker.http.contract import operation
from broker.http.doors import bearer
from broker.http.handing_out import (
    changed_secrets,
    masked,
    masked_facts,
    masked_text,
    refuse_client,
    secrets_of_claim,
    shown_values,
)
from broker.http.s3_looking import unverified, verify_in_s3
from broker.store import Claimed, Lease
from broker.wire.items import OutputFile
from broker.wire.leases import (
    MAX_LOG_BYTES,
    MAX_OUTPUTS,
    ClaimAnswer,
    ClaimRequest,
    CompleteRequest,
    FailRequest,
    Input,
    LeaseExtend,
    LeaseExtended,
    LeaseLimits,
    Settled,
    UrlsAnswer,
    UrlsRequest,
)
from broker.wire.names import check_digest
from broker.wire.problems import ProblemCode
from broker.wire.secrets import GivenSecret

_MIB = 1_048_576
FIRST = 1
"""The fence of an item's first dispatch."""

log = structlog.get_logger(__name__)


@operation(
    takes=ClaimRequest,
    answers=ClaimAnswer,
    problems=(
        ProblemCode.TICKET_SPENT,
        ProblemCode.TICKET_REPLAYED,
        ProblemCode.SECRET_WITHHELD,
        ProblemCode.CLIENT_TOO_OLD,
        ProblemCode.LEASE_LOST,
    ),
)
async def claim(call: Call) -> web.Response:
    """Exchange the ticket for the item and a lease; the same claim key gets the same answer."""
    request = await call.body(ClaimRequest, "claim_bytes")
    ticket = tickets.verify_ticket(call.services.keys.mac, request.ticket)
    claim_key_hash = tickets.hash_claim_key(request.claim_key)
    nonce = tickets.make_nonce(call.services.keys.mac, ticket, claim_key_hash)
    claimed = await call.services.store.claim(
        ticket.dispatch,
        claim_key_hash=claim_key_hash,
        nonce_hash=tickets.hash_nonce(nonce),
        guest_os=bounded(request.guest_os, 200),
        client=bounded(request.client, 200),
    )
    if not request.takes_inputs and specs.needs_new_client(claimed.spec, claimed.item.url, claimed.item.inputs):
        await refuse_client(call.services, claimed)
    secrets = await secrets_of_claim(call, claimed, takes_secrets=request.takes_secrets)
    return json_answer(_claim_answer(call, claimed, nonce, secrets))


@operation(takes=LeaseExtend, answers=LeaseExtended, problems=(ProblemCode.LEASE_LOST,))
async def extend(call: Call) -> web.Response:
    lease = _lease(call)
    body = await call.body(LeaseExtend)
    return json_answer(await call.services.store.extend(lease, bounded(body.progress, 500)))


@operation(takes=UrlsRequest, answers=UrlsAnswer, problems=(ProblemCode.LEASE_LOST, ProblemCode.SECRET_WITHHELD))
async def urls(call: Call) -> web.Response:
    """Sign the input's address and those of the named outputs, anew each time, and hand out secrets that changed."""
    lease = _lease(call)
    body = await call.body(UrlsRequest)
    if max(len(body.outputs), len(body.uploads)) > MAX_OUTPUTS:
        raise Rejected(ProblemCode.TOO_LARGE, f"an item has at most {MAX_OUTPUTS} outputs")
    claimed = await call.services.store.leased(lease)
    if any(facts.size_bytes < 0 for facts in body.uploads.values()):
        raise Rejected(ProblemCode.BAD_REQUEST, "uploads: no output has less than 0 bytes")
    first, inputs, outputs = await signed_addresses(call, claimed, _targets(claimed, body.outputs), body.uploads)
    secrets = await changed_secrets(call, claimed, body.secrets)
    return json_answer(UrlsAnswer(input=first, inputs=inputs, outputs=outputs, secrets=secrets))


@operation(
    takes=CompleteRequest,
    answers=Settled,
    problems=(ProblemCode.LEASE_LOST, ProblemCode.RESULT_DIFFERS, ProblemCode.OUTPUT_NOT_VERIFIED),
)
async def complete(call: Call) -> web.Response:
    """Accept the result, once, after looking at it."""
    lease = _lease(call)
    body = await call.body(CompleteRequest)
    _check_log(body.log)
    await _verify_outputs(call, lease, body.outputs)
    values = await _shown(call, lease) if body.log else []
    facts = await masked_facts(bounded_facts(body.facts), values)
    kept = CompleteRequest(outputs=body.outputs, exit_code=body.exit_code, facts=facts)
    settled = await call.services.store.complete(lease, kept)
    # Accepted, it is the item's last word: no attempt comes after it.
    if body.log or lease.fence > FIRST:
        await _keep_log(call, lease, await masked(body.log, values))
    return json_answer(settled)


@operation(takes=FailRequest, answers=Settled, problems=(ProblemCode.LEASE_LOST,))
async def fail(call: Call) -> web.Response:
    """End the attempt without a result; the retry policy decides."""
    lease = _lease(call)
    body = await call.body(FailRequest)
    _check_log(body.log)
    values = await _shown(call, lease)
    kept = FailRequest(
        code=body.code,
        sentence=bounded(await masked_text(body.sentence, values), 1_000),
        exit_code=body.exit_code,
        facts=await masked_facts(bounded_facts(body.facts), values),
    )
    settled = await call.services.store.fail(lease, kept)
    if await _is_last(call, lease):
        await _keep_log(call, lease, await masked(body.log, values))
    return json_answer(settled)


def _lease(call: Call) -> Lease:
    said = tickets.parse_lease_token(bearer(call.request) or "")
    return Lease(said.item, said.fence, said.nonce_hash)


async def _shown(call: Call, lease: Lease) -> list[bytes]:
    """Return the secrets that may be in what a guest says of its item."""
    return await shown_values(call.services, await call.services.store.secrets_of_item(lease.item))


def _claim_answer(call: Call, claimed: Claimed, nonce: str, secrets: list[GivenSecret]) -> ClaimAnswer:
    item, spec = claimed.item, claimed.spec
    return ClaimAnswer(
        item=str(item.ref),
        fence=claimed.fence,
        lease=tickets.make_lease_token(item.ref, claimed.fence, nonce),
        run=spec.run,
        script=spec.script,
        as_user=spec.as_user,
        output_files=list(spec.output.files),
        limits=LeaseLimits(
            heartbeat_ms=call.services.deadlines.heartbeat_ms,
            lease_ms=call.services.deadlines.lease_ms,
            run_ms=claimed.run_ms,
            output_mib=spec.limits.output_mib,
        ),
        input=Input(name=targets.input_name(item.url), url=item.url) if item.url else None,
        inputs={
            name: Input(name=targets.input_name(url), url=url)
            for name, url in specs.inputs_of(spec, item.inputs).items()
        },
        plugins=spec.plugins,
        params=specs.params_of(spec, item.params),
        secrets=secrets,
    )


def _targets(claimed: Claimed, names: list[str]) -> dict[str, str]:
    """Compute the target of each output.

    Raises:
        BadTarget: a name is refused, or two outputs would be written to one target.
    """
    found = {
        name: targets.target_url(
            claimed.spec.output.to,
            targets.TargetOf(claimed.item.ref, claimed.fence, claimed.dispatch, name, claimed.item.url),
        )
        for name in names
    }
    if len(set(found.values())) < len(found):
        raise targets.BadTarget(
            f"two outputs would have one target of {claimed.spec.output.to!r}: put {{name}} into the stream's output.to"
        )
    return found


def _check_outputs(outputs: list[OutputFile]) -> None:
    """Check what can be said of outputs wherever they are: nobody verifies those at other servers."""
    if len(outputs) > MAX_OUTPUTS:
        raise Rejected(ProblemCode.TOO_LARGE, f"an item has at most {MAX_OUTPUTS} outputs")
    if len({output.name for output in outputs}) < len(outputs):
        raise Rejected(ProblemCode.BAD_REQUEST, "two outputs have one name")
    for output in outputs:
        check_digest(output.digest)
        if output.size_bytes < 0:
            raise Rejected(ProblemCode.BAD_REQUEST, f"{output.name!r} cannot have {output.size_bytes} bytes")


async def _verify_outputs(call: Call, lease: Lease, outputs: list[OutputFile]) -> None:
    _check_outputs(outputs)
    if not outputs:
        return
    try:
        claimed = await call.services.store.leased(lease, or_late=True)
    except Conflict:
        # All that the store may still answer with "done" then is a completion that was verified and accepted before.
        return
    computed = _targets(claimed, [output.name for output in outputs])
    allowed_mib = claimed.spec.limits.output_mib
    if sum(output.size_bytes for output in outputs) > allowed_mib * _MIB:
        raise unverified(f"the outputs are larger than the {allowed_mib} MiB that the stream allows")
    for output in outputs:
        await _verify(call, output, computed[output.name])
    await verify_in_s3(call.services, claimed, outputs)


async def _verify(call: Call, output: OutputFile, target: str) -> None:
    if output.url != target:
        raise unverified(f"{output.name!r} is said to be at {output.url}, its target is {target}")
    if not target.startswith(FILE_SCHEME):
        return
    stored = await call.services.files.find(parse_file_url(target))
    if stored is None:
        raise unverified(f"{output.name!r} was not uploaded to {target}")
    if (stored.size_bytes, stored.digest) != (output.size_bytes, output.digest):
        raise unverified(f"{output.name!r} at {target} has {stored.size_bytes} bytes and {stored.digest}")


async def _keep_log(call: Call, lease: Lease, program_log: bytes) -> None:
    """Keep the program's log, after the store, whose answer stands whatever becomes of the log.

    One without a word takes the place of that of an attempt before; of a first attempt none is kept then.
    """
    try:
        await call.services.tails.keep_log(lease.item, program_log)
    except OSError as error:
        log.warning("log_not_kept", item=str(lease.item), reason=str(error))


async def _is_last(call: Call, lease: Lease) -> bool:
    """Tell whether the item went on since: a word said again would replace the log of the attempt after it."""
    try:
        return await call.services.store.is_last(lease)
    except Unavailable as error:
        log.warning("log_not_kept", item=str(lease.item), reason=str(error))
        return False


def _check_log(program_log: bytes) -> None:
    if len(program_log) > MAX_LOG_BYTES:
        raise Rejected(ProblemCode.TOO_LARGE, f"a log is at most {MAX_LOG_BYTES} bytes: send its end")
