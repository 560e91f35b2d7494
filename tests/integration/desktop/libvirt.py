"""A desktop's libvirt: a session daemon of the test's own, with a machine that really runs."""

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from broker.desktop.programs import run
from launcher.hypervisor.account import Account
from launcher.hypervisor.private_daemon import private_daemon
from tests.integration.desktop.images import make_overlay, make_raw

NAME = "desk"
# A boot sector that halts: the machine runs and does nothing.
HALT = (b"\xfb\xf4\xeb\xfd".ljust(510, b"\x00")) + b"\x55\xaa"
_DOMAIN = """
<domain type='qemu'>
  <name>desk</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <on_poweroff>destroy</on_poweroff><on_reboot>destroy</on_reboot><on_crash>destroy</on_crash>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/><source file='{top}'/><target dev='vda' bus='virtio'/>
    </disk>
    <disk type='volume' device='disk'>
      <driver name='qemu' type='raw'/><source pool='disks' volume='data.img'/><target dev='vdb' bus='virtio'/>
    </disk>
    <memballoon model='none'/>
  </devices>
</domain>
"""


@dataclass(frozen=True)
class Desktop:
    """A libvirt with the machine `desk`: vda is qcow2 over raw, vdb raw, a volume."""

    uri: str
    folder: Path

    @property
    def top(self) -> Path:
        return self.folder / "top.qcow2"

    @property
    def data(self) -> Path:
        return self.folder / "data.img"

    async def virsh(self, *command: str) -> str:
        ended = await run("virsh", "-q", "-c", self.uri, *command, timeout_s=60)
        assert ended.status == 0, ended
        return ended.out.decode()

    async def sources(self) -> list[str]:
        """Return the files that the machine's disks are on now."""
        listed = (await self.virsh("-r", "domblklist", NAME)).split()
        return listed[1::2]

    async def definition(self) -> str:
        """Return all of what the machine is started from, with its passwords."""
        return await self.virsh("dumpxml", "--inactive", "--security-info", NAME)

    async def edit(self, old: str, new: str) -> None:
        """Change the definition as a person does with `virsh edit`."""
        before = await self.definition()
        assert before.count(old) == 1, before
        with tempfile.NamedTemporaryFile("w", dir=self.folder.parent, suffix=".xml") as file:
            file.write(before.replace(old, new))
            file.flush()
            await self.virsh("define", file.name)

    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


@asynccontextmanager
async def desktop() -> AsyncIterator[Desktop]:
    """Run a desktop whose machine is defined and off."""
    scratch = Path(tempfile.mkdtemp(prefix="vmb-test-", dir="/tmp"))
    try:
        # QEMU's account passes through.
        scratch.chmod(0o711)
        account, disks = Account.choose(), scratch / "disks"
        disks.mkdir()
        _make_disks(disks)
        for path in (disks, *disks.iterdir()):
            account.take(path)
        async with private_daemon(scratch / "libvirt", account, show_kvm=False) as daemon:
            made = Desktop(daemon.uri, disks)
            await made.virsh("pool-create-as", "disks", "dir", "--target", str(disks))
            xml = scratch / "desk.xml"
            xml.write_text(_DOMAIN.format(top=made.top))
            await made.virsh("define", str(xml))
            yield made
    finally:
        shutil.rmtree(scratch)


def _make_disks(folder: Path) -> None:
    make_overlay(folder / "top.qcow2", make_raw(folder / "base.img", HALT), "raw")
    make_raw(folder / "data.img", b"some data")
