"""Machines: defined, shown, shared, removed."""

from aiohttp import web

from broker.domain.errors import Rejected
from broker.domain.image_urls import check_image_url
from broker.domain.scopes import Authority
from broker.http.call import Call, allow, json_answer, limit
from broker.http.contract import NOT_SEEN, NOTHING, operation
from broker.http.images import remove_ungranted
from broker.http.parameters import USER
from broker.store import MachineFacts
from broker.store.machines import image_missing, no_machine
from broker.wire.machines import Disk, MachineDefinition, MachineReaders, MachineView
from broker.wire.names import UserName, check_digest, check_name
from broker.wire.problems import ProblemCode
from launcher.domain_xml import Examination, examine


@operation(
    takes=MachineDefinition,
    answers=MachineView,
    problems=(ProblemCode.XML_REFUSED, ProblemCode.IMAGE_MISSING, ProblemCode.QUOTA_EXCEEDED),
)
async def put_machine(call: Call) -> web.Response:
    """Judge the XML, check the images, and make a revision of the machine."""
    definition = await call.body(MachineDefinition)
    facts = _accepted(definition)
    for target, disk in sorted(definition.disks.items()):
        await _check_disk(call, f"disk {target}", disk)
    if definition.nvram is not None:
        await _check_nvram(call, definition.nvram, facts)
    return json_answer(await call.services.store.put_machine(call.machine, definition, facts))


@operation(answers=MachineView, problems=NOT_SEEN)
async def get_machine(call: Call) -> web.Response:
    """Send a machine to its owner, and to those whom it is shared with."""
    if not await _is_shared_with(call):
        allow(call.who, Authority.READ, (call.machine.user,))
    view = await call.services.store.get_machine(call.machine)
    if view is None:
        raise no_machine(call.machine)
    return json_answer(view)


@operation(answers=list[MachineView], problems=NOT_SEEN, parameters=(USER,))
async def list_machines(call: Call) -> web.Response:
    user = check_name(call.query("user").get("user", call.who.subject), "user")
    allow(call.who, Authority.READ, (user,))
    return json_answer(await call.services.store.list_machines(UserName(user)))


@operation(answers={204: NOTHING}, problems=(ProblemCode.MACHINE_IN_USE,))
async def delete_machine(call: Call) -> web.Response:
    """Remove a machine that nothing wants any more, and the bytes of images that are nobody's then."""
    await call.services.store.delete_machine(call.machine)
    await remove_ungranted(call.services)
    return web.Response(status=204)


@operation(answers=MachineReaders)
async def list_readers(call: Call) -> web.Response:
    if await call.services.store.get_machine(call.machine) is None:
        raise no_machine(call.machine)
    return json_answer(await _readers(call))


@operation(answers=MachineReaders)
async def share_machine(call: Call) -> web.Response:
    """Let another user see the machine, and name it in streams of their own."""
    reader = _reader(call)
    if reader == call.machine.user:
        raise Rejected(ProblemCode.BAD_REQUEST, f"{call.machine} is {reader}'s own: name another user")
    await call.services.store.share_machine(call.machine, reader)
    return json_answer(await _readers(call))


@operation(answers=MachineReaders)
async def unshare_machine(call: Call) -> web.Response:
    """Take a share back: nothing more is dispatched with the machine for that user."""
    if await call.services.store.get_machine(call.machine) is None:
        raise no_machine(call.machine)
    await call.services.store.unshare_machine(call.machine, _reader(call))
    return json_answer(await _readers(call))


async def _readers(call: Call) -> MachineReaders:
    return MachineReaders(machine=str(call.machine), readers=await call.services.store.machine_readers(call.machine))


def _reader(call: Call) -> UserName:
    return UserName(check_name(call.request.match_info["reader"], "user"))


async def _is_shared_with(call: Call) -> bool:
    """Tell whether the machine is another user's and shared with the bearer, whose token may read what is theirs."""
    reader = UserName(call.who.subject)
    if reader == call.machine.user or not call.who.may(Authority.READ, reader):
        return False
    return await call.services.store.may_use(reader, call.machine)


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


async def _check_disk(call: Call, what: str, disk: Disk) -> None:
    digest = check_digest(disk.digest)
    if disk.size_bytes < 1 or disk.size_bytes > limit("image_bytes"):
        raise Rejected(ProblemCode.BAD_REQUEST, f"{what}: an image has 1 to {limit('image_bytes')} bytes")
    if disk.url is not None:
        check_image_url(disk.url, what)
        return
    user = call.machine.user
    size_bytes = await call.services.store.image_size(user, digest)
    if size_bytes is None or not await call.services.images.is_there(digest):
        raise image_missing(f"{what} names the image {digest}", user)
    if size_bytes != disk.size_bytes:
        raise Rejected(ProblemCode.BAD_REQUEST, f"{what}: the image has {size_bytes} bytes, not {disk.size_bytes}")


async def _check_nvram(call: Call, nvram: Disk, facts: MachineFacts) -> None:
    if facts.firmware != "uefi":
        raise Rejected(
            ProblemCode.BAD_REQUEST, "nvram: the machine's firmware is BIOS, which has no UEFI variables: leave it out"
        )
    if nvram.url is not None:
        raise Rejected(ProblemCode.BAD_REQUEST, "nvram: UEFI variables are uploaded, not fetched: leave the url out")
    if nvram.size_bytes > limit("nvram_bytes"):
        raise Rejected(ProblemCode.TOO_LARGE, f"nvram: UEFI variables are at most {limit('nvram_bytes')} bytes")
    await _check_disk(call, "nvram", nvram)
