"""The output policy: the last look at a domain's XML before libvirt sees it.

It trusts neither the transform nor the table's word about what is ours: what we add is listed here once more, closed,
with the values it may have. Of the table it takes only which guest hardware is kept, and even of that no tag that can
name a thing of the host, and no path anywhere but at the places listed. It judges strings; whether a path inside the
run folder is a symlink is for the caller, who owns that folder, to know.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lxml import etree

from launcher.domain_xml.consoles import CHANNEL_NAME
from launcher.domain_xml.identity import NAMESPACE
from launcher.domain_xml.judge import RULES
from launcher.domain_xml.parsing import parse
from launcher.domain_xml.rules import Treatment, matches, text_of

# Linux's sockaddr_un has room for no more.
MAX_SOCKET_PATH_BYTES = 107

_UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_PATH = "/.+"
_METADATA = f"metadata/{{{NAMESPACE}}}vm"

_OURS: dict[str, str] = {
    "@type": "kvm|qemu",
    "name": "[A-Za-z0-9][A-Za-z0-9._-]{0,127}",
    "uuid": _UUID,
    "genid": _UUID,
    "metadata": "",
    _METADATA: "",
    f"{_METADATA}/@dispatch": _UUID,
    f"{_METADATA}/@item": r"[A-Za-z0-9][A-Za-z0-9._/-]{0,255}",
    "memory": "[1-9][0-9]{0,8}",
    "memory/@unit": "MiB",
    "vcpu": "[1-9][0-9]{0,3}",
    "vcpu/@placement": "static",
    "cpu": "",
    "cpu/@mode": "custom|host-passthrough",
    "cpu/@match": "exact",
    "cpu/@check": "none",
    "cpu/model": "qemu64",
    "cpu/model/@fallback": "forbid",
    "cpu/topology": "",
    "cpu/topology/@sockets": "1",
    "cpu/topology/@cores": "[1-9][0-9]{0,3}",
    "cpu/topology/@threads": "1",
    "cpu/feature": "",
    "cpu/feature/@policy": "require|disable",
    "cpu/feature/@name": "[a-z0-9.]+",
    "os/@firmware": "efi",
    "os/type": "hvm",
    "os/type/@arch": "x86_64",
    "os/type/@machine": "[A-Za-z0-9._-]+",
    "os/firmware": "",
    "os/firmware/feature": "",
    "os/firmware/feature/@enabled": "no",
    "os/firmware/feature/@name": "secure-boot",
    "os/nvram": _PATH,
    "features/tcg": "",
    "features/tcg/tb-cache": "[0-9]{1,4}",
    "features/tcg/tb-cache/@unit": "MiB",
    "on_poweroff": "destroy",
    "on_reboot": "destroy",
    "on_crash": "destroy",
    "pm": "",
    "pm/suspend-to-mem": "",
    "pm/suspend-to-mem/@enabled": "no",
    "pm/suspend-to-disk": "",
    "pm/suspend-to-disk/@enabled": "no",
    "devices/emulator": _PATH,
    "devices/disk/@type": "file",
    "devices/disk/@device": "disk|cdrom|floppy",
    "devices/disk/driver": "",
    "devices/disk/driver/@name": "qemu",
    "devices/disk/driver/@type": "qcow2|raw",
    "devices/disk/driver/@cache": "unsafe",
    "devices/disk/driver/@error_policy": "stop",
    "devices/disk/driver/@rerror_policy": "stop",
    "devices/disk/driver/@discard": "unmap",
    "devices/disk/source": "",
    "devices/disk/source/@file": _PATH,
    "devices/interface/@type": "user",
    "devices/interface/rom": "",
    "devices/interface/rom/@enabled": "no",
    "devices/serial": "",
    "devices/serial/@type": "file",
    "devices/serial/source": "",
    "devices/serial/source/@path": _PATH,
    "devices/serial/source/@append": "on",
    "devices/serial/target": "",
    "devices/serial/target/@port": "0",
    "devices/channel": "",
    "devices/channel/@type": "unix",
    "devices/channel/source": "",
    "devices/channel/source/@mode": "bind",
    "devices/channel/source/@path": _PATH,
    "devices/channel/target": "",
    "devices/channel/target/@type": "virtio",
    "devices/channel/target/@name": CHANNEL_NAME,
    "devices/rng/@model": "virtio",
    "devices/rng/backend": "/dev/urandom",
    "devices/rng/backend/@model": "random",
    "devices/memballoon": "",
    "devices/memballoon/@model": "none",
    "devices/panic": "",
    "devices/panic/@model": "isa",
    "devices/video/model": "",
    "devices/video/model/@type": "vga|none",
    "devices/controller/@type": "pci|scsi|ide|sata|fdc|virtio-serial|usb",
    "devices/controller/@model": "[a-z0-9-]+",
}
# All others stand once at most below their parent: libvirt would choose one of several, and not the one looked at here.
_MANY = {"os/boot", "cpu/feature", "clock/timer", "devices/disk", "devices/controller"}
_NEEDED = {
    ".": ("name", "uuid", "metadata", "memory", "vcpu", "cpu", "os", "on_poweroff", "on_reboot", "on_crash", "devices"),
    "devices": ("emulator", "disk", "interface", "serial", "channel", "rng", "memballoon", "panic"),
    "devices/disk": ("driver", "source", "target"),
}
_HOST_PATHS = {path for path, values in _OURS.items() if values == _PATH} | {"devices/rng/backend"}
_MAY_HAVE_SLASH = _HOST_PATHS | {f"{_METADATA}/@item"}
_NEVER = {
    *("hostdev", "filesystem", "shmem", "graphics", "redirdev", "smartcard", "tpm", "vsock", "lease", "kernel"),
    *("initrd", "loader", "sysinfo", "seclabel", "encryption", "backingStore"),
}


def _allowed() -> dict[str, tuple[str, ...]]:
    """What is ours, and the guest hardware that the table keeps at other places."""
    allowed: dict[str, tuple[str, ...]] = {path: (values,) for path, values in _OURS.items()}
    for rule in RULES:
        is_hardware = rule.path not in _OURS and _NEVER.isdisjoint(rule.path.split("/"))
        if rule.treatment is Treatment.KEEP and is_hardware:
            allowed[rule.path] = (*allowed.get(rule.path, ()), rule.values)
    return allowed


_ALLOWED = _allowed()


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedPaths:
    """The host's files that one vm's domain may name; all absolute and without symlinks, `.` or `..`.

    `run_folder` is the vm's own. `guest_disk`, and whatever lies in `cache_folder`, may be named read-only.
    """

    run_folder: str
    cache_folder: str
    guest_disk: str
    emulator: str

    def __post_init__(self) -> None:
        for path in (self.run_folder, self.cache_folder, self.guest_disk, self.emulator):
            if not _is_plain(path):
                raise ValueError(f"{path!r} is no absolute path without '.', '..' or empty segments")


class UnsafeOutput(Exception):
    """The transform made what no vm may have: a bug of ours, or an attack that found one. No vm is started."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


