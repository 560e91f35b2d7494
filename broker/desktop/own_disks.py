"""Take a domain's definition off the overlays of a snapshot, and leave everything else in it as it is."""

from collections.abc import Collection
from pathlib import Path

from lxml import etree

_PARSER = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
# What a snapshot puts in the place of a disk's own, besides the attributes `disk/@type` and `driver/@type`.
_REPLACED = ("source", "backingStore")


def with_own_disks(present: str, own: str, overlays: Collection[Path]) -> str | None:
    """Return the definition `present` with each disk that is on one of `overlays` back on what `own` names.

    Whatever else somebody changed meanwhile stays. None: no disk is on an overlay, so there is nothing to define.
    """
    root, names = etree.fromstring(present.encode(), _PARSER), {str(overlay) for overlay in overlays}
    own_disks = {_target(disk): disk for disk in etree.fromstring(own.encode(), _PARSER).iterfind("devices/disk")}
    on_overlay = [
        disk
        for disk in root.iterfind("devices/disk")
        if _target(disk) in own_disks and (source := disk.find("source")) is not None and source.get("file") in names
    ]
    for disk in on_overlay:
        _put_back(disk, own_disks[_target(disk)])
    return etree.tostring(root, encoding="unicode") if on_overlay else None


def _target(disk: etree._Element) -> str:
    target = disk.find("target")
    return "" if target is None else target.get("dev", "")


def _put_back(disk: etree._Element, own: etree._Element) -> None:
    _copy_type(disk, own)
    driver, own_driver = disk.find("driver"), own.find("driver")
    if driver is not None and own_driver is not None:
        _copy_type(driver, own_driver)
    for tag in _REPLACED:
        for element in disk.findall(tag):
            disk.remove(element)
        disk.extend(own.findall(tag))


def _copy_type(element: etree._Element, own: etree._Element) -> None:
    kind = own.get("type")
    if kind is not None:
        element.set("type", kind)
