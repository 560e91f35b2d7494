"""The secrets that came with the claim, for the time of the run, in memory alone.

They lie in a folder of the program's account, mode 0700, each a file of mode 0600. As root the folder is a file system
of its own: tmpfs that is never swapped out, or ramfs. Otherwise it is made in a tmpfs that is there, where nothing is
swapped. Where neither can be had the item fails before its program runs.

The folder is the program's, so it may do there what it likes: every name is looked up in the folder itself, by its
descriptor, and no symbolic link is followed.

Source: tmpfs(5), Linux Documentation/filesystems/ramfs-rootfs-initramfs.rst, proc(5) on swaps and mounts.
"""

import os
import stat
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from broker.wire.secrets import VARIABLES, GivenSecret, variable_of
from broker.wire.states import FailureCode
from guest.steps.account import Account
from guest.steps.failure import StepFailed
from guest.steps.mount import CannotMount, detach, mount_memory

REFRESH_S = 300.0
"""How often the broker is asked for secrets that changed, beside each transfer."""
MOUNTS = Path("/proc/self/mounts")
SWAPS = Path("/proc/swaps")
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})


class Secrets:
    """Those of one item: kept from `open` to `wipe`, and replaced by `take`."""

    def __init__(self, given: Sequence[GivenSecret], say: Callable[[str], None]) -> None:
        self._given = {each.name: each for each in given}
        self._say = say
        self._account: Account | None = None
        self._folder: Path | None = None
        self._descriptor: int | None = None
        self._is_mounted = False

    @property
    def versions(self) -> dict[str, int]:
        """What the vm has, for the broker to tell what changed."""
        return {name: each.version for name, each in self._given.items()}

    def open(self, folder: Path, account: Account) -> None:
        """Write them for the account; `folder` is made where a file system can be mounted on it.

        Raises:
            StepFailed: there is no place in memory for them.
        """
        if not self._given:
            return
        try:
            self._folder = self._made(folder, account)
            self._descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            self._account = account
            for each in self._given.values():
                self._write(each)
        except OSError as error:
            self.wipe()
            raise _not_kept(f"cannot be written in memory: {error.strerror}") from error
        self._say(f"keeps {len(self._given)} secrets in memory")

    def take(self, given: Sequence[GivenSecret]) -> None:
        """Put newer ones in the place of those that are kept; a reader sees the old one or the new one, whole."""
        for each in given:
            if each.name not in self._given:
                continue
            try:
                self._write(each)
            except OSError as error:
                self._say(f"the secret {each.name} could not be renewed: {error.strerror}")
                continue
            self._given[each.name] = each
            self._say(f"has version {each.version} of the secret {each.name}")

    def variables(self) -> dict[str, str]:
        """Return what the program's environment says of them: where they lie, never what they are."""
        if self._folder is None:
            return {}
        told = {"VMBROKER_SECRETS": str(self._folder)}
        for each in self._given.values():
            path = str(self._folder / each.name)
            told[variable_of(each.name)] = path
            if each.kind in VARIABLES:
                told[VARIABLES[each.kind]] = path
        return told

    def wipe(self) -> None:
        """Overwrite and remove them, and whatever else is in their folder, and the folder; never raises."""
        if self._descriptor is not None:
            _empty(self._descriptor)
            os.close(self._descriptor)
        if self._folder is not None:
            with suppress(OSError):
                if self._is_mounted:
                    detach(self._folder)
                self._folder.rmdir()
        self._given, self._folder, self._descriptor, self._is_mounted = {}, None, None, False

    def _made(self, folder: Path, account: Account) -> Path:
        """Make the folder in memory, the account's own."""
        if os.geteuid() == 0:
            folder.mkdir(mode=0o700)
            try:
                mount_memory(folder)
            except CannotMount as error:
                self._say(str(error))
                folder.rmdir()
            else:
                self._is_mounted = True
                self._folder = folder  # so that it is taken away whatever fails from here on
                return _handed_over(folder, account)
        self._folder = _made_in_memory()
        return _handed_over(self._folder, account)

    def _write(self, secret: GivenSecret) -> None:
        """Write a file beside, then rename it."""
        if self._descriptor is None or self._account is None:
            return
        beside = f".{os.urandom(8).hex()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(beside, flags, 0o600, dir_fd=self._descriptor)
        try:
            with os.fdopen(descriptor, "wb") as file:
                if not self._account.is_current:
                    os.fchown(file.fileno(), self._account.uid, self._account.gid)
                file.write(secret.value)
            os.rename(beside, secret.name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        except BaseException:
            with suppress(OSError):
                os.unlink(beside, dir_fd=self._descriptor)
            raise


def _handed_over(folder: Path, account: Account) -> Path:
    folder.chmod(0o700)
    if not account.is_current:
        os.chown(folder, account.uid, account.gid)
    return folder


def _made_in_memory() -> Path:
    """Make a folder in a tmpfs that is there.

    Raises:
        StepFailed: there is none, or what it holds may be swapped out.
    """
    if len(SWAPS.read_text().splitlines()) > 1:
        raise _not_kept("would be swapped out to a disk: run the client as root, or switch swap off")
    own = os.environ.get("XDG_RUNTIME_DIR")
    shared = Path("/dev/shm")  # noqa: S108 # a folder of our own is made in it, which nobody else can name before
    for place in (Path(own) if own else Path("/run/user") / str(os.geteuid()), shared):
        if file_system_of(place) in _IN_MEMORY and os.access(place, os.W_OK | os.X_OK):
            return Path(tempfile.mkdtemp(prefix="vmbroker-", dir=place))
    raise _not_kept("have no place in memory: no tmpfs can be mounted, and none is there to write to")


def file_system_of(place: Path) -> str:
    """Return the type of the file system that holds a folder; '' when there is no such folder."""
    if not place.is_dir():
        return ""
    found, kind = "", ""
    for line in MOUNTS.read_text().splitlines():
        _, point, type_, *_ = line.split(" ")
        point = point.encode().decode("unicode_escape")
        if len(point) >= len(found) and place.resolve().is_relative_to(point):
            found, kind = point, type_
    return kind


def _not_kept(why: str) -> StepFailed:
    return StepFailed(FailureCode.SECRET_NOT_KEPT, f"the secrets that the stream needs {why}")


def _empty(folder: int) -> None:
    """Overwrite and remove all that is in a folder; what cannot be removed stays."""
    with suppress(OSError):
        for name in os.listdir(folder):
            with suppress(OSError):
                _remove(name, folder)


def _remove(name: str, folder: int) -> None:
    is_folder = stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    if is_folder:
        inside = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            _empty(inside)
        finally:
            os.close(inside)
        os.rmdir(name, dir_fd=folder)
        return
    with suppress(OSError):
        _overwrite(name, folder)
    os.unlink(name, dir_fd=folder)


def _overwrite(name: str, folder: int) -> None:
    # A pipe is not waited for, and a device is none of ours: the file system has none.
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, dir_fd=folder), "wb") as file:
        found = os.fstat(file.fileno())
        if stat.S_ISREG(found.st_mode):
            for _ in range(0, found.st_size, 65_536):
                file.write(bytes(65_536))
            file.flush()
