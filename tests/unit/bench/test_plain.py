from pathlib import Path

from bench.plain import alone, pattern_of

BOOTED = """\
<domain type="qemu">
  <name>vmb-0a1b2c3d</name>
  <uuid>0a1b2c3d-0000-4000-8000-000000000000</uuid>
  <devices>
    <disk type="file"><source file="/s/0a1b2c3d/vda.qcow2"/></disk>
    <disk type="file"><source file="/cache/guest-disk.img"/></disk>
    <serial type="file">
      <source path="/s/0a1b2c3d/console.log" append="on"/>
    </serial>
  </devices>
</domain>
"""
STARTED = [
    *("/usr/bin/qemu-system-x86_64", "-name", "guest=vmb-0a1b2c3d,debug-threads=on", "-S"),
    *("-object", '{"qom-type":"secret","id":"masterKey0","file":"/d/master-key.aes"}'),
    *("-object", '{"qom-type":"memory-backend-ram","id":"pc.ram"}'),
    *("-chardev", "socket,id=charmonitor,fd=20,server=on,wait=off"),
    *("-blockdev", '{"driver":"file","filename":"/old/vda.qcow2"}'),
    *("-add-fd", "set=0,fd=18,opaque=serial0-source"),
    *("-chardev", "file,id=charserial0,path=/dev/fdset/0,append=on"),
    *("-chardev", "socket,id=charchannel0,fd=19,server=on,wait=off"),
]


def test_a_booted_domain_is_made_anew_in_another_folder_and_with_another_name() -> None:
    pattern = pattern_of(BOOTED, Path("/image.qcow2"), "qcow2")

    name, xml = pattern.as_new(Path("/p/new"))

    assert pattern.overlays() == ["vda.qcow2"]
    assert not pattern.has_kvm
    assert f"<name>{name}</name>" in xml
    assert 'file="/p/new/vda.qcow2"' in xml
    assert 'file="/cache/guest-disk.img"' in xml
    assert "0a1b2c3d" not in xml


def test_qemu_alone_opens_by_path_what_libvirt_handed_over_and_waits_for_nobody() -> None:
    assert alone(STARTED, "/old", "/new") == [
        *("/usr/bin/qemu-system-x86_64", "-name", "guest=vmb-0a1b2c3d,debug-threads=on"),
        *("-object", '{"qom-type":"memory-backend-ram","id":"pc.ram"}'),
        *("-chardev", "socket,id=charmonitor,path=/new/monitor.sock,server=on,wait=off"),
        *("-blockdev", '{"driver":"file","filename":"/new/vda.qcow2"}'),
        *("-chardev", "file,id=charserial0,path=/new/console.log,append=on"),
        *("-chardev", "socket,id=charchannel0,path=/new/port.sock,server=on,wait=off"),
    ]
