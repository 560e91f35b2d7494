"""Images that ask for the node's files, or for more than a node gives, against the real qemu-img."""

import functools
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from broker.wire.states import HealthCode, Verdict
from launcher.exchange.programs import Finished
from launcher.images import Address, BadImage, ImageCache, ImageError, ImageUnreadableHere, Limits
from launcher.node.verdicts import failed
from tests.integration.images.hostile import header, with_bitmaps, with_data_file
from tests.integration.images.servers import ImageServer, image_of, qcow2, qemu_img, serving


@pytest.fixture(scope="module")
def trap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a pipe: whoever opens it for reading hangs, until the look's time is over."""
    path = tmp_path_factory.mktemp("trap") / "pipe"
    os.mkfifo(path, 0o666)
    return path


async def _refusal(cache: ImageCache, content: bytes) -> str:
    server = ImageServer(content)
    async with serving(server) as (session, url):
        with pytest.raises(BadImage) as caught:
            await cache.fetch(image_of(content), Address(session, url))
    return str(caught.value).partition(image_of(content).digest)[2].strip()


async def test_an_image_that_names_another_file_is_refused_without_opening_it(cache: ImageCache, trap: Path) -> None:
    name = str(trap).encode()
    for backing in (name, b'json:{"driver":"file","filename":"%s"}' % name, b"nbd://127.0.0.1:1/x"):
        assert "needs a backing file; flatten it" in await _refusal(cache, header(backing=backing))
        assert "needs a backing file; flatten it" in await _refusal(cache, header(backing=backing, version=2))
    for data in (name, b'json:{"driver":"file","filename":"%s"}' % name, b""):
        assert "keeps its data in another file; flatten it" in await _refusal(cache, with_data_file(data))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is no qcow2 disk image: its first bytes are others"),
        (b"QFI\xfb", "is no qcow2 disk image: qemu-img: Could not open"),
        (b"KDMV" + bytes(1 << 20), "is no qcow2 disk image: its first bytes are others"),
        (header(version=1), "Unsupported qcow2 version 1"),
        (header(cluster_bits=0), "Unsupported cluster size: 2^0"),
        (header(cluster_bits=63), "Unsupported cluster size: 2^63"),
        (header(incompatible=1 << 40), "Unsupported qcow2 feature"),
        (header(encryption=1), "is encrypted; a node has no key for it"),
        (header(encryption=2), "is encrypted; a node has no key for it"),
        (header(l1_size=0xFFFFFFFF), "Active L1 table too large"),
        (header(refcount_clusters=0xFFFFFFFF), "Reference count table too large"),
        (header(snapshots=65_536), "has 65536 snapshots inside"),
        (header(size=1 << 62), "Image is too big"),
        (header(size=1 << 51, l1_size=4 << 20, length=64 << 20), f"claims {1 << 51} bytes; at most {4 << 40}"),
    ],
    ids=range(14),
)
async def test_a_header_that_no_vm_can_use_is_refused_in_a_sentence(
    cache: ImageCache, content: bytes, sentence: str
) -> None:
    assert sentence in await _refusal(cache, content)


async def test_an_image_that_takes_too_much_memory_to_open_is_refused(cache: ImageCache) -> None:
    hungry = with_bitmaps(8, size=1 << 40, granularity_bits=9, is_loaded=True)
    assert len(hungry) < 8 << 20
    refusal = await _refusal(cache, hungry)
    assert "cannot be looked into with 1024 MiB" in refusal
    assert "failed to allocate" in refusal


