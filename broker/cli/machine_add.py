"""`broker machine add`: judge, look, copy, upload, define; what is refused is refused before anything is copied."""

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from broker.cli import showing
from broker.cli.acting import Acting
from broker.cli.disks_given import Remote, parse_disks
from broker.cli.exits import BadUsage, Exit, Failed, tell
from broker.cli.machine_disks import Prepared, prepare, show_sizes, survey, upload
from broker.cli.machine_nvram import find_variables
from broker.cli.machine_remote import look_at_remote
from broker.cli.machine_source import Source, find_disks, from_domain, from_file
from broker.cli.machine_views import show_dropped, size
from broker.desktop.failure import DesktopFailure
from broker.desktop.live import frozen_disks
from broker.desktop.scratch import scratch_folder, usual_folder
from broker.wire.machines import MachineDefinition
from launcher.domain_xml import Examination, Facts, Refusal, XmlRefused, examine

_NVRAM = "nvram"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the command line asks for."""

    name: str
    xml_file: str | None
    domain: str | None
    connect: str | None
    disks: Sequence[str]
    nvram: Path | None
    fresh_nvram: bool
    live: bool
    as_is: bool
    with_backing: bool
    install_guest: bool
    work_folder: Path | None
    dry_run: bool


async def add(acting: Acting, order: Order) -> int | None:
    """Hand a machine over."""
    ref = acting.machine(order.name)
    given = parse_disks(order.disks)
    _check(order)
    try:
        with _as_refusal():
            source = await _source(order)
        where = find_disks(source, given)
        facts = _judged(source.xml, where)
        with scratch_folder(order.work_folder or usual_folder()) as scratch:
            definition = await _handed_over(acting, order, source, facts, where, scratch)
    except DesktopFailure as failure:
        raise Failed(str(failure)) from failure
    except _Refused:
        return Exit.REFUSED
    if definition is None:
        return None
    view = await acting.researcher.put_machine(ref, definition)
    showing.stdout().print(f"machine {view.machine} is there, revision {view.revision}: {size(view)}")
    return None


async def _handed_over(
    acting: Acting,
    order: Order,
    source: Source,
    facts: Facts,
    where: dict[str, Path | Remote],
    scratch: Path,
) -> MachineDefinition | None:
    """Copy and upload what a machine is made of; return its definition, or None when nothing was to be done."""
    remotes = {
        target: await look_at_remote(acting, target, at) for target, at in where.items() if isinstance(at, Remote)
    }
    local = {target: at for target, at in where.items() if isinstance(at, Path)}
    must_copy = source.running is not None or order.install_guest
    if order.dry_run and source.running is not None:
        showing.stdout().print("nothing was copied or uploaded: --dry-run; a running machine's disks are not looked at")
        return None
    async with _at_rest(source, scratch):
        surveyed = await survey(local, source, parse_disks(order.disks), with_backing=order.with_backing)
        nvram = None if order.fresh_nvram else await find_variables(source, facts, order.nvram, scratch / _NVRAM)
        show_sizes(surveyed, remotes, nvram, as_is=order.as_is, must_copy=must_copy)
        if order.dry_run:
            showing.stdout().print("nothing was copied or uploaded: --dry-run")
            return None
        prepared = await prepare(surveyed, scratch, as_is=order.as_is, must_copy=must_copy)
    if order.install_guest:
        await _install_guest(source, prepared)
    disks = {
        target: await upload(acting, f"disk {target}", disk.path, disk.format) for target, disk in prepared.items()
    }
    variables = None if nvram is None else await upload(acting, "UEFI variables", nvram.copy, "raw")
    return MachineDefinition(domain_xml=source.xml, disks=disks | remotes, nvram=variables)


def _check(order: Order) -> None:
    if (order.xml_file is None) == (order.domain is None):
        raise BadUsage("name the machine's XML, or the machine itself: FILE.xml, - for stdin, or --domain VM")
    if order.live and order.domain is None:
        raise BadUsage("--live asks virsh for a snapshot: name the machine with --domain VM")
    if order.connect and order.domain is None:
        raise BadUsage("--connect says where virsh finds the machine: add --domain VM")
    if order.as_is and (order.live or order.install_guest):
        raise BadUsage(
            "--as-is uploads your files unchanged, which --live and --install-guest cannot do: leave one out"
        )
    if order.nvram and order.fresh_nvram:
        raise BadUsage("--nvram and --fresh-nvram exclude each other: leave one out")


async def _source(order: Order) -> Source:
    if order.domain is not None:
        return await from_domain(order.domain, order.connect, is_live=order.live)
    assert order.xml_file is not None, "one of the two was given"
    return from_file(order.xml_file)


def _judged(xml: str, where: dict[str, Path | Remote]) -> Facts:
    """Show the policy's verdict; go on with what it accepts."""
    examination: Examination = examine(xml.encode(), set(where))
    if examination.refusals or examination.facts is None:
        _tell_refusals(examination.refusals)
        raise _Refused
    facts = examination.facts
    showing.stdout().print(f"the XML is accepted: {facts.vcpus} vcpus, {facts.memory_mib} MiB, {facts.firmware}")
    show_dropped([str(change) for change in examination.dropped])
    return facts


class _Refused(Exception):
    """The policy refuses the XML, and has told why."""


@contextlib.contextmanager
def _as_refusal() -> Iterator[None]:
    try:
        yield
    except XmlRefused as refused:
        _tell_refusals(refused.refusals)
        raise _Refused from refused


def _tell_refusals(refusals: Sequence[Refusal]) -> None:
    tell("the domain XML asks for what no vm is given", *(showing.plain(str(refusal)) for refusal in refusals))


@contextlib.asynccontextmanager
async def _at_rest(source: Source, scratch: Path) -> AsyncIterator[None]:
    """Keep a running machine's disks as they are for the block; for any other there is nothing to do."""
    if source.running is None:
        yield
        return
    console = showing.stdout()
    async with frozen_disks(source.running, scratch, lambda line: console.print(showing.plain(line), style="dim")):
        yield


async def _install_guest(source: Source, prepared: dict[str, Prepared]) -> None:
    from broker.desktop.install_guest import install_guest

    first = next(disk.target for disk in source.definition.disks if disk.device == "disk")
    if first not in prepared:
        raise BadUsage(
            f"--install-guest works on a copy of disk {first}, which is served elsewhere: give a file for it"
        )
    console = showing.stdout()
    await install_guest(prepared[first].path, lambda line: console.print(showing.plain(line), style="dim"))
