"""Folders of the node that one vm mounts by their tags.

virtiofs needs memory that another process can map; 9p is served by QEMU itself, which in `mapped` mode keeps what a
guest says of owners, modes and links beside the files, so that a guest never makes a symbolic link on the node.

Source: https://libvirt.org/kbase/virtiofs.html, https://libvirt.org/formatdomain.html#filesystems
"""

from lxml import etree

from launcher.domain_xml.build import Build
from launcher.domain_xml.tree import add, only, put_one
from launcher.domain_xml.vm import Share


def set_shares(root: etree._Element, build: Build) -> None:
    """Add the vm's shared folders; the machine's own were refused."""
    for share in build.vm.shares:
        if share.kind == "virtiofs":
            _add_virtiofs(root, share)
        else:
            _add_9p(root, share)


def _add_virtiofs(root: etree._Element, share: Share) -> None:
    memory = put_one(root, "memoryBacking")
    add(memory, "source", {"type": "memfd"})
    add(memory, "access", {"mode": "shared"})
    filesystem = add(only(root, "devices"), "filesystem", {"type": "mount"})
    add(filesystem, "driver", {"type": "virtiofs"})
    add(filesystem, "source", {"dir": share.folder} if share.socket is None else {"socket": share.socket})
    add(filesystem, "target", {"dir": share.tag})


def _add_9p(root: etree._Element, share: Share) -> None:
    filesystem = add(only(root, "devices"), "filesystem", {"type": "mount", "accessmode": "mapped"})
    add(filesystem, "source", {"dir": share.folder})
    add(filesystem, "target", {"dir": share.tag})
