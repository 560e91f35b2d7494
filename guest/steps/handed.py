"""The launcher's welcome where there is no port: a credential of systemd's, QEMU's fw_cfg, or a file on the seed disk.

All three hold the same, written before the boot. So nothing comes after it, and its time is as old as the vm is.

Source: systemd.system-credentials(7); Linux, Documentation/ABI/testing/sysfs-firmware-qemu_fw_cfg; ECMA-119 (ISO 9660),
sections 8.4 and 9.1.
"""

import os
import struct
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import msgspec

from broker.wire.port import CREDENTIAL_NAME, FW_CFG_NAME, MAX_LINE_BYTES, SEED_FILE, SEED_LABEL, Welcome
from guest.steps.facts import uptime_s
from guest.steps.modules import load_module

FW_CFG_MODULE = "qemu_fw_cfg"
SYSTEM_CREDENTIALS = Path("/run/credentials/@system")
"""Where systemd keeps what it took from fw_cfg, from release 251 on."""
FW_CFG_ENTRIES = Path("/sys/firmware/qemu_fw_cfg/by_name")
DISKS = Path("/sys/block")
DEVICES = Path("/dev")

_ISO_BLOCK_BYTES = 2048
_ISO_DESCRIPTOR = 16
_ISO_MAGIC = b"\x01CD001"
_ISO_LABEL = slice(40, 72)
_ISO_ROOT = slice(156, 190)
_ISO_PLACE = struct.Struct("<2xI4xI")
"""Of a directory record: first block and length of what it names."""
_ISO_NAME_AT = 33
_MAX_FOLDER_BYTES = 65_536


class HandedOver(NamedTuple):
    """A welcome, and by what it came."""

    welcome: Welcome
    way: str


def handed_over() -> HandedOver | None:
    """Look once in every place that there is; None when nothing was left in any."""
    for way, content in _contents():
        try:
            return HandedOver(msgspec.json.decode(content, type=Welcome), way)
        except msgspec.DecodeError as error:
            print(f"vmbroker: what {way} holds is no welcome: {error}", flush=True)
    return None


def aged(welcome: Welcome) -> Welcome:
    """Return the welcome with its time moved on by what the vm has been up; some seconds of the start are missing.

    Raises:
        ValueError: its time is no RFC 3339 time.
    """
    now = datetime.fromisoformat(welcome.now) + timedelta(seconds=uptime_s())
    return msgspec.structs.replace(welcome, now=now.isoformat())


def _contents() -> Iterator[tuple[str, bytes]]:
    for folder in filter(None, (os.environ.get("CREDENTIALS_DIRECTORY"), str(SYSTEM_CREDENTIALS))):
        yield from _read("a credential", Path(folder, CREDENTIAL_NAME))
    if not FW_CFG_ENTRIES.exists():
        load_module(FW_CFG_MODULE)
    yield from _read("fw_cfg", FW_CFG_ENTRIES / FW_CFG_NAME / "raw")
    for disk in sorted(DISKS.glob("*")):
        yield from _on_seed(DEVICES / disk.name)


def _read(way: str, path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with path.open("rb") as file:
            yield way, file.read(MAX_LINE_BYTES)
    except FileNotFoundError:
        return
    except OSError as error:
        print(f"vmbroker: {path} cannot be read: {error.strerror}", flush=True)


def _on_seed(device: Path) -> Iterator[tuple[str, bytes]]:
    """Read the file off the disk itself: it needs no file system's driver and no mount."""
    try:
        with device.open("rb", buffering=0) as disk:
            descriptor = _at(disk.fileno(), _ISO_DESCRIPTOR, _ISO_BLOCK_BYTES)
            if not descriptor.startswith(_ISO_MAGIC) or descriptor[_ISO_LABEL].strip() != SEED_LABEL.encode():
                return
            folder = _at(disk.fileno(), *_place(descriptor[_ISO_ROOT], _MAX_FOLDER_BYTES))
            for record in _records(folder):
                if _name(record) == SEED_FILE.encode():
                    yield "the seed disk", _at(disk.fileno(), *_place(record, MAX_LINE_BYTES))
    except (OSError, struct.error):
        # A drive without a disk, or no ISO 9660 after all.
        return


def _records(folder: bytes) -> Iterator[bytes]:
    """Yield the records of a folder; none reaches over the end of a block, whose rest is then empty."""
    for block in range(0, len(folder), _ISO_BLOCK_BYTES):
        at, end = block, min(block + _ISO_BLOCK_BYTES, len(folder))
        while at < end and folder[at] > _ISO_NAME_AT:
            yield folder[at : at + folder[at]]
            at += folder[at]


def _name(record: bytes) -> bytes:
    return record[_ISO_NAME_AT : _ISO_NAME_AT + record[_ISO_NAME_AT - 1]]


def _place(record: bytes, limit_bytes: int) -> tuple[int, int]:
    block, size_bytes = _ISO_PLACE.unpack_from(record)
    return block, min(size_bytes, limit_bytes)


def _at(disk: int, block: int, size_bytes: int) -> bytes:
    return os.pread(disk, size_bytes, block * _ISO_BLOCK_BYTES)
