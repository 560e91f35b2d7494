"""Machines whose whole system is a boot sector: up in a second, they say a line on the serial console and do one thing.

What they do is machine code of tests/integration/hypervisor/guests.py, or of this module.
"""

from pathlib import Path

from tests.integration.hypervisor.guests import ARM_WATCHDOG, IDLE, PANIC
from tests.support.grid import REPOSITORY

SECTOR_DOMAIN = REPOSITORY / "tests" / "support" / "domains" / "sector.xml"
"""A machine with 16 MiB of memory and one IDE disk, `hda`."""
SECTOR_DISK_BYTES = 64 << 20

_LOADED_AT = 0x7C00
_ADDRESS_PACKET = 0x7DE0
"""Where the sector has room for it, in memory: a "disk address packet" of the BIOS's extended write."""
# xor ax, ax; mov ds, ax
# again: mov si, 0x7de0; mov ax, 0x4300; mov dl, 0x80; int 0x13; add dword [0x7de8], 127; jmp again
FILL_DISK = b"\x31\xc0\x8e\xd8\xbe\xe0\x7d\xb8\x00\x43\xb2\x80\xcd\x13\x66\x83\x06\xe8\x7d\x7f\xeb\xee"
# 16 bytes long, 127 sectors from f000:0000 (the BIOS itself: what is written is not all zeros) to sector 1 and on.
_PACKET = b"\x10\x00\x7f\x00\x00\x00\x00\xf0\x01\x00\x00\x00\x00\x00\x00\x00"

SECTORS = {"idle": IDLE, "panic": PANIC, "filler": FILL_DISK, "hung": ARM_WATCHDOG}


def make_sector_disk(path: Path, code: bytes) -> Path:
    """Write a raw disk image that boots `code`, after a line of words on the first serial port."""
    words = b"a boot sector: up\r\n\x00"
    say = _say(_LOADED_AT + len(_say(0)) + len(code))
    body = (say + code + words).ljust(_ADDRESS_PACKET - _LOADED_AT, b"\x00") + _PACKET
    with path.open("wb") as file:
        file.write(body.ljust(510, b"\x00") + b"\x55\xaa")
        file.truncate(SECTOR_DISK_BYTES)
    return path


def _say(words_at: int) -> bytes:
    """Return code that writes the text at an address, to its NUL, to the serial port at 0x3f8."""
    # cld; xor ax, ax; mov ds, ax; mov si, words_at; mov dx, 0x3f8
    # next: lodsb; test al, al; jz +3; out dx, al; jmp next
    return (
        b"\xfc\x31\xc0\x8e\xd8\xbe" + words_at.to_bytes(2, "little") + b"\xba\xf8\x03\xac\x84\xc0\x74\x03\xee\xeb\xf8"
    )
