import os
import secrets
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.desktop.access import has_writer
from broker.desktop.compact import TOLD_PARTS, make_copy, plan_copy
from broker.desktop.failure import DesktopFailure
from broker.desktop.images import Image, read_image
from broker.desktop.nvram import copy_nvram
from tests.integration.desktop.images import (
    MIB,
    TEXT,
    content_of,
    info,
    make_overlay,
    make_raw,
    make_variables,
    qemu_img,
    write,
)


async def look(path: Path, image_format: str | None = None, *, is_chain_trusted: bool = True) -> Image:
    return await read_image(
        "disk vda", path, "--disk vda", image_format=image_format, is_chain_trusted=is_chain_trusted
    )


async def copied(image: Image, copy: Path) -> Path:
    told: list[int] = []
    await make_copy("disk vda", image, copy, told.append)
    assert sum(told) == TOLD_PARTS
    return copy


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """qcow2 over qcow2 over raw, each layer with a write of its own; the last name is relative."""
    make_raw(tmp_path / "base.raw")
    middle = make_overlay(tmp_path / "middle.qcow2", "base.raw", "raw")
    write(middle, "qcow2", 16 * MIB, 0x11)
    top = make_overlay(tmp_path / "top.qcow2", middle, "qcow2")
    write(top, "qcow2", 32 * MIB, 0x22)
    return top


async def test_a_chain_becomes_one_small_file_with_the_same_content(chain: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    image = await look(chain)
    plan = await plan_copy("disk vda", image)

    copy = await copied(image, tmp_path / "copy.qcow2")

    assert [layer.format for layer in image.layers] == ["qcow2", "qcow2", "raw"]
    assert plan.pays
    assert "backing-filename" not in info(copy)
    content = content_of(copy, "qcow2", tmp_path)
    assert content[: len(TEXT)] == TEXT
    assert (content[16 * MIB : 17 * MIB], content[32 * MIB : 33 * MIB]) == (b"\x11" * MIB, b"\x22" * MIB)
    assert copy.stat().st_size < MIB < 8 * MIB < plan.largest_bytes
    assert {path: path.read_bytes() for path in before} == before


async def test_the_same_disk_is_copied_to_the_same_bytes(chain: Path, tmp_path: Path) -> None:
    image = await look(chain)

    first, second = [await copied(image, tmp_path / name) for name in ("first", "second")]

    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("image_format", ["vmdk", "vdi", "vhdx", "qed"])
async def test_other_makers_formats_are_told_by_their_bytes_and_converted(tmp_path: Path, image_format: str) -> None:
    disk = tmp_path / f"disk.{image_format}.vmdk"
    qemu_img("convert", "-O", image_format, make_raw(tmp_path / "raw"), disk)

    image = await look(disk)
    assert image.top.format == image_format
    assert (await plan_copy("disk vda", image)).pays
    copy = await copied(image, tmp_path / "copy")
    assert content_of(copy, "qcow2", tmp_path)[: len(TEXT)] == TEXT


async def test_only_what_saves_is_copied(tmp_path: Path) -> None:
    compressed = tmp_path / "compressed.qcow2"
    qemu_img("convert", "-c", "-O", "qcow2", make_raw(tmp_path / "raw", secrets.token_bytes(8 * MIB)), compressed)
    full = make_raw(tmp_path / "full", secrets.token_bytes(8 * MIB), 8 * MIB)
    loose = tmp_path / "loose.qcow2"
    qemu_img("convert", "-O", "qcow2", make_raw(tmp_path / "text"), loose)

    pays = {path.name: (await plan_copy("disk", await look(path))).pays for path in (compressed, full, loose)}
    sparse = await plan_copy("disk", await look(tmp_path / "raw"))

    assert pays == {"compressed.qcow2": False, "full": False, "loose.qcow2": True}
    assert sparse.pays
    assert 8 * MIB < sparse.estimated_bytes < 9 * MIB


@pytest.mark.parametrize(
    "below",
    ["nbd:127.0.0.1:1:exportname=x", "https://host.example/x", 'json:{"driver":"file","filename":"/etc/passwd"}'],
)
async def test_a_chain_is_never_followed_to_anything_but_a_file(tmp_path: Path, below: str) -> None:
    with pytest.raises(DesktopFailure, match="which is no file"):
        await look(make_overlay(tmp_path / "top", below, "raw"))


async def test_a_layer_that_is_missing_is_named(chain: Path, tmp_path: Path) -> None:
    (tmp_path / "base.raw").unlink()

    with pytest.raises(DesktopFailure, match=r"base\.raw, which \S+top\.qcow2 is an overlay over, cannot be read"):
        await look(chain)


async def test_a_strangers_overlay_reads_no_file_of_ours(tmp_path: Path) -> None:
    top = make_overlay(tmp_path / "top", "/etc/passwd", "raw")

    with pytest.raises(DesktopFailure, match=r"over '/etc/passwd', a name that its own header chose.*--with-backing"):
        await look(top, is_chain_trusted=False)


async def test_a_data_file_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path / 'data'}", disk, "1M")
    (tmp_path / "data").unlink()

    with pytest.raises(DesktopFailure, match="keeps its data in another file"):
        await look(disk)


