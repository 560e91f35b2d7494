"""The one network of a vm: QEMU's user-mode net, in a namespace where nothing but the launcher's proxy answers."""

from lxml import etree

from launcher.domain_xml.build import Build
from launcher.domain_xml.tree import only, put_one, take_out

_DEFAULT_MODEL = "virtio"


def set_network(root: etree._Element, build: Build) -> None:
    """Give the vm its interface: the machine's first with its model, MAC and place, or a new one; or none at all."""
    if not build.vm.has_network:
        take_out(root, "devices/interface")
        return
    interface = only(only(root, "devices"), "interface")
    interface.set("type", "user")
    take_out(interface, "source")
    model = only(interface, "model")
    model.set("type", model.get("type", _DEFAULT_MODEL))
    put_one(interface, "rom", {"enabled": "no"})
