"""Which files this account has hashed itself, and found to be what their names say.

It is about files that nobody but this account and root can write to, and those on the site's read-only mirrors. A
file's identity tells that it was replaced, cut short or touched. It is no proof that the bytes are the same: what is
written through a shared mapping changes the file's times later, and on some file systems never. So nothing of another
account's is ever judged by it.
"""

import hashlib
import os
import socket
import tempfile
from pathlib import Path
from typing import Final, NamedTuple, Self

import msgspec
import structlog

from launcher.images.folder import open_regular
from launcher.images.threads import finish_in_thread

log = structlog.get_logger()

_MOST_DIGESTS: Final = 1_000
_MOST_FILES: Final = 8
_MOST_BYTES: Final = 4 << 20
_SLICE_BYTES: Final = 64 << 20
_CHUNK_BYTES: Final = 1 << 20


class Identity(NamedTuple):
    """What changes when a file is another one, or somebody has written to it in the usual way."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, descriptor: int) -> Self:
        status = os.fstat(descriptor)
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


_Memory = dict[str, list[Identity]]


class Verified:
    """The memory of one account on this node: in `folder` too, when that is this account's alone."""

    def __init__(self, folder: Path | None) -> None:
        self._file = None if folder is None else folder / f"verified-images-{socket.gethostname()[:64]}.json"
        self._memory: _Memory = {}

    def knows(self, digest: str, identity: Identity) -> bool:
        """Tell whether this account, in whichever launcher, has hashed that file as it is."""
        if identity in self._memory.get(digest, ()):
            return True
        self._merge(self._read())
        return identity in self._memory.get(digest, ())

    def note(self, digest: str, identity: Identity) -> None:
        """Remember a file. A memory that cannot be written costs another hashing, by the next launcher."""
        self._merge(self._read())
        self._merge({digest: [identity]})
        try:
            self._write()
        except OSError as error:
            log.warning("verified_images_not_kept", file=str(self._file), reason=error.strerror)

    def _merge(self, other: _Memory) -> None:
        for digest, identities in other.items():
            known = self._memory.pop(digest, [])
            self._memory[digest] = list(dict.fromkeys([*known, *identities]))[-_MOST_FILES:]
        for digest in list(self._memory)[:-_MOST_DIGESTS]:
            del self._memory[digest]

    def _read(self) -> _Memory:
        if self._file is None:
            return {}
        try:
            descriptor = open_regular(self._file)
        except OSError:
            return {}
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if status.st_uid != os.geteuid() or status.st_mode & 0o077 or status.st_size > _MOST_BYTES:
                log.warning("verified_images_not_ours", file=str(self._file))
                return {}
            try:
                return msgspec.json.decode(file.read(), type=_Memory)
            except msgspec.DecodeError:
                return {}

    def _write(self) -> None:
        if self._file is None:
            return
        folder = self._file.parent
        folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        status = folder.stat()
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise PermissionError(1, "other accounts may write to its folder")
        descriptor, draft = tempfile.mkstemp(prefix=".verified-", dir=folder)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(self._memory))
        Path(draft).replace(self._file)


async def digest_of(descriptor: int) -> str:
    """Return the `sha256:…` of an open file, a gigabyte in a second or two; may be cancelled on its way."""
    hasher, offset = hashlib.sha256(), 0
    while read := await finish_in_thread(hash_slice, descriptor, offset, hasher):
        offset += read
    return f"sha256:{hasher.hexdigest()}"


def hash_slice(descriptor: int, offset: int, hasher: "hashlib._Hash") -> int:
    """Hash a slice of the file and return its length, 0 at the end. Blocks."""
    done = 0
    while done < _SLICE_BYTES and (chunk := os.pread(descriptor, _CHUNK_BYTES, offset + done)):
        hasher.update(chunk)
        done += len(chunk)
    return done
