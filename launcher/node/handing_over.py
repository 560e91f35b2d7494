"""What a guest is told on its port, once more for one that has no port: by fw_cfg, and on the seed disk.

Both are files of the vm's run folder that QEMU's account alone may read, and go with it. They are written before the
boot and never again, so they hold no stop, and a time that grows old; the ticket in them is worth nothing once it is
claimed.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from broker.wire.port import Welcome
from launcher.guest_disk import seed_disk
from launcher.hypervisor.account import Account

TICKET_FILE = "ticket"
SEED_FILE = "seed.iso"


@dataclass(frozen=True, slots=True)
class HandedOver:
    """The files of one vm: what fw_cfg reads, and the seed disk."""

    ticket: Path
    seed: Path


def hand_over(folder: Path, welcome: Welcome, account: Account) -> HandedOver:
    """Write both files into the run folder, while that is the launcher's own.

    Raises:
        OSError: they cannot be, on this node.
    """
    content = msgspec.json.encode(welcome)
    files = HandedOver(folder / TICKET_FILE, folder / SEED_FILE)
    _write(files.ticket, content, account)
    _write(files.seed, seed_disk(content), account)
    return files


def _write(path: Path, content: bytes, account: Account) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    account.take(path)
