"""A vm is one boot for one item: however it stops, it is gone."""

from lxml import etree

from launcher.domain_xml.build import Build
from launcher.domain_xml.tree import add, put_one


def set_lifecycle(root: etree._Element, _build: Build) -> None:
    """End the domain at power-off, reboot and crash alike, and let no guest suspend."""
    for event in ("on_poweroff", "on_reboot", "on_crash"):
        put_one(root, event, text="destroy")
    pm = put_one(root, "pm")
    add(pm, "suspend-to-mem", {"enabled": "no"})
    add(pm, "suspend-to-disk", {"enabled": "no"})