def vmdk_text(extent: str) -> str:
    """Return a VMDK's descriptor with one line for an extent."""
    begin = '# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
    return f'{begin}{extent}\nddb.adapterType = "ide"\n'


def vmdk_pointer(text: str) -> bytes:
    """Return a VMDK whose binary header has no capacity, and points to a text in the second sector."""
    return struct.pack("<4sIIQQQ", b"KDMV", 1, 3, 0, 128, 1).ljust(512, b"\0") + text.encode().ljust(1536, b"\0")


@pytest.mark.parametrize(
    "extent",
    [
        'RW 2 FLAT "/etc/passwd" 0',
        'RW 2 FLAT "../beside/pipe.vmdk" 0',
        'RW 2 FLAT "nbd://127.0.0.1:1/x.vmdk" 0',
        'RW 2 FLAT "nbd:127.0.0.1:1:exportname=x.vmdk" 0',
        'RW 2 FLAT "pipe.vmdk" 0',
        'RW\n  2\n SPARSE\t"pipe.vmdk',
    ],
)
@pytest.mark.parametrize("is_pointer", [False, True])
@pytest.mark.timeout(20)
async def test_a_vmdk_opens_no_pipe_no_address_and_no_file_elsewhere(
    tmp_path: Path, extent: str, is_pointer: bool
) -> None:
    (tmp_path / "beside").mkdir()
    for pipe in (tmp_path / "pipe.vmdk", tmp_path / "beside/pipe.vmdk"):
        os.mkfifo(pipe)
    disk, text = tmp_path / "disk.vmdk", vmdk_text(extent)
    disk.write_bytes(vmdk_pointer(text) if is_pointer else text.encode())

    for declared in (None, "vmdk"):
        with pytest.raises(DesktopFailure, match=r"keeps its data in \S+, (which is not|and there is no such file)"):
            await look(disk, declared)


