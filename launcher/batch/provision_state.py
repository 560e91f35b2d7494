"""What a provisioner remembers across restarts: what it asked for, how that went, and what it thought last.

What is there is told by the batch system. Remembered is what that cannot tell: a request that was under way when the
provisioner died, and which of its jobs failed. A request is written down before it is made.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from launcher.batch.errors import Refused
from launcher.batch.planning import Kind
from launcher.durable import write_durably

_FILE: Final = "provision.json"
_LOCK: Final = "provision.lock"
_TRIES: Final = 20
_PAUSE_S: Final = 0.1
LOOKS_BEFORE_LOST: Final = 2
"""After so many answers of the batch system that do not show its jobs, a request without an answer counts as lost."""


class Asked(msgspec.Struct, kw_only=True):
    """One request. `ids`: of its jobs that have not ended; without any and not `is_answered`, nobody knows of any."""

    key: str
    user: str
    shape: str
    slots: int
    at_s: int
    ids: list[str] = []
    heard: list[str] = []
    """Those of its jobs whose launcher the broker has heard of."""
    is_answered: bool = False
    looks: int = 0

    @property
    def kind(self) -> Kind:
        return Kind(self.user, self.shape)


class KindState(msgspec.Struct, kw_only=True):
    """How one kind's jobs did, and what was decided of it last."""

    user: str
    shape: str
    size: str = ""
    failures: int = 0
    failure: str = ""
    too_many: int = 0
    sentence: str = ""
    asked: int = 0
    removed: int = 0


class ProvisionState(msgspec.Struct, kw_only=True):
    """The whole file. `looked_s`: when broker and batch system were both asked last; `trouble`: why not since."""

    tag: str
    looked_s: int = 0
    trouble: str = ""
    asked: list[Asked] = []
    kinds: list[KindState] = []
    queued: int = 0
    running: int = 0
    held: int = 0
    why: str = ""
    hard: int = 0
    soft: int = 0
    most_queued: int = 0

    def begin(self, key: str, kind: Kind, slots: int, now_s: int) -> Asked:
        """Remember a request that is about to be made."""
        asked = Asked(key=key, user=kind.user, shape=kind.shape, slots=slots, at_s=now_s)
        self.asked.append(asked)
        return asked

    def of(self, kind: Kind) -> KindState:
        """Return what is remembered of a kind, beginning if need be."""
        found = next((each for each in self.kinds if (each.user, each.shape) == kind), None)
        if found is None:
            found = KindState(user=kind.user, shape=kind.shape)
            self.kinds.append(found)
        return found


def read_state(folder: Path, tag: str) -> ProvisionState:
    """Return what is remembered; nothing, when nothing was yet.

    Raises:
        Refused: the file cannot be read: a provisioner that forgot might ask twice.
    """
    path = folder / _FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=ProvisionState)
    except FileNotFoundError:
        return ProvisionState(tag=tag)
    except (OSError, msgspec.DecodeError) as error:
        raise Refused(
            f"{path} cannot be read ({error}): remove it once `launcher jobs` shows no job of {tag} that you did not "
            "expect"
        ) from error


def write_state(folder: Path, state: ProvisionState) -> None:
    """Keep it, on disk when this returns."""
    write_durably(folder / _FILE, msgspec.json.format(msgspec.json.encode(state), indent=1) + b"\n")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Be the only provisioner of this folder.

    Raises:
        Refused: another one is.
        OSError: the folder's file system has no locks, or it cannot be written to.
    """
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        for left in reversed(range(_TRIES)):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                # It may be somebody who only looks whether it is held.
                if not left:
                    raise Refused(
                        f"a provisioner works with {folder} already; `launcher provision --status` shows what it does"
                    ) from error
                time.sleep(_PAUSE_S)
        yield
    finally:
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Tell whether a provisioner works with this folder now; where that cannot be told, that one does."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
