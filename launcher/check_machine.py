"""`launcher check-machine`: what becomes of a researcher's XML, told without a broker and without libvirt.

What is shown comes from a file that is not trusted and goes to somebody's terminal: what is not printable is escaped.
"""

import difflib
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import NoReturn

import typer
from lxml import etree

from broker.wire.states import Accelerator
from launcher.domain_xml import Change, Examination, Facts, Node, NoFirmware, NoMachineType, Vm, examine, transform
from launcher.domain_xml.parsing import parse
from launcher.hypervisor.emulator import PROGRAMS, find_emulator, read_machine_types
from launcher.hypervisor.firmware import read_firmwares

STDIN = "-"

_USAGE = 2
_REMOVABLE = {"cdrom", "floppy"}
# Stand for what every vm has of its own.
_RUN_FOLDER = "/RUN-FOLDER"
_DISPATCH = "00000000-0000-0000-0000-000000000000"
_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def check(
    files: list[str], *, disks: list[str] | None, is_diff_shown: bool, accelerator: str, nvram: str | None
) -> bool:
    """Print what becomes of each machine's XML; tell whether all are accepted."""
    is_refused = False
    nvram_bytes = None if nvram is None else _size_of(nvram)
    for file in files:
        xml = _read(file)
        wanted = _hard_disks(xml) if disks is None else disks
        examination = examine(xml, wanted)
        is_refused = is_refused or bool(examination.refusals)
        for line in [_verdict(file, examination)] if len(files) > 1 else _told(file, examination):
            typer.echo(_printable(line))
        if is_diff_shown and not examination.refusals:
            vm = _vm(examination.accepted(), wanted, nvram_bytes)
            for line in _difference(file, xml, vm, Accelerator(accelerator)):
                typer.secho(_printable(line), fg=_COLOURS.get(line[:1]))
    return not is_refused


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()
    except OSError as error:
        _fail(f"{file} cannot be read: {error.strerror}")


def _size_of(file: str) -> int:
    try:
        return Path(file).stat().st_size
    except OSError as error:
        _fail(f"{file} cannot be read: {error.strerror}")


def _hard_disks(xml: bytes) -> list[str]:
    facts = examine(xml, ()).facts
    return [] if facts is None else [fact.target for fact in facts.disks if fact.device not in _REMOVABLE]


def _verdict(file: str, examination: Examination) -> str:
    places = ", ".join(refusal.path for refusal in examination.refusals)
    return f"{file}: refused at {places}" if places else f"{file}: accepted"


def _told(file: str, examination: Examination) -> Iterator[str]:
    """Yield the verdict first, then the reasons for it, then what else there is to know."""
    yield _verdict(file, examination)
    for refusal in examination.refusals:
        yield from ("", f"refused: {refusal.path}", f"  why: {refusal.reason}", f"  what to do: {refusal.remedy}")
    if examination.facts is not None:
        yield from ("", *_described(examination.facts))
    yield from _by_reason("dropped: a vm does not get this", examination.dropped)
    gone = tuple(f"{change.path}/" for change in examination.dropped)
    kept = (change for change in examination.put if not change.path.startswith(gone))
    yield from _by_reason("set: ours takes its place", kept)


def _described(facts: Facts) -> Iterator[str]:
    firmware = "UEFI" if facts.firmware == "uefi" else "BIOS"
    yield f"machine: {facts.name}, {facts.machine_type}, {firmware}, {facts.vcpus} vcpus, {facts.memory_mib:,} MiB"
    for fact in facts.disks:
        yield f"  {fact.target}: {fact.device} on {fact.bus}, {fact.source or 'empty'}"


def _by_reason(title: str, changes: Iterable[Change]) -> Iterator[str]:
    by_reason = sorted(changes, key=lambda change: change.why)
    if by_reason:
        yield from ("", title)
    for why, alike in groupby(by_reason, key=lambda change: change.why):
        yield f"  {why}"
        yield from (f"    {change.path}" for change in alike)


def _difference(file: str, xml: bytes, wanted: Vm, accelerator: Accelerator) -> Iterator[str]:
    """Yield the lines of a unified diff, with everything apart from our change written in one way."""
    try:
        vm = transform(xml, wanted, _node(accelerator)).encode()
    except (NoMachineType, NoFirmware) as error:
        _fail(str(error))
    return difflib.unified_diff(_lines(xml), _lines(vm), file, "a vm on this node", lineterm="")


def _vm(facts: Facts, disks: Iterable[str], nvram_bytes: int | None) -> Vm:
    return Vm(
        dispatch_id=_DISPATCH,
        item="USER/JOB/1",
        name="vmb-00000000",
        vcpus=facts.vcpus,
        memory_mib=facts.memory_mib,
        overlays={target: f"{_RUN_FOLDER}/{target}.qcow2" for target in disks},
        guest_disk=f"{_RUN_FOLDER}/client.img",
        seed_disk=f"{_RUN_FOLDER}/seed.iso",
        ticket_file=f"{_RUN_FOLDER}/ticket",
        console_log=f"{_RUN_FOLDER}/console.log",
        channel_socket=f"{_RUN_FOLDER}/port.sock",
        nvram=f"{_RUN_FOLDER}/nvram.fd",
        nvram_bytes=nvram_bytes,
    )


def _node(accelerator: Accelerator) -> Node:
    emulator = find_emulator()
    if emulator is None:
        _fail(f"a diff is of a vm on this node, which has no QEMU ({' or '.join(PROGRAMS)}); leave out --diff")
    try:
        return Node(
            emulator=emulator,
            accelerator=accelerator,
            machine_types=read_machine_types(emulator),
            firmwares=read_firmwares(),
        )
    except (OSError, subprocess.SubprocessError) as error:
        _fail(f"{emulator} does not tell its machine types: {error}")


def _lines(xml: bytes) -> list[str]:
    root = parse(xml)
    for element in root.iter():
        attributes = sorted(element.attrib.items())
        element.attrib.clear()
        element.attrib.update(attributes)
    etree.indent(root)
    return etree.tostring(root, encoding="unicode").splitlines()


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def _fail(sentence: str) -> NoReturn:
    typer.echo(f"launcher: {_printable(sentence)}", err=True)
    sys.exit(_USAGE)