async def test_a_text_without_its_first_line_is_a_vmdk_when_it_is_declared_one(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_text(vmdk_text('RW 2 FLAT "/etc/passwd" 0').partition("\n")[2])

    with pytest.raises(DesktopFailure, match="/etc/passwd, which is not beside it"):
        await look(disk, "vmdk")


async def test_an_extent_of_a_vmdk_names_no_further_files(tmp_path: Path) -> None:
    disk, extent = tmp_path / "disk.vmdk", tmp_path / "extent.vmdk"
    disk.write_text(vmdk_text('RW 2 SPARSE "extent.vmdk"'))
    extent.write_bytes(vmdk_pointer(vmdk_text('RW 2 FLAT "/etc/passwd" 0')))

    with pytest.raises(DesktopFailure, match=r"extent\.vmdk, which names further files"):
        await look(disk)


@pytest.mark.parametrize("subformat", ["monolithicFlat", "twoGbMaxExtentSparse", "streamOptimized"])
async def test_a_vmdk_with_its_extents_beside_it_is_taken(tmp_path: Path, subformat: str) -> None:
    disk = tmp_path / "disk.vmdk"
    qemu_img("convert", "-O", "vmdk", "-o", f"subformat={subformat}", make_raw(tmp_path / "raw"), disk)

    copy = await copied(await look(disk), tmp_path / "copy")
    assert content_of(copy, "qcow2", tmp_path)[: len(TEXT)] == TEXT


async def test_a_layer_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(DesktopFailure, match=r"pipe, which \S+top is an overlay over, is no file"):
        await look(make_overlay(tmp_path / "top", "pipe", "raw"))


async def test_a_chain_without_formats_and_a_circle_are_refused(tmp_path: Path) -> None:
    silent = make_overlay(tmp_path / "silent.qcow2", make_raw(tmp_path / "base.raw"), "raw")
    # The header's extension with the backing file's format, made into one that nobody knows.
    silent.write_bytes(silent.read_bytes().replace(b"\xe2\x79\x2a\xca", b"\x00\x00\x00\x99", 1))
    circle = make_overlay(tmp_path / "circle.qcow2", "circle.qcow2", "qcow2")

    with pytest.raises(DesktopFailure, match=r"does not say which format.*qemu-img rebase -u -F"):
        await look(silent)
    with pytest.raises(DesktopFailure, match="a circle of them"):
        await look(circle)


@pytest.mark.parametrize(
    ("content", "declared", "sentence"),
    [
        (b"\x1f\x8b\x08rest", None, "is packed: unpack it first with `gunzip`"),
        (bytes(257) + b"ustar\x00", None, "is an archive"),
        (b"conectix", None, "has the format vpc, and only qcow2, raw"),
        (b"LUKS\xba\xbe", None, "has the format luks"),
        (b"", None, r"/disk is empty, so there is no disk in it"),
        (b"", "raw", r"/disk is empty, so there is no disk in it"),
        (b"no qcow2", "qcow2", "is no qcow2 image, though it is said to be one"),
        (b"QFI\xfb" + bytes(100), "qcow2", "is no qcow2 image that qemu-img can read"),
    ],
)
async def test_what_is_no_disk_is_told(tmp_path: Path, content: bytes, declared: str | None, sentence: str) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(content)

    with pytest.raises(DesktopFailure, match=sentence):
        await look(disk, declared)


async def test_a_raw_disk_stays_raw_whatever_its_guest_wrote_on_it(tmp_path: Path) -> None:
    disguised = make_overlay(tmp_path / "disk", "/etc/passwd", "raw")

    image = await look(disguised, "raw")

    assert [layer.format for layer in image.layers] == ["raw"]


@contextmanager
def open_for_writing(disk: Path, image_format: str) -> Iterator[None]:
    """Keep an image open as a running machine does."""
    command = ["qemu-io", "-f", image_format, str(disk)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        assert writer.stdout.read(1)  # its prompt: the image is open
        try:
            yield
        finally:
            writer.stdin.close()
            writer.stdout.read()


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
async def test_a_disk_that_a_qemu_writes_to_is_known_by_its_lock(tmp_path: Path, image_format: str) -> None:
    disk = tmp_path / "disk"
    qemu_img("create", "-q", "-f", image_format, disk, "1M")
    assert not has_writer(disk)
    with open_for_writing(disk, image_format):
        assert has_writer(disk)
        with pytest.raises(DesktopFailure, match="a running machine writes to"):
            await look(disk, image_format)
    assert not has_writer(disk)


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
async def test_uefi_variables_are_copied_raw(tmp_path: Path, image_format: str) -> None:
    variables = make_variables(tmp_path / "vars.fd")
    given = tmp_path / "given"
    qemu_img("convert", "-f", "raw", "-O", image_format, variables, given)

    for declared in (image_format, None):
        await copy_nvram(given, declared, tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == variables.read_bytes()
    with pytest.raises(DesktopFailure, match=r"there is no file .*--fresh-nvram"):
        await copy_nvram(tmp_path / "none", image_format, tmp_path / "copy")


@pytest.mark.parametrize(
    "content",
    [
        b"-----BEGIN OPENSSH PRIVATE KEY-----\n",
        b"",
        bytes(131_072),
        bytes(32) + struct.pack("<Q4s", 8192, b"_FVH") + bytes(4096 - 44),
        bytes(32) + struct.pack("<Q4s", 4096, b"_FVH") + bytes(100),
    ],
)
async def test_what_holds_no_uefi_variables_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    given = tmp_path / "d_VARS.fd"
    given.write_bytes(content)

    with pytest.raises(DesktopFailure, match=r"^there are no UEFI variables in \S+d_VARS\.fd: give .*--fresh-nvram$"):
        await copy_nvram(given, "raw", tmp_path / "copy")


async def test_variables_that_would_fill_the_disk_are_not_unpacked(tmp_path: Path) -> None:
    given = tmp_path / "d_VARS.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", given, "1T")

    with pytest.raises(DesktopFailure, match="is larger than UEFI variables are"):
        await copy_nvram(given, None, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