def check_output(xml: str, allowed: AllowedPaths) -> None:
    """Return only if every element, attribute, value and path of `xml` is one that a vm may have.

    Raises:
        UnsafeOutput: with all faults; nothing of `xml` may reach libvirt.
        XmlRefused: it is no XML within the bounds.
    """
    root = parse(xml.encode())
    if root.tag != "domain":
        raise UnsafeOutput([f"/: it is a {root.tag}, not a domain"])
    if faults := [*_wrong(root, "."), *_wrong_paths(root, allowed)]:
        raise UnsafeOutput(faults)


def _wrong(element: etree._Element, path: str) -> Iterator[str]:
    """Yield what is not on the list, what stands there too often, and what is missing."""
    yield from _wrong_value(path, text_of(element))
    for name, value in element.attrib.items():
        yield from _wrong_value(_below(path, f"@{name!s}"), str(value))
    for tag, count in Counter(child.tag for child in element).items():
        if count > 1 and _below(path, tag) not in _MANY:
            yield f"{_below(path, tag)}: it stands there {count} times"
    for tag in _NEEDED.get(path, ()):
        if element.find(tag) is None:
            yield f"{_below(path, tag)}: it is missing"
    for child in element:
        yield from _wrong(child, _below(path, child.tag))


def _wrong_value(path: str, value: str) -> Iterator[str]:
    if not any(matches(pattern, value) for pattern in _ALLOWED.get(path, ())):
        yield f"{path}: {value!r} is not allowed"
    elif "/" in value and path not in _MAY_HAVE_SLASH:
        yield f"{path}: {value!r} may name a file"


def _wrong_paths(root: etree._Element, allowed: AllowedPaths) -> Iterator[str]:
    emulator = root.findtext("devices/emulator", "")
    if emulator != allowed.emulator:
        yield f"devices/emulator: {emulator!r} is not the node's"
    for disk in root.findall("devices/disk"):
        yield from _wrong_source(disk, allowed)
    for path, file in _written_files(root):
        if not _is_inside(file, allowed.run_folder):
            yield f"{path}: {file!r} is not inside the vm's run folder"
        if path.startswith("devices/channel") and len(file.encode()) > MAX_SOCKET_PATH_BYTES:
            yield f"{path}: a socket's path has at most {MAX_SOCKET_PATH_BYTES} bytes, this has {len(file.encode())}"


def _wrong_source(disk: etree._Element, allowed: AllowedPaths) -> Iterator[str]:
    for source in disk.findall("source"):
        file = source.get("file", "")
        is_guest_disk = file == allowed.guest_disk
        is_readable = is_guest_disk or _is_inside(file, allowed.cache_folder)
        if not _is_inside(file, allowed.run_folder) and not (is_readable and disk.find("readonly") is not None):
            yield f"devices/disk/source/@file: {file!r} is not inside the vm's run folder"
        if disk.find(f"driver[@type='{'raw' if is_guest_disk else 'qcow2'}']") is None:
            yield f"devices/disk/driver/@type: {file!r} is not opened as what it is"


def _written_files(root: etree._Element) -> Iterator[tuple[str, str]]:
    for element in root.findall("os/nvram"):
        yield "os/nvram", text_of(element)
    for path in ("devices/serial/source", "devices/channel/source"):
        for element in root.findall(path):
            yield f"{path}/@path", element.get("path", "")


def _below(path: str, name: str) -> str:
    return name if path == "." else f"{path}/{name}"


def _is_inside(file: str, folder: str) -> bool:
    return _is_plain(file) and file.startswith(f"{folder}/")


def _is_plain(path: str) -> bool:
    """Say whether `path` is absolute and has no empty segment, `.` or `..`."""
    return path.startswith("/") and not {"", ".", ".."}.intersection(path[1:].split("/"))
