from pathlib import Path

from lxml import etree

from broker.desktop.own_disks import with_own_disks

OVERLAY = Path("/i/data.img.live")
OWN = """<domain><name>d</name><devices>
  <disk type='file'><driver type='qcow2'/><source file='/i/top.qcow2'/><target dev='vda'/></disk>
  <disk type='volume'><driver type='raw'/><source pool='p' volume='data.img'/><target dev='vdb'/></disk>
</devices></domain>"""
# As libvirt has it after a snapshot of vdb, and after somebody's edits: a password, a cache mode, another disk.
PRESENT = f"""<domain><name>d</name><title>mine</title><devices>
  <disk type='file'><driver type='raw'/><source file='/i/new.img'/><target dev='vda'/></disk>
  <disk type='file'><driver type='qcow2' cache='none'/><source file='{OVERLAY}'/>
    <backingStore type='file'><format type='raw'/><source file='/i/data.img'/></backingStore><target dev='vdb'/></disk>
  <graphics type='vnc' passwd='secret'/>
</devices></domain>"""


def test_only_what_the_snapshot_changed_is_put_back() -> None:
    restored = with_own_disks(PRESENT, OWN, [OVERLAY])

    assert restored is not None
    root = etree.fromstring(restored)
    vda, vdb = root.findall("devices/disk")
    assert (root.findtext("title"), root.find("devices/graphics[@passwd='secret']") is None) == ("mine", False)
    assert [dict(element.attrib) for element in vda.iter()] == [
        {"type": "file"}, {"type": "raw"}, {"file": "/i/new.img"}, {"dev": "vda"},
    ]  # fmt: skip
    assert vdb.get("type") == "volume"
    assert sorted((str(element.tag), *sorted(element.attrib.items())) for element in vdb) == [
        ("driver", ("cache", "none"), ("type", "raw")),
        ("source", ("pool", "p"), ("volume", "data.img")),
        ("target", ("dev", "vdb")),
    ]


def test_a_definition_on_its_own_disks_needs_no_defining() -> None:
    assert with_own_disks(OWN, OWN, [OVERLAY]) is None
