"""The closed list of what a vm's domain may hold: every element and attribute, with the values it may have.

Of the table it takes only which guest hardware is kept, and even of that no tag that can name a thing of the host.
"""

import re

from broker.wire.port import FW_CFG_NAME
from launcher.domain_xml.consoles import CHANNEL_NAME
from launcher.domain_xml.identity import NAMESPACE
from launcher.domain_xml.judge import RULES
from launcher.domain_xml.rules import Treatment

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
    f"{_METADATA}/@launcher": r"[0-9]{1,20}:[0-9]{1,20}:/[^\x00-\x1f]{1,255}",
    "memory": "[1-9][0-9]{0,8}",
    "memory/@unit": "MiB",
    "sysinfo": "",
    "sysinfo/@type": "fwcfg",
    "sysinfo/entry": "",
    "sysinfo/entry/@name": re.escape(FW_CFG_NAME),
    "sysinfo/entry/@file": _PATH,
    "memoryBacking": "",
    "memoryBacking/source": "",
    "memoryBacking/source/@type": "memfd",
    "memoryBacking/access": "",
    "memoryBacking/access/@mode": "shared",
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
    "os/loader": _PATH,
    "os/loader/@readonly": "yes",
    "os/loader/@type": "pflash",
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
    "devices/filesystem": "",
    "devices/filesystem/@type": "mount",
    "devices/filesystem/@accessmode": "mapped",
    "devices/filesystem/driver": "",
    "devices/filesystem/driver/@type": "virtiofs",
    "devices/filesystem/source": "",
    "devices/filesystem/source/@dir": _PATH,
    "devices/filesystem/source/@socket": _PATH,
    "devices/filesystem/target": "",
    "devices/filesystem/target/@dir": "[a-z0-9]{1,31}",
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
    "devices/watchdog/@action": "poweroff",
    "devices/video/model": "",
    "devices/video/model/@type": "vga|none",
    "seclabel": "",
    "seclabel/@type": "static",
    "seclabel/@model": "dac",
    "seclabel/@relabel": "no",
    "seclabel/label": r"\+[1-9][0-9]{0,9}:\+[0-9]{1,10}",
    "devices/controller/@type": "pci|scsi|ide|sata|fdc|virtio-serial|usb",
    "devices/controller/@model": "[a-z0-9-]+",
}
# All others stand once at most below their parent: libvirt would choose one of several, and not the one looked at here.
MANY = {"os/boot", "cpu/feature", "clock/timer", "devices/disk", "devices/controller", "devices/filesystem"}
NEEDED = {
    ".": ("name", "uuid", "metadata", "memory", "vcpu", "cpu", "os", "on_poweroff", "on_reboot", "on_crash", "devices"),
    "devices": ("emulator", "disk", "serial", "channel", "rng", "memballoon", "panic"),
    "sysinfo": ("entry",),
    "devices/disk": ("driver", "source", "target"),
    "devices/filesystem": ("source", "target"),
}
_HOST_PATHS = {path for path, values in _OURS.items() if values == _PATH} | {"devices/rng/backend"}
MAY_HAVE_SLASH = _HOST_PATHS | {f"{_METADATA}/@item", f"{_METADATA}/@launcher", "sysinfo/entry/@name"}
_NEVER = {
    *("hostdev", "shmem", "graphics", "redirdev", "smartcard", "tpm", "vsock", "lease", "kernel"),
    *("initrd", "sysinfo", "seclabel", "encryption", "backingStore"),
}


def _allowed() -> dict[str, tuple[str, ...]]:
    """What is ours, and the guest hardware that the table keeps at other places."""
    allowed: dict[str, tuple[str, ...]] = {path: (values,) for path, values in _OURS.items()}
    for rule in RULES:
        is_hardware = rule.path not in _OURS and _NEVER.isdisjoint(rule.path.split("/"))
        if rule.treatment is Treatment.KEEP and is_hardware:
            allowed[rule.path] = (*allowed.get(rule.path, ()), rule.values)
    return allowed


ALLOWED = _allowed()
