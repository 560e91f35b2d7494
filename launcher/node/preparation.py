"""Before the boot: the images, their overlays, and the XML that the node will really run."""

import asyncio
import shutil
from contextlib import AsyncExitStack
from pathlib import Path

from broker.client.origins import Origin
from broker.wire.dispatches import DiskSource, DispatchAnswer
from launcher.domain_xml import AllowedPaths, Vm, check_output, transform
from launcher.domain_xml import Node as DomainNode
from launcher.hypervisor.firmware import read_firmwares
from launcher.images import Address, HeldImage, Image
from launcher.node.exchanges import PORT_SOCKET, Attachments, Exchange
from launcher.node.node import Node
from launcher.node.scratch import mark_of

CONSOLE_LOG = "console.log"
_NVRAM = "nvram.fd"


async def prepare(node: Node, answer: DispatchAnswer, folder: Path, exchange: Exchange, stack: AsyncExitStack) -> str:
    """Fill the vm's run folder and return its domain XML; `stack` holds the images until the vm is gone.

    Raises:
        ImageError: a disk cannot be had; which kind of it tells whose fault that is.
        XmlRefused: the researcher's XML asks for the node.
        UnsafeOutput: what we made of it would; a bug of ours, and no vm is started.
        ItemFault, ProgramFailed, NoRootFileSystem: the item's files cannot be brought to the vm.
    """
    overlays: dict[str, str] = {}
    for target, disk in answer.disks.items():
        image = stack.enter_context(await _fetch(node, answer, disk))
        overlay = folder / f"{target}.qcow2"
        await node.cache.make_overlay(overlay, image)
        node.account.take(overlay)
        overlays[target] = str(overlay)
    if answer.nvram is not None:
        with await _fetch(node, answer, answer.nvram) as image:
            await asyncio.to_thread(shutil.copyfile, image.path, folder / _NVRAM)
        node.account.take(folder / _NVRAM)
    await exchange.stage()
    # From here on what lies in it may be another thing than what was put there, and nothing writes to it as root.
    node.account.take(folder)
    attachments = await exchange.attach(overlays)
    return await asyncio.to_thread(_domain_xml, node, answer, folder, overlays, attachments)


async def _fetch(node: Node, answer: DispatchAnswer, disk: DiskSource) -> HeldImage:
    async def renew() -> str:
        again = await node.dispatches.again(answer.dispatch)
        sources = [*again.disks.values(), *filter(None, [again.nvram])]
        return next(source.url for source in sources if source.digest == disk.digest)

    is_brokers = Origin.parse(disk.url) == Origin.parse(node.broker) if "://" in disk.url else True
    address = (
        Address(node.session, disk.url, renew=renew) if is_brokers else Address(node.mirrors, disk.url, is_foreign=True)
    )
    return await node.cache.fetch(Image(disk.digest, disk.size_bytes, disk.format), address)


def _domain_xml(
    node: Node, answer: DispatchAnswer, folder: Path, overlays: dict[str, str], attachments: Attachments
) -> str:
    guest_disk = str(node.guest_disk.path) if attachments.has_client else None
    handed = attachments.handed_over
    seed_disk, ticket_file = (str(handed.seed), str(handed.ticket)) if handed else (None, None)
    vm = Vm(
        dispatch_id=answer.dispatch,
        item=answer.item,
        name=f"vmb-{answer.dispatch[:8]}",
        vcpus=answer.vcpus,
        memory_mib=answer.memory_mib,
        overlays=overlays,
        guest_disk=guest_disk,
        seed_disk=seed_disk,
        ticket_file=ticket_file,
        data_disks=attachments.data_disks,
        shares=attachments.shares,
        has_network=attachments.has_network,
        launcher=mark_of(node.scratch),
        console_log=str(folder / CONSOLE_LOG),
        channel_socket=str(folder / PORT_SOCKET),
        nvram=str(folder / _NVRAM),
        nvram_bytes=None if answer.nvram is None else answer.nvram.size_bytes,
    )
    dac_label = node.account.dac_label if node.capabilities.has_dac else None
    host = DomainNode(
        emulator=node.capabilities.emulator,
        accelerator=node.slot.accelerator,
        machine_types=tuple(node.capabilities.machines),
        firmwares=read_firmwares(),
        has_translation_cache=node.capabilities.has_translation_cache,
        dac_label=dac_label,
    )
    xml = transform(answer.domain_xml.encode(), vm, host)
    allowed = AllowedPaths(
        run_folder=str(folder),
        cache_folder=str(node.cache.folder),
        guest_disk=guest_disk,
        seed_disk=seed_disk,
        ticket_file=ticket_file,
        data_disks=[disk.path for disk in attachments.data_disks],
        has_network=attachments.has_network,
        emulator=node.capabilities.emulator,
        loaders=[firmware.loader for firmware in host.firmwares],
        dac_label=dac_label,
    )
    check_output(xml, allowed)
    return xml
