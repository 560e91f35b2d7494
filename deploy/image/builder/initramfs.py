"""An initramfs of busybox, one script and a few kernel modules, written without root: the archive itself names owners.

Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst (the "newc" cpio format).
"""

import gzip
import lzma
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .run import BuildFailed, output_of


@dataclass(frozen=True)
class Entry:
    """A file, folder or symbolic link of the archive, owned by root; `data` is a link's target."""

    path: str
    mode: int
    data: bytes = b""


def folder(path: str) -> Entry:
    return Entry(path, stat.S_IFDIR | 0o755)


def file(path: str, data: bytes, permissions: int = 0o644) -> Entry:
    return Entry(path, stat.S_IFREG | permissions, data)


def link(path: str, target: str) -> Entry:
    return Entry(path, stat.S_IFLNK | 0o777, target.encode())


def newc(entries: Iterable[Entry]) -> bytes:
    """The archive of `entries` in their order; equal entries give equal bytes."""
    archive = bytearray()
    for inode, entry in enumerate([*entries, Entry("TRAILER!!!", 0)], start=1):
        name = entry.path.encode() + b"\0"
        fields = (inode, entry.mode, 0, 0, 1, 0, len(entry.data), 0, 0, 0, 0, len(name), 0)
        archive += b"070701" + b"".join(b"%08X" % field for field in fields) + name
        archive += bytes(-len(archive) % 4)
        archive += entry.data
        archive += bytes(-len(archive) % 4)
    return bytes(archive)


def compressed(archive: bytes) -> bytes:
    return gzip.compress(archive, compresslevel=9, mtime=0)


def busybox(program: Path) -> list[Entry]:
    """Busybox at /bin/busybox, and a link in /bin for every applet that it says it has."""
    applets = output_of([program, "--list"]).split()
    links = [link(f"bin/{applet}", "busybox") for applet in sorted(set(applets) - {"busybox"})]
    return [folder("bin"), file("bin/busybox", program.read_bytes(), 0o755), *links]


def modules(tree: Path, wanted: Sequence[str]) -> list[Entry]:
    """Kernel modules as /lib/modules/NN-NAME.ko: loaded in the order of their names, each finds what it needs."""
    found = {_module_name(path): path for path in tree.rglob("*.ko*")}
    contents: dict[str, bytes] = {}

    def add(name: str) -> None:
        name = name.replace("-", "_")
        if name in contents:
            return
        if name not in found:
            raise BuildFailed(f"the kernel's package has no module {name}")
        data = _plain(found[name])
        for dependency in dependencies(data):
            add(dependency)
        contents[name] = data

    for name in wanted:
        add(name)
    return [
        folder("lib"),
        folder("lib/modules"),
        *(file(f"lib/modules/{number:02}-{name}.ko", data) for number, (name, data) in enumerate(contents.items())),
    ]


def dependencies(module: bytes) -> list[str]:
    """The names of the modules that a module's own .modinfo section asks for."""
    _, found, rest = module.partition(b"\0depends=")
    return [name for name in rest.partition(b"\0")[0].decode().split(",") if name] if found else []


def _module_name(path: Path) -> str:
    return path.name.partition(".")[0].replace("-", "_")


def _plain(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def text_files(files: Mapping[str, str]) -> list[Entry]:
    return [file(path, text.encode()) for path, text in files.items()]
