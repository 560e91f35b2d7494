"""The cache folder's files, in a folder that other accounts may write to.

`sha256-HEX` is a whole image for everybody, `sha256-HEX.lock` is held by whoever downloads it. `own-UID` is one
account's alone: its downloads (`sha256-HEX.SIZE.part`), when it last used an image (`sha256-HEX.used`), and images
whose shared name another account's file occupies. Nothing that another account could have put there is written to, and
neither a link nor a pipe is opened as if it were an image.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from launcher.images.errors import CacheFailed, cache_failure
from launcher.images.source import Image

log = structlog.get_logger()

_IMAGE: Final = re.compile(r"sha256-[0-9a-f]{64}\Z")
_PART: Final = re.compile(r"sha256-[0-9a-f]{64}\.(?P<size>[0-9]{1,16})\.part\Z")
_OWN: Final = re.compile(r"own-[0-9]{1,10}\Z")
_SAFELY: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_regular(path: Path, flags: int = os.O_RDONLY, *, follow: bool = False) -> int:
    """Open a regular file and return its descriptor; a link, a pipe or a device is refused, and never waited for.

    Raises:
        OSError: it is not there, not regular, or may not be opened.
    """
    descriptor = os.open(path, flags | (_SAFELY & ~os.O_NOFOLLOW if follow else _SAFELY), 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return descriptor


def is_named(descriptor: int, path: Path) -> bool:
    """Tell whether `path` still names the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


class Kept(NamedTuple):
    """A file in the cache folder. `owed_bytes` is what an unfinished download will still take."""

    path: Path
    status: os.stat_result
    is_image: bool
    owed_bytes: int = 0

    @property
    def disk_bytes(self) -> int:
        return self.status.st_blocks * 512


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
                if not folder.exists():
                    folder.mkdir(parents=True)
                    # Whatever the umask: a batch system's is often 077.
                    folder.chmod(0o755)
        except FileExistsError:
            self.prepare()
            return
        except OSError as error:
            raise cache_failure(self.path, error) from error
        self._check_own()
        mode = self.path.stat().st_mode
        if mode & 0o022 and not mode & stat.S_ISVTX:
            log.warning("image_cache_is_open", folder=str(self.path), mend="chmod +t: others may replace files in it")

    def _check_own(self) -> None:
        status = self.own.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
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

    def last_used_s(self, kept: Kept) -> float:
        """Return when any account used an image last, or when it came here."""
        times = [kept.status.st_mtime]
        for folder in self._own_folders():
            try:
                times.append((folder / f"{kept.path.name}.used").lstat().st_mtime)
            except OSError:
                continue
        return max(times)

    def parts_of(self, image: Image) -> tuple[int, ...]:
        """Return the sizes of all accounts' downloads of an image: what changes as one goes on."""
        return tuple(kept.status.st_size for kept in self.kept() if kept.path.name.startswith(f"{image.file_name}."))

    def kept(self) -> Iterator[Kept]:
        """Yield every regular file of the folder and of the accounts' own folders."""
        for folder in (self.path, *self._own_folders()):
            try:
                paths = list(folder.iterdir())
            except OSError:
                continue
            yield from (found for found in map(_kept, paths) if found is not None)

    def _own_folders(self) -> list[Path]:
        try:
            return [entry for entry in self.path.iterdir() if _OWN.fullmatch(entry.name) and not entry.is_symlink()]
        except OSError:
            return []


def _kept(path: Path) -> Kept | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    part = _PART.fullmatch(path.name)
    owed = max(0, int(part["size"]) - status.st_size) if part else 0
    return Kept(path, status, bool(_IMAGE.fullmatch(path.name)), owed)
