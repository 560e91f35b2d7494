"""What a launcher does at a site's libvirt before it offers anything: clear away what is left there, and try its files.

A site's libvirtd outlives a launcher. It destroys a dead launcher's vms by itself, unless it was started anew since;
those that remain are known by the mark of their launcher's scratch folder, which nobody holds any more.
"""

import asyncio
import secrets
import shutil
import uuid
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import structlog

from launcher.domain_xml import METADATA_NAMESPACE, XmlRefused, identity_of
from launcher.exchange.programs import ProgramFailed
from launcher.exchange.virtiofs import virtiofsd
from launcher.hypervisor.errors import HypervisorError, NoSuchVm
from launcher.hypervisor.in_use import LibvirtInUse
from launcher.hypervisor.isolation import label_of
from launcher.node.scratch import is_gone

log = structlog.get_logger()

_CONNECT_LIMIT_S: Final = 10.0
_IMAGE_BYTES: Final = 64 * 1024
_PROBE_XML: Final = """\
<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>16</memory>
  {memory}
  <vcpu>1</vcpu>
  <os><type arch='x86_64'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/><source file='{folder}/image'/><target dev='vda' bus='virtio'/><readonly/>
    </disk>
    <serial type='file'><source path='{folder}/console.log' append='on'/><target port='0'/></serial>
    <channel type='unix'>
      <source mode='bind' path='{folder}/port.sock'/><target type='virtio' name='org.vmbroker.probe'/>
    </channel>
    {share}
    <memballoon model='none'/>
  </devices>
  {label}
</domain>
"""
_SHARED_MEMORY: Final = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
_SHARE: Final = """\
<filesystem type='mount'>
      <driver type='virtiofs'/><source socket='{folder}/vfs.sock'/><target dir='probe'/>
    </filesystem>"""


class OwnersChanged(HypervisorError):
    """The site's libvirt gives away what a vm reads, and the node's images are shared."""

    def __init__(self) -> None:
        super().__init__(
            "the site's libvirt changes the owner of the images that a vm reads, which other vms share: set "
            "dynamic_ownership = 0 in its qemu.conf, or leave libvirt_uri out"
        )


async def destroy_leftovers(libvirt: LibvirtInUse) -> list[str]:
    """Destroy the vms there whose launcher is gone, as far as this launcher can tell; return their dispatches.

    Raises:
        HypervisorError: libvirt does not do it.
    """
    destroyed = []
    for vm in await libvirt.hypervisor.list_vms(METADATA_NAMESPACE):
        try:
            identity = identity_of(await libvirt.hypervisor.describe(vm.uuid))
        except (NoSuchVm, XmlRefused):
            continue
        if identity is None or not await asyncio.to_thread(is_gone, identity.launcher):
            continue
        await libvirt.hypervisor.destroy(vm.uuid)
        log.warning("leftover_destroyed", dispatch=vm.uuid, item=identity.item)
        destroyed.append(vm.uuid)
    return destroyed


async def check_files(libvirt: LibvirtInUse, scratch: Path) -> str | None:
    """Start a vm there with a console and a port in the scratch folder, and one with a share by virtiofs.

    Returns why a share by virtiofs does not work, None if it does.

    Raises:
        HypervisorError: Consoles or ports in the scratch folder do not work, or images change their owner there; the
            text says what to change.
    """
    try:
        await _try_vm(libvirt, scratch, has_share=False)
    except OwnersChanged:
        raise
    except (HypervisorError, OSError, TimeoutError) as error:
        raise HypervisorError(
            f"the site's libvirt cannot use the scratch folder {scratch.parent}: {error}; name a folder that QEMU's "
            f"account (uid {libvirt.account.uid}) may pass through and that no AppArmor or SELinux rule forbids it"
        ) from error
    try:
        await _try_vm(libvirt, scratch, has_share=True)
    except (HypervisorError, ProgramFailed, OSError, TimeoutError) as error:
        return f"the site's libvirt starts no vm with a share: {error}"
    return None


def _owner(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid


async def _try_vm(libvirt: LibvirtInUse, scratch: Path, *, has_share: bool) -> None:
    identity = str(uuid.uuid4())
    folder = scratch / f"try-{secrets.token_hex(4)}"
    folder.mkdir(mode=0o700)
    share = folder / "share"
    share.mkdir(mode=0o700)
    libvirt.account.take(share)
    xml = _PROBE_XML.format(
        name=f"vmb-probe-{identity[:8]}",
        uuid=identity,
        folder=folder,
        memory=_SHARED_MEMORY if has_share else "",
        share=_SHARE.format(folder=folder) if has_share else "",
        label=label_of(libvirt.account if libvirt.has_dac else None),
    )
    image = folder / "image"
    image.write_bytes(bytes(_IMAGE_BYTES))
    image.chmod(0o444)
    libvirt.account.take(folder)
    owner = _owner(image)
    try:
        async with AsyncExitStack() as stack:
            if has_share:
                await stack.enter_async_context(virtiofsd(libvirt.account, share, folder / "vfs.sock"))
            stack.push_async_callback(libvirt.hypervisor.destroy, identity)
            await libvirt.hypervisor.start_vm(xml)
            async with asyncio.timeout(_CONNECT_LIMIT_S):
                _, writer = await asyncio.open_unix_connection(folder / "port.sock")
                writer.transport.abort()
            with (folder / "console.log").open("rb") as console:
                await asyncio.to_thread(console.read, 1)
            owners = {_owner(image)}
        owners.add(_owner(image))
        if owners != {owner}:
            raise OwnersChanged
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
