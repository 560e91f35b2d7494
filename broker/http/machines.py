"""Machines and the images of their disks."""

from aiohttp import web

from broker.domain.errors import Rejected
from broker.domain.scopes import Authority
from broker.http.call import Call, allow, json_answer, limit
from broker.http.sending import send_file
from broker.store import MachineFacts
from broker.wire.machines import ImageView, MachineDefinition
from broker.wire.names import Digest, UserName, check_digest, check_name
from broker.wire.problems import ProblemCode
from launcher.domain_xml import Examination, examine


async def put_machine(call: Call) -> web.Response:
    """Judge the XML, check the images, and make a revision of the machine."""
    definition = await call.body(MachineDefinition)
    facts = _accepted(definition)
    await _check_disks(call, definition)
    return json_answer(await call.services.store.put_machine(call.machine, definition, facts))


async def get_machine(call: Call) -> web.Response:
    view = await call.services.store.get_machine(call.machine)
    if view is None:
        raise Rejected(ProblemCode.NOT_FOUND, f"there is no machine {call.machine}: add it with `broker machine add`")
    return json_answer(view)


async def list_machines(call: Call) -> web.Response:
    user = check_name(call.query("user").get("user", call.who.subject), "user")
    allow(call.who, Authority.READ, (user,))
    return json_answer(await call.services.store.list_machines(UserName(user)))


async def put_image(call: Call) -> web.Response:
    """Take an image in, prove its digest, and let its sender use it."""
    size_bytes = await call.services.images.put(call.digest, call.chunks())
    await call.services.store.grant_image(UserName(call.who.subject), call.digest, size_bytes)
    return json_answer(ImageView(digest=call.digest, size_bytes=size_bytes), status=201)


async def get_image(call: Call) -> web.StreamResponse:
    """Send an image to somebody it was granted to, or to whom a launcher's signed address was given."""
    digest = call.digest
    if call.principal is not None and not await is_granted(call, UserName(call.principal.subject), digest):
        raise Rejected(ProblemCode.NOT_FOUND, f"there is no image {digest}, or it is not yours: upload it")
    if not await call.services.images.is_there(digest):
        raise Rejected(ProblemCode.NOT_FOUND, f"the image {digest} is no longer there: upload it again")
    location = call.services.images.location(digest)
    return send_file(call.request, location, name=digest.removeprefix("sha256:"), digest=digest)


async def is_granted(call: Call, user: UserName, digest: Digest) -> bool:
    return await call.services.store.image_size(user, digest) is not None


def _accepted(definition: MachineDefinition) -> MachineFacts:
    xml = definition.domain_xml.encode()
    if len(xml) > limit("domain_xml_bytes"):
        raise Rejected(ProblemCode.TOO_LARGE, f"the domain XML is larger than {limit('domain_xml_bytes')} bytes")
    if len(definition.disks) > limit("machine_disks"):
        raise Rejected(ProblemCode.BAD_REQUEST, f"a machine has at most {limit('machine_disks')} disks")
    examination = examine(xml, set(definition.disks))
    if examination.refusals or examination.facts is None:
        raise _refused(examination)
    facts = examination.facts
    dropped = tuple(str(change) for change in examination.dropped)
    return MachineFacts(vcpus=facts.vcpus, memory_mib=facts.memory_mib, firmware=facts.firmware, dropped=dropped)


def _refused(examination: Examination) -> Rejected:
    refusals = [
        {"path": refusal.path, "reason": refusal.reason, "remedy": refusal.remedy} for refusal in examination.refusals
    ]
    count = "one thing" if len(refusals) == 1 else f"{len(refusals)} things"
    return Rejected(
        ProblemCode.XML_REFUSED,
        f"the domain XML has {count} that no vm is given; first, {examination.refusals[0]}",
        refusals=refusals,
    )


async def _check_disks(call: Call, definition: MachineDefinition) -> None:
    user = call.machine.user
    for target, disk in sorted(definition.disks.items()):
        size_bytes = await call.services.store.image_size(user, check_digest(disk.digest))
        if size_bytes is None or not await call.services.images.is_there(check_digest(disk.digest)):
            raise Rejected(
                ProblemCode.IMAGE_MISSING,
                f"disk {target} names the image {disk.digest}, which {user} has not uploaded: "
                "PUT it to /v1/images first, or use `broker machine add`",
            )
        if size_bytes != disk.size_bytes:
            raise Rejected(
                ProblemCode.BAD_REQUEST, f"disk {target}: the image has {size_bytes} bytes, not {disk.size_bytes}"
            )
