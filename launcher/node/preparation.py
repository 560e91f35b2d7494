"""Before the boot: the images, their overlays, and the XML that the node will really run."""

import asyncio
import shutil
from pathlib import Path

from broker.wire.dispatches import DiskSource, DispatchAnswer
from launcher.domain_xml import AllowedPaths, Vm, check_output, transform
from launcher.domain_xml import Node as DomainNode
from launcher.exchange.origins import Origin
from launcher.hypervisor.firmware import read_firmwares
from launcher.images import Source, make_overlay
from launcher.node.exchanges import PORT_SOCKET, Attachments, Exchange
from launcher.node.node import Node

CONSOLE_LOG = "console.log"
_NVRAM = "nvram.fd"


async def prepare(node: Node, answer: DispatchAnswer, folder: Path, exchange: Exchange) -> str:
    """Fill the vm's run folder and return its domain XML.

    Raises:
        BadImage, ImageUnavailable: a disk cannot be had.
        XmlRefused: the researcher's XML asks for the node.
        UnsafeOutput: what we made of it would; a bug of ours, and no vm is started.
        ItemFault, ProgramFailed, NoRootFileSystem: the item's files cannot be brought to the vm.
    """
    overlays: dict[str, str] = {}
    for target, disk in answer.disks.items():
        image = await _fetch(node, disk)
        overlay = folder / f"{target}.qcow2"
        await make_overlay(overlay, image, disk.format)
        node.account.take(overlay)
        overlays[target] = str(overlay)
    if answer.nvram is not None:
        await asyncio.to_thread(shutil.copyfile, await _fetch(node, answer.nvram), folder / _NVRAM)
        node.account.take(folder / _NVRAM)
    await exchange.stage()
    # From here on what lies in it may be another thing than what was put there, and nothing writes to it as root.
    node.account.take(folder)
    attachments = await exchange.attach(overlays)
    return await asyncio.to_thread(_domain_xml, node, answer, folder, overlays, attachments)


async def _fetch(node: Node, disk: DiskSource) -> Path:
    is_brokers = Origin.parse(disk.url) == Origin.parse(node.broker) if "://" in disk.url else True
    session = node.session if is_brokers else node.mirrors
    return await node.cache.fetch(session, Source(disk.digest, disk.size_bytes, disk.format, disk.url))


def _domain_xml(
    node: Node, answer: DispatchAnswer, folder: Path, overlays: dict[str, str], attachments: Attachments
) -> str:
    guest_disk = str(node.guest_disk.path) if attachments.has_client else None
    seed_disk = str(node.seed_disk) if attachments.has_client else None
    vm = Vm(
        dispatch_id=answer.dispatch,
        item=answer.item,
        name=f"vmb-{answer.dispatch[:8]}",
        vcpus=answer.vcpus,
        memory_mib=answer.memory_mib,
        overlays=overlays,
        guest_disk=guest_disk,
        seed_disk=seed_disk,
        data_disks=attachments.data_disks,
        shares=attachments.shares,
        has_network=attachments.has_network,
        console_log=str(folder / CONSOLE_LOG),
        channel_socket=str(folder / PORT_SOCKET),
        nvram=str(folder / _NVRAM),
        nvram_bytes=None if answer.nvram is None else answer.nvram.size_bytes,
    )
    host = DomainNode(
        emulator=node.capabilities.emulator,
        accelerator=node.slot.accelerator,
        machine_types=tuple(node.capabilities.machines),
        firmwares=read_firmwares(),
    )
    xml = transform(answer.domain_xml.encode(), vm, host)
    allowed = AllowedPaths(
        run_folder=str(folder),
        cache_folder=str(node.cache.folder),
        guest_disk=guest_disk,
        seed_disk=seed_disk,
        data_disks=[disk.path for disk in attachments.data_disks],
        has_network=attachments.has_network,
        emulator=node.capabilities.emulator,
        loaders=[firmware.loader for firmware in host.firmwares],
    )
    check_output(xml, allowed)
    return xml
