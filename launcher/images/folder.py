"""The cache folder's files, in a folder that other accounts may write to.

`sha256-HEX` is a whole image for everybody, `sha256-HEX.lock` is held by whoever downloads it. `own-UID` is one
account's alone: its downloads (`sha256-HEX.SIZE.part`), when it last used an image (`sha256-HEX.used`), that it had one
from where anybody may have it (`sha256-HEX.public`), and images whose shared name another account's file occupies.
Nothing that another account could have put there is written to, and neither a link nor a pipe is opened as if it were
an image. What is looked for and removed is so in folders held open:
their owners may exchange what has a folder's name at any moment.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from launcher.images.errors import CacheFailed, cache_failure
from launcher.images.source import Image

log = structlog.get_logger()

_FILE: Final = re.compile(r"(?P<image>sha256-[0-9a-f]{64})(?:\.(?P<size>[0-9]{1,16})\.part|\.used|\.public|\.lock)?\Z")
_OWN: Final = re.compile(r"own-(?P<uid>0|[1-9][0-9]{0,9})\Z")
_SAFELY: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def open_regular(path: Path | str, flags: int = os.O_RDONLY, *, follow: bool = False, folder: int | None = None) -> int:
    """Open a regular file and return its descriptor; a link, a pipe or a device is refused, and never waited for.

    Args:
        path: Its path, or its name in the open `folder`.
        flags: As of open(2).
        follow: Go where a link points.
        folder: The descriptor of the folder that it is in.

    Raises:
        OSError: it is not there, not regular, or may not be opened.
    """
    descriptor = os.open(path, flags | (_SAFELY & ~os.O_NOFOLLOW if follow else _SAFELY), 0o600, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return descriptor


def is_named(descriptor: int, path: Path | str, *, folder: int | None = None) -> bool:
    """Tell whether `path` still names the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, dir_fd=folder, follow_symlinks=False))
    except FileNotFoundError:
        return False


def is_safe(descriptor: int) -> bool:
    """Tell whether nobody but this account and root may write to the open file."""
    status = os.fstat(descriptor)
    return status.st_uid in {0, os.geteuid()} and not status.st_mode & OTHERS_WRITE


class Folder(NamedTuple):
    """A folder held open: the shared one, or, with an `owner_uid`, one account's own."""

    path: Path
    descriptor: int
    owner_uid: int | None = None

    def has(self, name: str) -> bool:
        try:
            os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True


class Kept(NamedTuple):
    """A file in the cache folder. `image` is whose it is by its name, which is None for a file that is not ours."""

    folder: Folder
    name: str
    status: os.stat_result
    image: str | None = None
    promised_bytes: int = 0

    @property
    def path(self) -> Path:
        return self.folder.path / self.name

    @property
    def is_image(self) -> bool:
        return self.name == self.image

    @property
    def disk_bytes(self) -> int:
        return self.status.st_blocks * 512

    @property
    def owed_bytes(self) -> int:
        """What an unfinished download will still take. Another account's is believed for as much as it has brought."""
        owed = max(0, self.promised_bytes - self.status.st_size)
        return owed if self.status.st_uid in {0, os.geteuid()} else min(owed, self.disk_bytes)


