"""Guests of 512 bytes: boot sectors that do one thing, and the domains that boot them."""

import uuid
from dataclasses import dataclass, field
from pathlib import Path

from launcher.hypervisor.account import Account

METADATA_NAMESPACE = "https://vmbroker.test/metadata"

# Every sector ends in: halt: hlt; jmp halt, with interrupts on.
HALT = b"\xfb\xf4\xeb\xfd"
IDLE = HALT
# mov dx, 0x604; mov ax, 0x2000; out dx, ax: ACPI's soft off, by PIIX4's PM1a control register.
POWER_OFF = b"\xba\x04\x06\xb8\x00\x20\xef" + HALT
# Enable ACPI's power button in PIIX4's PM1a_EN, await it in PM1a_STS, and power off:
# mov dx, 0x602; mov ax, 0x100; out dx, ax; mov dx, 0x600; again: in ax, dx; test ah, 1; jz again
HEED_BUTTON = b"\xba\x02\x06\xb8\x00\x01\xef" + b"\xba\x00\x06\xed\xf6\xc4\x01\x74\xfa" + POWER_OFF
# mov dx, 0x505; mov al, 1; out dx, al: pvpanic's "the kernel panicked".
PANIC = b"\xba\x05\x05\xb0\x01\xee" + HALT
# mov dx, 0x443; mov al, 0x0e; out dx, al: iBASE 700's watchdog, to bite after 2 s (QEMU: wdt_ib700.c). Sooner, QEMU
# could be gone before libvirt has said that it started.
ARM_WATCHDOG = b"\xba\x43\x04\xb0\x0e\xee" + HALT
# again: xor ax, ax; mov es, ax; mov bx, 0x7e00; mov ax, 0x0301; mov cx, 2; mov dx, 0x80; int 0x13; jmp again
WRITE_DISK = b"\x31\xc0\x8e\xc0\xbb\x00\x7e\xb8\x01\x03\xb9\x02\x00\xba\x80\x00\xcd\x13\xeb\xec"

DISK_BYTES = 1024 * 1024

DOMAIN = """\
<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  {metadata}
  <memory unit='MiB'>16</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>destroy</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <disk {disk_type} device='disk'>
      <driver name='qemu' type='raw'/>{source}<target dev='hda' bus='ide'/>
    </disk>
    <interface type='user'><model type='virtio'/></interface>
    <panic model='isa'/>
    <watchdog model='ib700' action='poweroff'/>
    <memballoon model='none'/>
  </devices>
</domain>
"""
METADATA = f"<metadata><v:vm xmlns:v='{METADATA_NAMESPACE}'/></metadata>"


@dataclass
class Guest:
    """A domain with one disk, whose first sector is `code`."""

    code: bytes
    metadata: str = METADATA
    uuid: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def name(self) -> str:
        return f"vm-{self.uuid}"

    def make_disk(self, folder: Path, account: Account) -> Path:
        disk = folder / f"{self.uuid}.raw"
        disk.write_bytes((self.code.ljust(510, b"\x00") + b"\x55\xaa").ljust(DISK_BYTES, b"\x00"))
        account.take(disk)
        return disk

    def on_file(self, disk: Path) -> str:
        return self._xml("type='file'", f"<source file='{disk}'/>")

    def on_nbd(self, socket: Path) -> str:
        source = f"<source protocol='nbd'><host transport='unix' socket='{socket}'/></source>"
        return self._xml("type='network'", source)

    def _xml(self, disk_type: str, source: str) -> str:
        return DOMAIN.format(name=self.name, uuid=self.uuid, metadata=self.metadata, disk_type=disk_type, source=source)
