"""An image on the desktop with everything below it, each layer looked at before QEMU opens it.

A backing file, a data file and an extent are names that an image's own header holds, and a header may be a stranger's:
`/home/alice/.ssh/id_ed25519` as a raw backing file would be uploaded as a disk. So a chain is followed where the
desktop's own libvirt names its top, or its owner says that it is theirs, and never to anything but a file.
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from broker.desktop.access import check_layer_readable, check_readable, has_writer
from broker.desktop.failure import DesktopFailure
from broker.desktop.formats import FLATTEN, check_known, format_of, read_head, read_qcow2
from broker.desktop.programs import run
from broker.desktop.vmdk import check_extents

MAX_LAYERS = 64
_INFO_S = 60.0


class _Info(msgspec.Struct, rename="kebab"):
    """The part of `qemu-img info --output=json` that decides. Source: QEMU, qapi/block-core.json, `ImageInfo`."""

    format: str
    virtual_size: int
    actual_size: int = 0
    backing_filename: str | None = None
    full_backing_filename: str | None = None
    backing_filename_format: str | None = None
    encrypted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One file of an image. `held_bytes` is what it takes on the disk, less than its size where it has holes."""

    path: Path
    format: str
    virtual_bytes: int
    file_bytes: int
    held_bytes: int


@dataclass(frozen=True, slots=True)
class Image:
    """An image, the layer that is written first."""

    layers: tuple[Layer, ...]

    @property
    def top(self) -> Layer:
        return self.layers[0]

    @property
    def held_bytes(self) -> int:
        return sum(layer.held_bytes for layer in self.layers)

    @property
    def is_whole(self) -> bool:
        """Whether a node can use the file as it is; a block device is none."""
        return len(self.layers) == 1 and self.top.format in {"qcow2", "raw"} and self.top.path.is_file()


async def read_image(
    what: str, path: Path, option: str, *, image_format: str | None, is_chain_trusted: bool, is_live: bool = False
) -> Image:
    """Look at an image and everything below it.

    Args:
        what: What the image is, for the sentences: `disk vda`.
        path: Its top layer.
        option: The option by which another file can be given: `--disk vda`.
        image_format: As its machine declares it; None: told by its first bytes.
        is_chain_trusted: Whether the files that it names may be followed.
        is_live: Whether a running machine's disk is frozen just now, so that no other file can stand in for it.

    Raises:
        DesktopFailure: it cannot be read, is being written to, or must not be followed.
    """
    layers: list[Layer] = []
    following: tuple[Path, str | None] | None = (path.absolute(), image_format)
    while following is not None:
        path, declared = following
        if len(layers) == MAX_LAYERS or any(path == layer.path for layer in layers):
            raise DesktopFailure(
                f"{what}: below {layers[0].path} are more than {MAX_LAYERS} layers, or a circle of them"
            )
        if layers:
            check_layer_readable(what, path, layers[0].path)
        else:
            check_readable(what, path, option, is_live=is_live)
        if has_writer(path):
            raise DesktopFailure(
                f"{what}: a running machine writes to {path}: shut it down, or name it with --domain VM --live to copy "
                f"its disks as they are at one moment"
            )
        info = await _look_at(f"{what}: {path}", path, declared)
        stat = path.stat()
        layers.append(
            Layer(
                path=path,
                format=info.format,
                virtual_bytes=info.virtual_size,
                file_bytes=stat.st_size or info.virtual_size,
                held_bytes=info.actual_size or stat.st_size or info.virtual_size,
            )
        )
        following = _below(what, path, info, is_trusted=is_chain_trusted)
    return Image(tuple(layers))


async def _look_at(what: str, path: Path, declared: str | None) -> _Info:
    head = read_head(path)
    if not head:
        raise DesktopFailure(f"{what} is empty, so there is no disk in it: give the file that the machine starts from")
    image_format = declared or format_of(what, head)
    check_known(what, image_format)
    if image_format == "vmdk":
        check_extents(what, path)
    if image_format == "qcow2":
        header = read_qcow2(what, head)
        if header.has_data_file:
            raise DesktopFailure(f"{what} keeps its data in another file: {FLATTEN.format(name=path.name)}")
        if header.is_encrypted:
            raise DesktopFailure(f"{what} is encrypted, and no node has a key for it: hand over an unencrypted copy")
    ended = await run("qemu-img", "info", "--output=json", "-f", image_format, str(path), timeout_s=_INFO_S)
    if ended.status != 0:
        raise DesktopFailure(f"{what} is no {image_format} image that qemu-img can read: {ended.reason}")
    info = msgspec.json.decode(ended.out, type=_Info)
    if info.encrypted:
        raise DesktopFailure(f"{what} is encrypted, and no node has a key for it: hand over an unencrypted copy")
    return info


def _below(what: str, path: Path, info: _Info, *, is_trusted: bool) -> tuple[Path, str | None] | None:
    """Return the layer below, and its format; None when there is none."""
    named = info.backing_filename
    if named is None:
        return None
    if ":" in named.partition("/")[0]:
        raise DesktopFailure(
            f"{what}: {path} is an overlay over {named!r}, which is no file: {FLATTEN.format(name=path)}"
        )
    if not is_trusted:
        raise DesktopFailure(
            f"{what}: {path} is an overlay over {named!r}, a name that its own header chose; if that file is part "
            f"of your machine, add --with-backing"
        )
    below = path.parent / named
    if info.backing_filename_format is None:
        raise DesktopFailure(
            f"{what}: {path} does not say which format its backing file {named!r} has; write it down with "
            f"`qemu-img rebase -u -F qcow2 -b {named} {path}` (or -F raw) while the machine is off"
        )
    return below.absolute(), info.backing_filename_format
