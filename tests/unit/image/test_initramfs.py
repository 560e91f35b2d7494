import lzma
import subprocess
from pathlib import Path

import pytest

from deploy.image.builder.initramfs import Entry, file, folder, link, modules, newc
from deploy.image.builder.run import BuildFailed


def test_the_archive_is_one_that_cpio_unpacks(tmp_path: Path) -> None:
    entries = [folder("bin"), file("bin/tool", b"#!/bin/sh\n", 0o755), link("bin/sh", "tool"), file("empty", b"")]
    subprocess.run(["cpio", "-id", "--quiet"], input=newc(entries), cwd=tmp_path, check=True, timeout=10)
    assert (tmp_path / "bin/tool").read_bytes() == b"#!/bin/sh\n"
    assert (tmp_path / "bin/tool").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "bin/sh").readlink() == Path("tool")
    assert (tmp_path / "empty").read_bytes() == b""


def module(*depends: str) -> bytes:
    return b"\x7fELF license=GPL\0depends=" + ",".join(depends).encode() + b"\0retpoline=Y\0"


def test_modules_come_after_those_they_need_and_unpacked(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/virtio_net.ko.xz").write_bytes(lzma.compress(module("net-failover", "virtio")))
    (tmp_path / "net/net_failover.ko").write_bytes(module("virtio"))
    (tmp_path / "virtio.ko").write_bytes(module())
    (tmp_path / "unwanted.ko").write_bytes(module())
    loaded: list[Entry] = modules(tmp_path, ["virtio-net"])[2:]
    assert [entry.path for entry in loaded] == [
        "lib/modules/00-virtio.ko",
        "lib/modules/01-net_failover.ko",
        "lib/modules/02-virtio_net.ko",
    ]
    assert loaded[2].data == module("net-failover", "virtio")


def test_a_module_that_the_kernel_lacks_is_named(tmp_path: Path) -> None:
    (tmp_path / "virtio_net.ko").write_bytes(module("failover"))
    with pytest.raises(BuildFailed, match="no module failover"):
        modules(tmp_path, ["virtio_net"])
