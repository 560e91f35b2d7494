"""A machine's disks on this desktop: looked at, shown, copied, uploaded."""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from broker.cli import showing
from broker.cli.acting import Acting
from broker.cli.exits import BadUsage
from broker.cli.machine_nvram import Variables
from broker.cli.machine_source import Source
from broker.cli.machine_uploads import say_how_to_drop
from broker.cli.progress import progress
from broker.client.files import read_content
from broker.desktop.compact import TOLD_PARTS, Plan, make_copy, plan_copy
from broker.desktop.images import Image, read_image
from broker.desktop.scratch import check_room
from broker.wire.machines import Disk


@dataclass(frozen=True, slots=True, kw_only=True)
class Surveyed:
    """A disk as it lies here, and what a copy would be."""

    image: Image
    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A file that is uploaded as it is."""

    path: Path
    format: Literal["qcow2", "raw"]


async def survey(
    where: Mapping[str, Path], source: Source, given: Container[str], *, with_backing: bool
) -> dict[str, Surveyed]:
    """Look at every disk; refuse one that somebody writes to. `given` are those that the XML does not locate."""
    declared = {disk.target: disk for disk in source.definition.disks}
    surveyed = {}
    for target, path in where.items():
        what, is_given = f"disk {target}", target in given
        image = await read_image(
            what,
            path,
            f"--disk {target}",
            image_format=None if is_given else declared[target].format,
            is_chain_trusted=with_backing or (source.virsh is not None and not is_given),
            is_live=source.running is not None and not is_given,
        )
        surveyed[target] = Surveyed(image=image, plan=await plan_copy(what, image))
    return surveyed


def show_sizes(
    surveyed: Mapping[str, Surveyed],
    remotes: Mapping[str, Disk],
    nvram: Variables | None,
    *,
    as_is: bool,
    must_copy: bool,
) -> None:
    """Show each disk, and the UEFI variables: how large the guest sees it, what it takes here, what is uploaded."""
    table = showing.table("disk", "format", "size", "takes here", "to upload", right=("size", "takes here"))
    for target, disk in surveyed.items():
        image = disk.image
        layers = f", {len(image.layers)} layers" if len(image.layers) > 1 else ""
        copied = not as_is and (must_copy or disk.plan.pays)
        sent = f"about {showing.size(disk.plan.estimated_bytes)}, a compressed copy" if copied else "the file as it is"
        held = showing.size(image.held_bytes)
        table.add_row(target, f"{image.top.format}{layers}", showing.size(image.top.virtual_bytes), held, sent)
    for target, remote in remotes.items():
        table.add_row(target, remote.format, "", "", "nothing: nodes fetch it themselves")
    if nvram is not None:
        size, held = (showing.size(path.stat().st_size) for path in (nvram.copy, nvram.path))
        table.add_row("UEFI", "variables", size, held, f"all of {showing.plain(str(nvram.path))}")
    showing.stdout().print(table)


async def prepare(
    surveyed: Mapping[str, Surveyed], scratch: Path, *, as_is: bool, must_copy: bool
) -> dict[str, Prepared]:
    """Return for each disk the file to upload: its own, or a copy of it in `scratch`."""
    copied = {} if as_is else {target: disk for target, disk in surveyed.items() if must_copy or disk.plan.pays}
    check_room(scratch, sum(disk.plan.largest_bytes for disk in copied.values()))
    prepared = {}
    for target, disk in surveyed.items():
        if target not in copied:
            prepared[target] = _unchanged(target, disk.image)
            continue
        copy = scratch / f"{target}.qcow2"
        with progress() as bars:
            await make_copy(f"disk {target}", disk.image, copy, bars.bar(f"copying {target}", TOLD_PARTS))
        prepared[target] = Prepared(path=copy, format="qcow2")
    return prepared


def _unchanged(target: str, image: Image) -> Prepared:
    top = image.top
    if not image.is_whole or top.format not in ("qcow2", "raw"):
        raise BadUsage(
            f"disk {target}: {top.path} is no single qcow2 or raw file: leave --as-is out, it will be made one"
        )
    return Prepared(path=top.path, format="qcow2" if top.format == "qcow2" else "raw")


async def upload(acting: Acting, what: str, path: Path, image_format: Literal["qcow2", "raw"]) -> Disk:
    """Upload an image, unless the broker holds it for this user already."""
    console = showing.stdout()
    with progress() as bars:
        content = await read_content(path, bars.bar(f"reading {what}", path.stat().st_size))
        is_there = await acting.files.has_image(content.digest)
        if not is_there:
            with say_how_to_drop():
                await acting.files.put_image(path, content, bars.bar(f"uploading {what}", content.size_bytes))
    said = "was there already" if is_there else "uploaded"
    console.print(f"{what}: {showing.size(content.size_bytes)} {said}, sha256 {showing.short(content.digest)}")
    return Disk(digest=content.digest, size_bytes=content.size_bytes, format=image_format)
