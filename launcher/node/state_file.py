"""What a launcher writes of itself into its scratch folder, for `launcher ps` and `launcher drain` on the same node.

It is no more than what its log says, and only its own account may read it. Who reads it must not believe it: the folder
may be another account's. Whether the launcher lives is told by the lock of its scratch folder alone.
"""

import errno
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from broker.wire.dispatches import Room
from broker.wire.kinds import Message
from broker.wire.launchers import Health
from launcher.node.scratch import renew
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
    total: Room
    """What one vm could get when no other runs."""
    free: Room | None
    vm_count: int
    vms: list[VmSeen]
    sources: dict[str, str]
    """Where each size of the slot comes from."""
    ends_at: str | None = None


def write_state(scratch: Path, state: LauncherState) -> None:
    """Put the state in place of the last one, as a whole or not at all, and keep the folder from looking old.

    Raises:
        OSError: the scratch folder cannot be written.
    """
    draft = scratch / f"{STATE_FILE}.{secrets.token_hex(4)}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(state))
        draft.replace(scratch / STATE_FILE)
        renew(scratch)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def read_state_in(folder: int) -> LauncherState | None:
    """Return what the launcher of an open folder wrote; None when there is nothing that a launcher writes."""
    try:
        descriptor = open_in(folder, STATE_FILE)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file, suppress(OSError, ValueError, RecursionError):
        return msgspec.json.decode(file.read(MAX_STATE_BYTES), type=LauncherState)
    return None


def open_in(folder: int, name: str) -> int:
    """Open a regular file of the account that an open folder belongs to, for reading, and wait for nothing.

    Raises:
        OSError: it is not there, may not be opened, or is anything else: a link, a pipe, another account's.
    """
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.fstat(folder).st_uid:
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file of the folder's owner", name)
    return descriptor


def started_ticks(pid: int) -> int | None:
    """Return when a process began, in the kernel's own unit; None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rpartition(")")[2].split()[_START_TIME_FIELD])
