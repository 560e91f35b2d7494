"""Disk images as desktops have them, made by the real qemu-img."""

import json
import struct
import subprocess
from pathlib import Path
from typing import Any

MIB = 1024 * 1024
TEXT = b"the same line again and again\n" * (6 * MIB // 30)


def qemu_img(*arguments: str | Path) -> str:
    command = ["qemu-img", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def info(path: Path, *more: str) -> Any:
    return json.loads(qemu_img("info", "--output=json", *more, path))


def make_raw(path: Path, content: bytes = TEXT, size_bytes: int = 64 * MIB) -> Path:
    """Make a sparse raw disk that begins with `content`."""
    path.write_bytes(content)
    with path.open("r+b") as file:
        file.truncate(size_bytes)
    return path


def make_variables(path: Path, size_bytes: int = 131_072) -> Path:
    """Make UEFI variables as firmware finds them: a firmware volume, empty."""
    volume = bytes(32) + struct.pack("<Q", size_bytes) + b"_FVH"
    return make_raw(path, volume, size_bytes)


def make_overlay(path: Path, below: Path | str, below_format: str) -> Path:
    qemu_img("create", "-q", "-u", "-f", "qcow2", "-F", below_format, "-b", below, path, "64M")
    return path


def write(path: Path, image_format: str, offset_bytes: int, content: int, size_bytes: int = MIB) -> None:
    """Write `content`, one byte again and again, into an image as its guest would."""
    order = f"write -P {content} {offset_bytes} {size_bytes}"
    subprocess.run(["qemu-io", "-f", image_format, "-c", order, path], check=True, capture_output=True, timeout=60)


def content_of(path: Path, image_format: str, folder: Path) -> bytes:
    """Return what a guest sees on an image."""
    raw = folder / "content"
    qemu_img("convert", "-f", image_format, "-O", "raw", path, raw)
    return raw.read_bytes()