class CacheFolder:
    """Names of the cache folder's files, as one account sees them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.own = path / f"own-{os.geteuid()}"

    def prepare(self) -> None:
        """Make the folder, and this account's own one in it; every account may read both, because QEMU has another.

        Raises:
            CacheFailed: it cannot be made, or another account's folder has the name of ours.
        """
        try:
            for folder in (self.path, self.own):
                _make(folder)
            mode = self.path.stat().st_mode
        except OSError as error:
            raise cache_failure(self.path, error) from error
        self._check_own()
        if mode & OTHERS_WRITE and not mode & stat.S_ISVTX:
            log.warning("image_cache_is_open", folder=str(self.path), mend="chmod +t: others may replace files in it")

    def _check_own(self) -> None:
        status = self.own.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & OTHERS_WRITE:
            raise CacheFailed(
                f"{self.own} is no folder of this account (uid {os.geteuid()}) alone: have it removed, or name another "
                "--cache"
            )

    def places(self, image: Image) -> tuple[Path, Path]:
        """Return where the whole image may be: for everybody, and of this account alone."""
        return self.path / image.file_name, self.own / image.file_name

    def lock(self, image: Image) -> Path:
        return self.path / f"{image.file_name}.lock"

    def part(self, image: Image) -> Path:
        return self.own / f"{image.file_name}.{image.size_bytes}.part"

    def note_use(self, image: Image) -> None:
        """Note that the image is used now. Not on the image itself: that would look like a change of it."""
        (self.own / f"{image.file_name}.used").touch(0o644)

    def note_public(self, image: Image) -> None:
        """Note that the image came from where anybody may have it: its name may be advertised."""
        (self.own / f"{image.file_name}.public").touch(0o644)

    def public_digests(self, most: int) -> list[str]:
        """Return the digests of images that are here and that some account had from where anybody may have them.

        At most so many, those last used first.

        Raises:
            OSError: the folder cannot be read.
        """
        with self.opened() as folders:
            named = [one for one in kept_in(folders) if one.is_image and _is_public(one, folders)]
            used_s = {one.name: last_used_s(one, folders) for one in named}
            latest = sorted(used_s, key=lambda name: (-used_s[name], name))[:most]
            return [name.replace("-", ":") for name in latest]

    def parts_of(self, image: Image) -> tuple[int, ...]:
        """Return the sizes of all accounts' downloads of an image: what changes as one goes on."""
        with self.opened() as folders:
            return tuple(one.status.st_size for one in kept_in(folders) if one.image == image.file_name)

    @contextmanager
    def opened(self) -> Iterator[list[Folder]]:
        """Hold the folder open, and the accounts' own folders in it that are really theirs.

        Raises:
            OSError: the cache folder cannot be read.
        """
        with ExitStack() as stack:
            descriptor = os.open(self.path, _FOLDER)
            stack.callback(os.close, descriptor)
            folders = [Folder(self.path, descriptor)]
            for name in os.listdir(descriptor):  # noqa: PTH208 - of the open folder, whatever has its name now
                if own := _OWN.fullmatch(name):
                    with suppress(OSError):
                        folders.append(_open_own(self.path / name, descriptor, int(own["uid"]), stack))
            yield folders


def kept_in(folders: list[Folder]) -> Iterator[Kept]:
    """Yield every regular file of the open folders."""
    for folder in folders:
        try:
            names = os.listdir(folder.descriptor)  # noqa: PTH208 - as above
        except OSError:
            continue
        yield from (found for found in (_kept(folder, name) for name in names) if found is not None)


def last_used_s(kept: Kept, folders: list[Folder]) -> float:
    """Return when any account used an image last, or when it came here."""
    times = [kept.status.st_mtime]
    for folder in folders:
        with suppress(OSError):
            note = os.stat(f"{kept.name}.used", dir_fd=folder.descriptor, follow_symlinks=False)
            times.append(note.st_mtime)
    return max(times)


def _is_public(kept: Kept, folders: list[Folder]) -> bool:
    return any(folder.owner_uid is not None and folder.has(f"{kept.name}.public") for folder in folders)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        there = Path(error.filename)
        if there.is_dir():
            return
        what = "a link to nothing" if there.is_symlink() and not there.exists() else "no folder"
        raise CacheFailed(f"{there} is {what}: have it removed, or name another --cache") from error
    # Whatever the umask: a batch system's is often 077.
    folder.chmod(0o755)


def _open_own(path: Path, parent: int, uid: int, stack: ExitStack) -> Folder:
    descriptor = os.open(path.name, _FOLDER | os.O_NOFOLLOW, dir_fd=parent)
    stack.callback(os.close, descriptor)
    if os.fstat(descriptor).st_uid != uid:
        raise NotADirectoryError(errno.ENOTDIR, "it is not its account's", str(path))
    return Folder(path, descriptor, uid)


def _kept(folder: Folder, name: str) -> Kept | None:
    try:
        status = os.stat(name, dir_fd=folder.descriptor, follow_symlinks=False)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    ours = _FILE.fullmatch(name)
    if ours is None:
        return Kept(folder, name, status)
    return Kept(folder, name, status, ours["image"], int(ours["size"] or 0))
