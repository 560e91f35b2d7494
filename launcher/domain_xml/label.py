"""Who QEMU runs as, where libvirt has a say in it."""

from lxml import etree

from launcher.domain_xml.build import Build


def set_label(root: etree._Element, build: Build) -> None:
    """Name QEMU's account, and have libvirt change no file's owner: its images are others' too.

    Source: https://libvirt.org/formatdomain.html#security-label.
    """
    if build.node.dac_label is not None:
        label = etree.SubElement(root, "seclabel", type="static", model="dac", relabel="no")
        etree.SubElement(label, "label").text = build.node.dac_label
