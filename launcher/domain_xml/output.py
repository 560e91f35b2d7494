"""The output policy: the last look at a domain's XML before libvirt sees it.

It trusts neither the transform nor the table's word about what is ours: what we add is listed here once more, closed,
with the values it may have. Of the table it takes only which guest hardware is kept, and even of that no tag that can
name a thing of the host, and no path anywhere but at the places listed. It judges strings; whether a path inside the
run folder is a symlink is for the caller, who owns that folder, to know.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from lxml import etree

from launcher.domain_xml.output_list import ALLOWED, MANY, MAY_HAVE_SLASH, NEEDED
from launcher.domain_xml.parsing import parse
from launcher.domain_xml.rules import matches, text_of

# Linux's sockaddr_un has room for no more.
MAX_SOCKET_PATH_BYTES = 107

_OWN_PATHS = {
    "devices/serial/source": ("path",),
    "devices/channel/source": ("path",),
    "devices/filesystem/source": ("dir", "socket"),
}
_SOCKETS = {"devices/channel/source/@path", "devices/filesystem/source/@socket"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedPaths:
    """The host's files that one vm's domain may name; all absolute and without symlinks, `.` or `..`.

    `run_folder` is the vm's own. `guest_disk`, `seed_disk`, and whatever lies in `cache_folder`, may be named
    read-only. The firmware configuration may show `ticket_file` and nothing else. `data_disks` are the files of the run
    folder that are opened raw; any other disk there is an overlay.
    `loaders` are the node's firmwares. Without `has_network` there is no interface at all, and with it there is one.
    `dac_label` is QEMU's account, which the domain has to name then, and must not name otherwise.
    """

    run_folder: str
    cache_folder: str
    guest_disk: str | None
    emulator: str
    seed_disk: str | None = None
    ticket_file: str | None = None
    data_disks: Collection[str] = ()
    loaders: Collection[str] = ()
    has_network: bool = True
    dac_label: str | None = None

    def __post_init__(self) -> None:
        named = (self.run_folder, self.cache_folder, self.guest_disk, self.emulator, self.seed_disk, self.ticket_file)
        for path in (*named, *self.data_disks, *self.loaders):
            if path is not None and not _is_plain(path):
                raise ValueError(f"{path!r} is no absolute path without '.', '..' or empty segments")

    @property
    def disks_of_ours(self) -> set[str]:
        """Return the raw disks that vms only read."""
        return {disk for disk in (self.guest_disk, self.seed_disk) if disk is not None}


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
        if count > 1 and _below(path, tag) not in MANY:
            yield f"{_below(path, tag)}: it stands there {count} times"
    for tag in NEEDED.get(path, ()):
        if element.find(tag) is None:
            yield f"{_below(path, tag)}: it is missing"
    for child in element:
        yield from _wrong(child, _below(path, child.tag))


def _wrong_value(path: str, value: str) -> Iterator[str]:
    if not any(matches(pattern, value) for pattern in ALLOWED.get(path, ())):
        yield f"{path}: {value!r} is not allowed"
    elif "/" in value and path not in MAY_HAVE_SLASH:
        yield f"{path}: {value!r} may name a file"


def _wrong_paths(root: etree._Element, allowed: AllowedPaths) -> Iterator[str]:
    emulator = root.findtext("devices/emulator", "")
    if emulator != allowed.emulator:
        yield f"devices/emulator: {emulator!r} is not the node's"
    for loader in map(text_of, root.findall("os/loader")):
        if loader not in allowed.loaders:
            yield f"os/loader: {loader!r} is no firmware of the node"
    if (root.find("devices/interface") is not None) != allowed.has_network:
        yield f"devices/interface: {'it is missing' if allowed.has_network else 'this vm has no network'}"
    if (said := _label_of(root)) != allowed.dac_label:
        yield f"seclabel: QEMU's account is {said or 'left to libvirt'}, and not {allowed.dac_label or 'left to it'}"
    for file in (entry.get("file", "") for entry in root.findall("sysinfo/entry")):
        if file != allowed.ticket_file:
            yield f"sysinfo/entry/@file: {file!r} is not the vm's ticket"
    yield from _wrong_devices(root, allowed)
    for path, file in _files_of_its_own(root):
        if not _is_inside(file, allowed.run_folder):
            yield f"{path}: {file!r} is not inside the vm's run folder"
        if path in _SOCKETS and len(file.encode()) > MAX_SOCKET_PATH_BYTES:
            yield f"{path}: a socket's path has at most {MAX_SOCKET_PATH_BYTES} bytes, this has {len(file.encode())}"


def _wrong_devices(root: etree._Element, allowed: AllowedPaths) -> Iterator[str]:
    for disk in root.findall("devices/disk"):
        yield from _wrong_source(disk, allowed)
    for filesystem in root.findall("devices/filesystem"):
        if filesystem.find("driver[@type='virtiofs']") is None and filesystem.get("accessmode") != "mapped":
            yield "devices/filesystem/@accessmode: the guest's owners and links would be the node's"


def _label_of(root: etree._Element) -> str | None:
    """Return QEMU's account, if the domain names one, and names it so that no file changes its owner."""
    label = root.find("seclabel")
    if label is None:
        return None
    return label.findtext("label", "") if label.get("relabel") == "no" else "one that files are given to"


def _wrong_source(disk: etree._Element, allowed: AllowedPaths) -> Iterator[str]:
    for source in disk.findall("source"):
        file = source.get("file", "")
        is_ours = file in allowed.disks_of_ours
        is_readable = is_ours or _is_inside(file, allowed.cache_folder)
        is_read_only = disk.find("readonly") is not None
        if is_ours and not is_read_only:
            yield f"devices/disk/readonly: {file!r} would be written to"
        if not _is_inside(file, allowed.run_folder) and not (is_readable and is_read_only):
            yield f"devices/disk/source/@file: {file!r} is not inside the vm's run folder"
        if disk.find(f"driver[@type='{'raw' if is_ours or file in allowed.data_disks else 'qcow2'}']") is None:
            yield f"devices/disk/driver/@type: {file!r} is not opened as what it is"


def _files_of_its_own(root: etree._Element) -> Iterator[tuple[str, str]]:
    """Yield every path, disks apart, that may lie in the run folder only."""
    for element in root.findall("os/nvram"):
        yield "os/nvram", text_of(element)
    for path, names in _OWN_PATHS.items():
        for element in root.findall(path):
            given = [name for name in names if name in element.attrib] or names[:1]
            yield from ((f"{path}/@{name}", element.get(name, "")) for name in given)


def _below(path: str, name: str) -> str:
    return name if path == "." else f"{path}/{name}"


def _is_inside(file: str, folder: str) -> bool:
    return _is_plain(file) and file.startswith(f"{folder}/")


def _is_plain(path: str) -> bool:
    """Say whether `path` is absolute and has no empty segment, `.` or `..`."""
    return path.startswith("/") and not {"", ".", ".."}.intersection(path[1:].split("/"))
