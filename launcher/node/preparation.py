"""Before the boot: the images, their overlays, and the XML that the node will really run."""

import asyncio
from pathlib import Path

from broker.wire.dispatches import DispatchAnswer
from launcher.domain_xml import AllowedPaths, Vm, check_output, transform
from launcher.domain_xml import Node as DomainNode
from launcher.images import Source, make_overlay
from launcher.node.node import Node

CONSOLE_LOG = "console.log"
PORT_SOCKET = "port.sock"


async def prepare(node: Node, answer: DispatchAnswer, folder: Path) -> str:
    """Fill the vm's run folder and return its domain XML.

    Raises:
        BadImage, ImageUnavailable: a disk cannot be had.
        XmlRefused: the researcher's XML asks for the node.
        UnsafeOutput: what we made of it would; a bug of ours, and no vm is started.
    """
    overlays: dict[str, str] = {}
    for target, disk in answer.disks.items():
        image = await node.cache.fetch(node.session, Source(disk.digest, disk.size_bytes, disk.format, disk.url))
        overlay = folder / f"{target}.qcow2"
        await make_overlay(overlay, image, disk.format)
        node.account.take(overlay)
        overlays[target] = str(overlay)
    return await asyncio.to_thread(_domain_xml, node, answer, folder, overlays)


def _domain_xml(node: Node, answer: DispatchAnswer, folder: Path, overlays: dict[str, str]) -> str:
    vm = Vm(
        dispatch_id=answer.dispatch,
        item=answer.item,
        name=f"vmb-{answer.dispatch[:8]}",
        vcpus=answer.vcpus,
        memory_mib=answer.memory_mib,
        overlays=overlays,
        guest_disk=str(node.guest_disk.path),
        console_log=str(folder / CONSOLE_LOG),
        channel_socket=str(folder / PORT_SOCKET),
        nvram=str(folder / "nvram.fd"),
    )
    host = DomainNode(
        emulator=node.capabilities.emulator,
        accelerator=node.slot.accelerator,
        machine_types=tuple(node.capabilities.machines),
    )
    xml = transform(answer.domain_xml.encode(), vm, host)
    allowed = AllowedPaths(
        run_folder=str(folder),
        cache_folder=str(node.cache.folder),
        guest_disk=str(node.guest_disk.path),
        emulator=node.capabilities.emulator,
    )
    check_output(xml, allowed)
    return xml