async def test_an_image_that_takes_too_long_to_open_is_refused(
    cache: ImageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Room enough that only the time can run out: on a quick node it comes to the limit of its memory first.
    limits = functools.partial(Limits, cpu_s=1, memory_bytes=1 << 34)
    monkeypatch.setattr("launcher.images.inspect.Limits", limits)
    slow = with_bitmaps(40_000, size=1 << 20, granularity_bits=16, is_loaded=False)
    assert "and 1 s of a processor (signal 24)" in await _refusal(cache, slow)


async def test_an_image_that_makes_qemu_img_talk_too_much_is_refused(
    cache: ImageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.exchange.programs.OUTPUT_LIMIT_BYTES", 20_000)
    wordy = with_bitmaps(400, size=1 << 20, granularity_bits=16, is_loaded=False)
    assert "qemu-img says more than 20000 bytes" in await _refusal(cache, wordy)


@pytest.mark.parametrize(
    ("compression", "error", "verdict", "code"),
    [
        (1, ImageUnreadableHere, Verdict.HOST_ERROR, HealthCode.IMAGE_SOURCE_AWAY),
        (7, BadImage, Verdict.IMAGE_ERROR, None),
    ],
    ids=["zstd", "none that there is"],
)
async def test_an_image_whose_compression_only_this_node_does_not_know_is_not_at_fault(
    open_path: Path, compression: int, error: type[ImageError], verdict: Verdict, code: HealthCode | None
) -> None:
    content = bytearray(header(incompatible=1 << 3))
    content[104] = compression

    async def run_old_qemu_img(arguments: Sequence[str], limits: Limits) -> Finished:
        """Answer as qemu-img 5.2 does that was built without zstd, which this node's was not."""
        del limits
        words = f"qemu-img: Could not open '{arguments[-1]}': qcow2: unknown compression type: {compression}\n"
        return Finished(1, b"", words.encode())

    cache = ImageCache(open_path / "cache", run_old_qemu_img)
    cache.prepare()
    async with serving(ImageServer(bytes(content))) as (session, url):
        with pytest.raises(error, match=r"compression") as caught:
            await cache.fetch(image_of(bytes(content)), Address(session, url))
    assert ("qemu-img convert -O qcow2 -o compression_type=zlib makes" in str(caught.value)) is (compression == 1)
    assert failed(caught.value)[::2] == (verdict, code)


async def test_an_image_that_is_compressed_by_zstd_is_used_where_it_is_known(cache: ImageCache, tmp_path: Path) -> None:
    (tmp_path / "plain.raw").write_bytes(b"words " * 100_000)
    path = tmp_path / "compressed.qcow2"
    qemu_img(*("convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "compression_type=zstd"), str(tmp_path / "plain.raw"),
             str(path))  # fmt: skip
    content = path.read_bytes()
    async with serving(ImageServer(content)) as (session, url):
        with await cache.fetch(image_of(content), Address(session, url)) as held:
            assert held.virtual_bytes == 600_064


async def test_bytes_that_are_harmless_raw_are_refused_to_a_machine_that_has_them_read_another_file(
    cache: ImageCache, tmp_path: Path
) -> None:
    content = header(backing=b"/etc/passwd")
    raw, as_qcow2 = image_of(content, "raw"), image_of(content)
    server = ImageServer(content)
    overlay, plain = tmp_path / "overlay.qcow2", tmp_path / "plain.raw"
    plain.write_bytes(content)
    async with serving(server) as (session, url):
        with await cache.fetch(raw, Address(session, url)) as held:
            for _ in range(2):
                with pytest.raises(BadImage, match="needs a backing file; flatten it"):
                    await cache.fetch(as_qcow2, Address(session, url))
            await cache.make_overlay(overlay, held)
            qemu_img("compare", "-q", "-f", "qcow2", "-F", "raw", str(overlay), str(plain))
    assert server.ranges == [None]


async def test_a_format_that_no_node_boots_is_refused(cache: ImageCache) -> None:
    content = b"# Disk DescriptorFile\n" * 100
    async with serving(ImageServer(content)) as (session, url):
        with pytest.raises(BadImage, match="is declared as vmdk; a node boots raw and qcow2"):
            await cache.fetch(image_of(content, "vmdk"), Address(session, url))


async def test_every_overlay_over_an_image_shows_it_and_takes_no_copy(cache: ImageCache, tmp_path: Path) -> None:
    server = ImageServer(qcow2(tmp_path))
    overlays = [tmp_path / f"{number}.qcow2" for number in range(2)]
    async with serving(server) as (session, url):
        with await cache.fetch(image_of(server.content), Address(session, url)) as held:
            for overlay in overlays:
                await cache.make_overlay(overlay, held)
            for overlay in overlays:
                assert overlay.stat().st_blocks * 512 <= 1 << 18
                assert overlay.stat().st_mode & 0o077 == 0
                qemu_img("compare", "-q", str(overlay), str(held.path))
    assert overlays[0].read_bytes() == overlays[1].read_bytes()
