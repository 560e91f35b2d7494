"""Look into a disk image with `qemu-img` under limits, and make overlays.

A qcow2 header may name a backing file, a data file or absurd sizes; QEMU would follow them. The format is always the
one that the machine declares, never probed: a raw disk whose guest writes a qcow2 header would otherwise read files of
the node.
Source: qemu-img(1), "info" and "create"; CVE-2015-5163 and its kind.
"""

import asyncio
import resource
from pathlib import Path

import msgspec

from launcher.images.errors import BadImage, ImageUnavailable

_TIMEOUT_S = 30
_MEMORY_BYTES = 1 << 30
_CPU_S = 20
MAX_VIRTUAL_BYTES = 4 << 40


class _Info(msgspec.Struct, rename="kebab"):
    """The part of `qemu-img info --output=json` that decides."""

    format: str
    virtual_size: int
    backing_filename: str | None = None
    encrypted: bool = False
    format_specific: dict[str, object] | None = None


async def check_image(path: Path, image_format: str, digest: str) -> int:
    """Refuse an image that names other files; return its virtual size in bytes.

    Raises:
        BadImage: it is not of that format, has a backing or data file, is encrypted, or is absurdly large.
        ImageUnavailable: `qemu-img` is not there or did not answer.
    """
    status, out, err = await _qemu_img("info", "--output=json", "-f", image_format, str(path))
    if status != 0:
        raise BadImage(f"image {digest} is no {image_format} disk image: {_last_line(err)}")
    info = msgspec.json.decode(out, type=_Info)
    specific = (info.format_specific or {}).get("data")
    if info.backing_filename is not None:
        raise BadImage(f"image {digest} needs a backing file; flatten it with qemu-img convert and upload it again")
    if isinstance(specific, dict) and specific.get("data-file"):
        raise BadImage(f"image {digest} keeps its data in another file; flatten it with qemu-img convert")
    if info.encrypted:
        raise BadImage(f"image {digest} is encrypted; a node has no key for it")
    if info.virtual_size > MAX_VIRTUAL_BYTES:
        raise BadImage(f"image {digest} claims {info.virtual_size} bytes; at most {MAX_VIRTUAL_BYTES} are served")
    return info.virtual_size


async def make_overlay(overlay: Path, image: Path, image_format: str) -> None:
    """Make a qcow2 overlay over a read-only image: a few hundred KiB, whatever the image's size.

    Raises:
        ImageUnavailable: `qemu-img` failed, e.g. for want of space.
    """
    arguments = ("create", "-q", "-f", "qcow2", "-F", image_format, "-b", str(image), str(overlay))
    status, _, err = await _qemu_img(*arguments)
    if status != 0:
        raise ImageUnavailable(f"no overlay could be made over {image.name}: {_last_line(err)}")


def _limit_resources() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))


async def _qemu_img(*arguments: str) -> tuple[int, bytes, bytes]:
    try:
        process = await asyncio.create_subprocess_exec(
            "qemu-img",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=_limit_resources,
        )
    except FileNotFoundError as error:
        raise ImageUnavailable("qemu-img is not installed on this node; install qemu-utils") from error
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            out, err = await process.communicate()
    except TimeoutError as error:
        raise ImageUnavailable(f"qemu-img {arguments[0]} did not end within {_TIMEOUT_S} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, out, err


def _last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no reason given"
