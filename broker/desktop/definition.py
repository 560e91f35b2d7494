"""What a domain's XML says of the files that are the machine's: its disks and its UEFI variables.

Reads the XML only. Whether a file may be taken is for the caller: an XML may be somebody else's.
"""

from dataclasses import dataclass
from pathlib import Path

from lxml import etree

from launcher.domain_xml.parsing import parse

# A second <devices> is dropped by the policy, so its disks are none.
_DISKS = "devices[1]/disk"
_BUS_OF_PREFIX = {"fd": "fdc", "hd": "ide", "sd": "scsi", "vd": "virtio"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A disk that is a storage pool's volume; virsh knows its path."""

    pool: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedDisk:
    """A disk and where its XML says that the bytes are; `source` is None for a network's disk and an empty drive."""

    target: str
    bus: str
    device: str
    source: Path | Volume | None
    format: str | None
    is_block: bool = False
    is_readonly: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """The files that an XML names. `nvram` is None where a machine has no UEFI, or libvirt chooses the path."""

    name: str
    disks: tuple[NamedDisk, ...]
    nvram: Path | None
    nvram_format: str


def read_definition(xml: bytes) -> Definition:
    """Read what an XML names.

    Raises:
        XmlRefused: it is no XML that anybody reads.
    """
    root = parse(xml)
    nvram = root.find("os/nvram")
    path = None if nvram is None else nvram.text or _source_file(nvram)
    return Definition(
        name=root.findtext("name", ""),
        disks=tuple(map(_read_disk, root.findall(_DISKS))),
        nvram=Path(path) if path else None,
        nvram_format="raw" if nvram is None else nvram.get("format", "raw"),
    )


def _read_disk(element: etree._Element) -> NamedDisk:
    target, driver = element.find("target"), element.find("driver")
    kind = element.get("type", "file")
    dev, bus = ("", None) if target is None else (target.get("dev", ""), target.get("bus"))
    return NamedDisk(
        target=dev,
        bus=bus or _BUS_OF_PREFIX.get(dev[:2], ""),
        device=element.get("device", "disk"),
        source=_source(element, kind),
        format=None if driver is None else driver.get("type"),
        is_block=kind == "block",
        is_readonly=element.find("readonly") is not None,
    )


def _source(element: etree._Element, kind: str) -> Path | Volume | None:
    source = element.find("source")
    if source is None:
        return None
    if kind == "volume":
        pool, name = source.get("pool"), source.get("volume")
        return Volume(pool=pool, name=name) if pool and name else None
    path = {"file": source.get("file"), "block": source.get("dev")}.get(kind)
    return Path(path) if path else None


def _source_file(element: etree._Element) -> str | None:
    """Return `<source file='…'/>`, as an NVRAM of libvirt 8.5 and later may have it."""
    source = element.find("source")
    return None if source is None else source.get("file")
