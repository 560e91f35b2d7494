"""The ticket for a guest that does not find its port, as an entry of QEMU's firmware configuration.

Named by a file, never written here: what stands in the domain is shown to every reader of it, is on QEMU's command line
and in libvirt's log. QEMU reads the file once, at its start.

Source: https://libvirt.org/formatdomain.html#smbios-system-information; QEMU, docs/specs/fw_cfg.rst.
"""

from lxml import etree

from broker.wire.port import FW_CFG_NAME
from launcher.domain_xml.build import Build
from launcher.domain_xml.tree import add


def add_ticket(root: etree._Element, build: Build) -> None:
    """Add the entry, if a ticket is brought; a machine's own system information is gone by now."""
    if build.vm.ticket_file is not None:
        sysinfo = add(root, "sysinfo", {"type": "fwcfg"})
        add(sysinfo, "entry", {"name": FW_CFG_NAME, "file": build.vm.ticket_file})
