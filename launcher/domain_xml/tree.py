"""Putting elements into a tree so that what was there before stays in its place, and what is new stands where libvirt
itself would write it.

The order of new elements is more than looks: libxml2's RELAX NG validator, which libvirt uses, refuses some orders that
libvirt's schema allows.
"""

from collections.abc import Mapping

from lxml import etree

_DOMAIN_ORDER = (
    *(
        "name",
        "uuid",
        "genid",
        "metadata",
        "memory",
        "memoryBacking",
        "vcpu",
        "sysinfo",
        "os",
        "features",
        "cpu",
        "clock",
    ),
    *("on_poweroff", "on_reboot", "on_crash", "pm", "devices"),
)
_DEVICES_ORDER = (
    *("emulator", "disk", "controller", "filesystem", "interface", "serial", "channel"),
    *("video", "memballoon", "rng", "panic"),
)
_ORDER = {"domain": _DOMAIN_ORDER, "devices": _DEVICES_ORDER}


def put_one(
    parent: etree._Element, tag: str, attributes: Mapping[str, str] | None = None, text: str | None = None
) -> etree._Element:
    """Make `tag` the only child of that name, with nothing but `attributes` and `text`, and return it."""
    element = only(parent, tag)
    element.clear()
    for name, value in (attributes or {}).items():
        element.set(name, value)
    element.text = text
    return element


def only(parent: etree._Element, tag: str) -> etree._Element:
    """Return the first child `tag` as it is, or a new one; take out any others."""
    children = parent.findall(tag)
    for other in children[1:]:
        remove(other)
    return children[0] if children else add(parent, tag)


def add(parent: etree._Element, tag: str, attributes: Mapping[str, str] | None = None) -> etree._Element:
    """Add a new child behind all that belong before it or are its like."""
    order = _ORDER.get(str(parent.tag), ())
    before = order[: order.index(tag) + 1] if tag in order else ()
    position = max((index + 1 for index, child in enumerate(parent) if child.tag in before), default=0)
    element = parent.makeelement(tag, dict(attributes or {}))
    parent.insert(position if before else len(parent), element)
    return element


def take_out(parent: etree._Element, path: str) -> None:
    """Take out every element at `path` below `parent`."""
    for element in parent.findall(path):
        remove(element)


def remove(element: etree._Element) -> None:
    """Take `element` out of its tree."""
    parent = element.getparent()
    assert parent is not None, "the root stays"
    parent.remove(element)
