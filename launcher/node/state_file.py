"""What a launcher writes of itself into its scratch folder, for `launcher ps` and `launcher drain` on the same node.

It is no more than what its log says, and only its own account may read it. Who reads it must not believe it: the folder
may be another account's. Whether the launcher lives is told by the lock of its scratch folder alone.
"""

import os
import secrets
from pathlib import Path
from typing import Final

import msgspec

from broker.wire.dispatches import Room
from broker.wire.kinds import Message
from broker.wire.launchers import Health
from launcher.node.vms import VmSeen

STATE_FILE: Final = "state.json"
MAX_STATE_BYTES: Final = 1 << 20
MAX_VMS: Final = 1_000
"""Vms that the file lists; so many bytes are then never reached."""
_START_TIME_FIELD: Final = 19
"""The 22nd field of /proc/PID/stat, counted behind the command's closing parenthesis. Source: proc(5)."""


class LauncherState(Message, frozen=True, kw_only=True):
    """How one launcher stood when it last wrote. Times are RFC 3339."""

    name: str
    pid: int
    started_ticks: int
    """When the process began, in the kernel's own unit: a pid that somebody else has since has another."""
    broker: str
    since: str
    written_at: str
    health: Health
    total: Room | None
    """What one vm could get when no other runs."""
    free: Room | None
    vm_count: int
    vms: list[VmSeen]
    sources: dict[str, str]
    """Where each size of the slot comes from."""
    ends_at: str | None = None


def write_state(scratch: Path, state: LauncherState) -> None:
    """Put the state in place of the last one, as a whole or not at all.

    Raises:
        OSError: the scratch folder cannot be written.
    """
    draft = scratch / f"{STATE_FILE}.{secrets.token_hex(4)}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(state))
        draft.replace(scratch / STATE_FILE)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def read_state(scratch: Path) -> LauncherState | None:
    """Return what the launcher of this folder wrote; None when it is not there, or is nothing that a launcher writes.

    Raises:
        PermissionError: the folder is another account's.
    """
    try:
        descriptor = os.open(scratch / STATE_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        raise
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(MAX_STATE_BYTES)
    try:
        return msgspec.json.decode(content, type=LauncherState)
    except msgspec.DecodeError:
        return None


def started_ticks(pid: int) -> int | None:
    """Return when a process began, in the kernel's own unit; None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rpartition(")")[2].split()[_START_TIME_FIELD])
