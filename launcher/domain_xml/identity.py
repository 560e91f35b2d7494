"""Whose vm it is: by libvirt's name and uuid, and by an element that survives everything the launcher may lose."""

from dataclasses import dataclass

from lxml import etree

from launcher.domain_xml.build import Build
from launcher.domain_xml.parsing import parse
from launcher.domain_xml.tree import put_one

NAMESPACE = "urn:vmbroker:vm"
_VM = f"{{{NAMESPACE}}}vm"
_FIRST = ("name", "uuid", "genid")


@dataclass(frozen=True, slots=True)
class Identity:
    """The dispatch and the item that a domain was made for, and the mark of the launcher that made it."""

    dispatch_id: str
    item: str
    launcher: str = ""


def set_identity(root: etree._Element, build: Build) -> None:
    """Name the domain after its dispatch, and say so in its metadata."""
    vm = build.vm
    root.set("type", "qemu" if build.is_emulated else "kvm")
    put_one(root, "name", text=vm.name)
    put_one(root, "uuid", text=vm.dispatch_id)
    if root.find("genid") is not None:
        put_one(root, "genid", text=vm.dispatch_id)
    # libvirt's schema wants these first, wherever the machine had them.
    present = [element for tag in _FIRST if (element := root.find(tag)) is not None]
    for place, element in enumerate(present):
        if root.index(element) != place:
            root.insert(place, element)
    metadata = put_one(root, "metadata")
    told = {"dispatch": vm.dispatch_id, "item": vm.item}
    if vm.launcher:
        told["launcher"] = vm.launcher
    etree.SubElement(metadata, _VM, told, nsmap={"vmbroker": NAMESPACE})


def identity_of(xml: str) -> Identity | None:
    """Return whose vm a domain is, from the XML that libvirt gives for it; None when it is no vm of ours.

    Raises:
        XmlRefused: this is no XML at all, or beyond the bounds.
    """
    element = parse(xml.encode()).find(f"metadata/{_VM}")
    if element is None:
        return None
    return Identity(element.get("dispatch", ""), element.get("item", ""), element.get("launcher", ""))
