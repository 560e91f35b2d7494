"""`broker machine add | list | show`."""

import struct
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from broker.cli import showing
from broker.cli.acting import Acting, act
from broker.cli.exits import BadUsage, Exit, tell
from broker.cli.progress import progress
from broker.client.files import read_content
from broker.wire.machines import Disk, MachineDefinition, MachineView
from launcher.domain_xml import examine

app = typer.Typer(no_args_is_help=True, help="Machines: your virtual machines' XML and disks.")
_IMAGE_SUFFIXES = frozenset({".qcow2", ".img", ".raw", ".qcow"})
_QCOW2_MAGIC = b"QFI\xfb"
_QCOW2_HEADER = struct.Struct(">4sIQ")


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Name of the machine: NAME or USER/NAME.")],
    xml: Annotated[str, typer.Argument(metavar="FILE.xml", help="What `virsh dumpxml` printed; - reads stdin.")],
    disk: Annotated[
        list[str] | None,
        typer.Option(metavar="TARGET=PATH", help="Image of a disk, e.g. vda=disk.qcow2; repeat for several."),
    ] = None,
) -> None:
    """Hand a machine over: its XML, and the disks that the XML names or --disk gives.

    A disk is uploaded only when the broker does not hold it yet. What a vm will not get of the XML is told.
    """
    act(lambda acting: _add(acting, name, xml, disk or []))


@app.command(name="list")
def list_machines() -> None:
    """List your machines."""
    act(_list)


@app.command()
def show(name: Annotated[str, typer.Argument(help="NAME or USER/NAME.")]) -> None:
    """Show one machine: its size, its disks, and what its XML lost."""
    act(lambda acting: _show(acting, name))


async def _add(acting: Acting, name: str, xml_file: str, given: list[str]) -> None:
    ref = acting.machine(name)
    xml = _read_xml(xml_file)
    paths = _disks(xml, given)
    disks = {target: await _upload(acting, target, path) for target, path in paths.items()}
    view = await acting.researcher.put_machine(ref, MachineDefinition(domain_xml=xml, disks=disks))
    console = showing.stdout()
    console.print(f"machine {view.machine} is there, revision {view.revision}: {_size(view)}")
    for why, dropped in _by_reason(view.dropped).items():
        console.print(
            f"  not given to a vm: {showing.plain(', '.join(dropped))} ({showing.plain(why)})",
            style="dim",
        )


async def _list(acting: Acting) -> None:

    machines = await acting.researcher.machines(acting.user)
    if not machines:
        showing.stdout().print("no machines yet: add one with `broker machine add NAME FILE.xml`")
        return
    table = showing.table("machine", "revision", "vcpus", "memory", "firmware", "disks", right=("revision", "vcpus"))
    for view in machines:
        disks = ", ".join(f"{target} {showing.size(disk.size_bytes)}" for target, disk in view.disks.items())
        table.add_row(view.machine, str(view.revision), str(view.vcpus), f"{view.memory_mib} MiB", view.firmware, disks)
    showing.stdout().print(table)


async def _show(acting: Acting, name: str) -> None:

    view = await acting.researcher.machine(acting.machine(name))
    table = showing.pairs()
    table.add_row("machine", view.machine)
    table.add_row("revision", str(view.revision))
    table.add_row("size", _size(view))
    for target, disk in view.disks.items():
        table.add_row(
            f"disk {target}", f"{disk.format}, {showing.size(disk.size_bytes)}, sha256 {showing.short(disk.digest)}"
        )
    for sentence in view.dropped:
        table.add_row("dropped", showing.plain(sentence))
    showing.stdout().print(table)


def _by_reason(dropped: list[str]) -> dict[str, list[str]]:
    """Group `PATH: WHY` by the reason, in order; the paths without what they all begin with."""
    grouped: dict[str, list[str]] = {}
    for sentence in dropped:
        path, _, why = sentence.partition(": ")
        grouped.setdefault(why, []).append(path.removeprefix("/domain/").removeprefix("devices/"))
    return grouped


def _size(view: MachineView) -> str:
    return f"{view.vcpus} vcpus, {view.memory_mib} MiB, {view.firmware}"


def _read_xml(file: str) -> str:
    try:
        # As bytes: in the C locale, text from stdin would hide what is no UTF-8.
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadUsage(f"{file} is no UTF-8 text: export it with `virsh dumpxml`") from error


def _disks(xml: str, given: list[str]) -> dict[str, Path]:
    """Return the image file of each disk: what was given, else what the XML names on this machine.

    Only a file with the name of an image is taken from the XML: somebody else's XML must not choose what is uploaded.
    """
    named = _parse_disks(given)
    facts = examine(xml.encode(), set(named)).facts
    for disk in facts.disks if facts else ():
        source = Path(disk.source or "")
        if disk.device == "disk" and disk.target not in named and source.suffix in _IMAGE_SUFFIXES:
            named[disk.target] = source
    refusals = examine(xml.encode(), set(named)).refusals
    if refusals:
        tell("the domain XML asks for what no vm is given", *map(str, refusals))
        raise typer.Exit(Exit.REFUSED)
    for target, path in named.items():
        if not path.is_file():
            raise BadUsage(f"disk {target}: there is no file {path}; give the image with --disk {target}=PATH")
    return named


def _parse_disks(given: list[str]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for target, path in map(_parse_disk, given):
        if target in named:
            raise BadUsage(f"--disk {target} is given twice, {named[target]} and {path}: leave one of them out")
        named[target] = path
    return named


def _parse_disk(text: str) -> tuple[str, Path]:
    target, equals, path = text.partition("=")
    if not equals or not target or not path:
        raise BadUsage(f"--disk {text}: write TARGET=PATH, for example --disk vda=disk.qcow2")
    return target, Path(path).expanduser()


async def _upload(acting: Acting, target: str, path: Path) -> Disk:

    image_format = _format(target, path)
    size_bytes = path.stat().st_size
    with progress() as bars:
        content = await read_content(path, bars.bar(f"reading {target}", size_bytes))
        if not await acting.files.has_image(content.digest):
            await acting.files.put_image(path, content, bars.bar(f"uploading {target}", size_bytes))
    return Disk(digest=content.digest, size_bytes=content.size_bytes, format=image_format)


def _format(target: str, path: Path) -> Literal["qcow2", "raw"]:
    """Tell an image's format from its first bytes. Source: QEMU, docs/interop/qcow2.txt, "Header"."""
    with path.open("rb") as file:
        head = file.read(_QCOW2_HEADER.size)
    if not head.startswith(_QCOW2_MAGIC) or len(head) < _QCOW2_HEADER.size:
        return "raw"
    _, _, backing_file_offset = _QCOW2_HEADER.unpack(head)
    if backing_file_offset:
        raise BadUsage(
            f"disk {target}: {path} is an overlay over another image, which a node does not have; "
            f"flatten it: qemu-img convert -O qcow2 {path.name} whole.qcow2"
        )
    return "qcow2"
