"""What a guest says and hears: a serial console written to a file, and a port to the launcher."""

from lxml import etree

from launcher.domain_xml.build import Build
from launcher.domain_xml.tree import add, only, put_one, take_out

CHANNEL_NAME = "org.vmbroker.0"


def set_consoles(root: etree._Element, build: Build) -> None:
    """Write the first serial port to the console log; libvirt makes it the console."""
    devices = only(root, "devices")
    take_out(devices, "console")
    serial = put_one(devices, "serial", {"type": "file"})
    # Appending, so that the launcher may truncate a log that a guest floods.
    add(serial, "source", {"path": build.vm.console_log, "append": "on"})
    add(serial, "target", {"port": "0"})


def add_channel(root: etree._Element, build: Build) -> None:
    """Add the virtio port by which the launcher hands over the ticket."""
    channel = add(only(root, "devices"), "channel", {"type": "unix"})
    add(channel, "source", {"mode": "bind", "path": build.vm.channel_socket})
    add(channel, "target", {"type": "virtio", "name": CHANNEL_NAME})
