"""The devices that every vm has in the same way."""

from lxml import etree

from launcher.domain_xml.build import Build
from launcher.domain_xml.tree import add, only, put_one, take_out


def set_hardware(root: etree._Element, build: Build) -> None:
    """Set emulator, memory balloon, panic device, random numbers; a video card and a watchdog where there was one."""
    devices = only(root, "devices")
    put_one(devices, "emulator", text=build.node.emulator)
    put_one(devices, "memballoon", {"model": "none"})
    put_one(devices, "panic", {"model": "isa"})
    for controller in devices.findall("controller"):
        if controller.get("type") != "pci":
            # The table judges them by themselves; they belong to PCI's kind of controller alone.
            take_out(controller, "model")
            take_out(controller, "target")
    rng = only(devices, "rng")
    rng.set("model", "virtio")
    put_one(rng, "backend", {"model": "random"}, "/dev/urandom")
    watchdog = devices.find("watchdog")
    if watchdog is not None:
        watchdog.set("action", "poweroff")
    video = devices.find("video")
    if video is not None and video.find("model[@type='none']") is None:
        put_one(video, "model", {"type": "vga"})


def set_usb(root: etree._Element, _build: Build) -> None:
    """Turn USB off, which libvirt adds by itself, unless a disk is on it: firmware and guest need not search it."""
    if root.find("devices/disk/target[@bus='usb']") is None:
        add(only(root, "devices"), "controller", {"type": "usb", "model": "none"})
