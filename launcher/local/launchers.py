"""Finding launchers by their scratch folders, and sending one of them its signal.

What a state file says is another account's word where root asks. So a launcher lives only if its folder's lock is held,
and a signal goes to a process only if it began when the file says, belongs to the account whose folder, lock and state
file these are, and is held by a descriptor from before that was looked at: a pid that somebody else has since is never
hit. A folder is opened once, without following a link, and all of it read below that; what anybody put in its place
later is not asked.

Source: flock(2), pidfd_open(2), pidfd_send_signal(2).
"""

import fcntl
import os
import select
import signal
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from launcher.node.scratch import LOCK_FILE, PREFIX
from launcher.node.state_file import LauncherState, open_in, read_state_in, started_ticks


class CannotSignal(Exception):
    """The launcher's process cannot be told for sure, or not be signalled; the text says why."""


@dataclass(frozen=True, slots=True)
class Found:
    """One scratch folder of a launcher's. `state` is None where nothing that can be read was written yet.

    `owner` is the uid of folder, lock and state file alike.
    """

    folder: Path
    owner: int
    is_alive: bool
    state: LauncherState | None

    @property
    def name(self) -> str:
        """The launcher's name, its folder's where it told none."""
        return self.folder.name if self.state is None else self.state.name


def find_launchers(parents: Iterable[Path]) -> list[Found]:
    """Return the launchers below these folders, as far as this account may look: its own, or all for root.

    What has a launcher's name and is nothing that a launcher made is passed over.
    """
    return [found for parent in parents for folder in sorted(parent.glob(f"{PREFIX}*")) for found in _look(folder)]


def _look(folder: Path) -> Iterator[Found]:
    # Removed meanwhile, or nothing that a launcher made.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            owner = os.fstat(descriptor).st_uid
            if os.geteuid() in {0, owner}:
                yield Found(folder, owner, _is_held(descriptor), read_state_in(descriptor))
        finally:
            os.close(descriptor)


def _is_held(folder: int) -> bool:
    """Tell whether a launcher holds the lock.

    Raises:
        OSError: there is no lock, so it is no launcher's folder.
    """
    lock = open_in(folder, LOCK_FILE)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


class Process:
    """A living launcher's process, held so that its pid cannot become another's."""

    def __init__(self, descriptor: int, pid: int) -> None:
        self.pid = pid
        self._descriptor = descriptor

    def terminate(self) -> None:
        """Have it drain: SIGTERM.

        Raises:
            CannotSignal: it is another account's.
        """
        try:
            signal.pidfd_send_signal(self._descriptor, signal.SIGTERM)
        except ProcessLookupError:
            return
        except PermissionError as error:
            raise CannotSignal(f"process {self.pid} is another account's") from error

    def wait_gone(self, limit_s: float) -> bool:
        """Wait until it has ended; tell whether it has within the time."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(limit_s * 1_000))

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)


@contextmanager
def process_of(found: Found) -> Iterator[Process]:
    """Hold the process of a living launcher.

    Raises:
        CannotSignal: it is not what its state file says, or in another PID namespace.
    """
    if not found.is_alive or found.state is None:
        raise CannotSignal("it has written no state yet, or is gone; look again in a moment")
    pid = found.state.pid
    try:
        descriptor = os.pidfd_open(pid)
    except (OSError, OverflowError) as error:
        raise CannotSignal(f"there is no process {pid} here: it runs in a container; ask its batch system") from error
    with closing(Process(descriptor, pid)) as process:
        if started_ticks(pid) != found.state.started_ticks or _owner(pid) != found.owner:
            raise CannotSignal(f"process {pid} is not the launcher: that runs in a container; ask its batch system")
        yield process


def _owner(pid: int) -> int | None:
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except FileNotFoundError:
        return None
