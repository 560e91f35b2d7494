"""Exchange `rootdisk`: files copied into a vm's own disk before it boots, and out of it once it is off, by libguestfs.

For an image whose start-up sees nothing but its root disk. libguestfs boots a small appliance that mounts the guest's
file systems, so that a broken one breaks the appliance and not the node. It runs as QEMU's account and without KVM,
which takes some 12 s each time.

Source: guestfish(1), guestfs(3) "ENVIRONMENT VARIABLES", supermin(1) "ENVIRONMENT VARIABLES".
"""

import asyncio
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from broker.wire.dispatches import StagedItem
from broker.wire.exchange import LOG_FILE, MAX_RESULT_BYTES, OUTPUT_FOLDER, RESULT_FILE, ExchangeResult
from broker.wire.leases import MAX_LOG_BYTES
from launcher.exchange.outputs import MAX_ENTRIES, Harvest, Output, Selection, parse_result, refused
from launcher.exchange.programs import SYSTEM_PATH, Account, Bounds, ProgramFailed, run_program

PROGRAM: Final = "guestfish"
KERNEL_VARIABLE: Final = "SUPERMIN_KERNEL"
MODULES_VARIABLE: Final = "SUPERMIN_MODULES"

_COPY_LIMIT_S: Final = 900.0
_MIB: Final = 1 << 20
_SLACK_MIB: Final = 64
"""For the log, the result, and tar's own blocks."""
_APPLIANCE_MEMORY_MIB: Final = 512
_CHUNK_BYTES: Final = 1 << 20
_SHOWN: Final = 512
_MODULES: Final = Path("/lib/modules")


class NoRootFileSystem(Exception):
    """The copy into or out of the guest's disk did not work; the text is a sentence."""


async def copy_in(account: Account, overlay: Path, folder: str, item: Path, scratch: Path) -> None:
    """Move the folder `item`, whose name is `in`, into `folder` of the guest's root file system, beside an empty `out`.

    Args:
        account: Who libguestfs runs as.
        overlay: The qcow2 overlay of the vm's disk, which nobody has open.
        folder: Absolute, in the guest.
        item: What is moved: it is gone from the node's disk afterwards.
        scratch: A folder of the account's, where libguestfs keeps its appliance for the next time.

    Raises:
        NoRootFileSystem: libguestfs finds no operating system there, or no room.
        ProgramFailed: libguestfs does not work on this node.
    """
    words = (
        f"rm-rf {_quoted(f'{folder}/in')}",
        f"rm-rf {_quoted(f'{folder}/out')}",
        f"mkdir-p {_quoted(f'{folder}/out')}",
        f"copy-in {_quoted(str(item))} {_quoted(folder)}",
    )
    await _guestfish(account, ("--rw",), overlay, words, scratch, None)
    await asyncio.to_thread(shutil.rmtree, item)


async def copy_out(account: Account, overlay: Path, folder: str, into: Path, staged: StagedItem, scratch: Path) -> Path:
    """Copy the guest's `out` below `folder` into a tar file in `into`, a folder of the account's, and return its path.

    All that is in `out` is copied, and bounded, before it is known which files a pattern matches.

    Raises:
        ItemFault: it is larger than the stream allows.
        NoRootFileSystem: there is no such folder any more, or no file system.
        ProgramFailed: libguestfs does not work on this node.
    """
    tar, limit_bytes = into / "out.tar", (staged.output_mib + _SLACK_MIB) * _MIB
    words = (f"tar-out {_quoted(f'{folder}/out')} {_quoted(str(tar))}",)
    try:
        await _guestfish(account, ("--ro",), overlay, words, scratch, limit_bytes)
    except NoRootFileSystem:
        if tar.is_file() and tar.stat().st_size >= limit_bytes:
            raise refused(
                f"the guest's {folder}/out, with files that are no outputs, is larger than the stream's limit of "
                f"{staged.output_mib} MiB and {_SLACK_MIB} more: leave nothing else there, or raise limits.output_mib"
            ) from None
        raise
    return tar


def harvest_tar(tar: Path, into: Path, staged: StagedItem) -> Harvest:
    """Look through what a guest packed, and lay its outputs into a folder under names of ours. Blocks.

    The tar file is gone afterwards.

    Raises:
        ItemFault: what the guest wrote is refused.
    """
    log, result = b"", None
    outputs: list[Output] = []
    selection = Selection(staged)
    try:
        with tarfile.open(tar, "r:", errors="surrogateescape") as archive:
            for name, member in _plain_members(archive):
                if name == RESULT_FILE:
                    result = _result(archive, member)
                elif name == LOG_FILE:
                    log = _end_of(archive, member)
                elif name.startswith(f"{OUTPUT_FOLDER}/"):
                    outputs += _output(archive, member, name.removeprefix(f"{OUTPUT_FOLDER}/"), into, selection)
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        # Numbers in extended headers are read as they are.
        raise refused(f"what the guest left in its folder cannot be read: {error}") from error
    tar.unlink()
    finished = tuple(sorted(outputs, key=lambda output: output.name)) if result is not None else ()
    return Harvest(result=result, log=log, outputs=finished)


def _plain_members(archive: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """Yield every plain file's name and the member with its bytes: tar packs a file's further names without them."""
    plain: dict[str, tarfile.TarInfo] = {}
    for count, member in enumerate(archive):
        if count > MAX_ENTRIES:
            raise refused(f"the guest left more than {MAX_ENTRIES} files in its folder")
        name = member.name.removeprefix("./")
        if member.islnk():
            target = plain.get(member.linkname.removeprefix("./"))
            if target is None:
                raise refused(f"the guest's {name[:_SHOWN]!a} is a further name of a file that is not in its folder")
            yield name, target
        elif member.isreg():
            plain[name] = member
            yield name, member


def why_not_installed(account: Account) -> str | None:
    """Say what libguestfs lacks on this node, None if all is there: whether it works is `rootdisk_probe`'s to try."""
    if shutil.which(PROGRAM, path=SYSTEM_PATH) is None:
        return "guestfish is not installed"
    if not _MODULES.is_dir():
        return f"supermin wants the folder {_MODULES}, and it is not there"
    named = os.environ.get(KERNEL_VARIABLE), os.environ.get(MODULES_VARIABLE)
    if all(named):
        return next(
            (f"{path} cannot be read" for path in named if path and not _is_readable(account, Path(path))), None
        )
    kernels = [path for path in Path("/boot").glob("vmlinu?-*") if (_MODULES / path.name.partition("-")[2]).is_dir()]
    if not any(_is_readable(account, kernel) for kernel in kernels):
        return (
            f"QEMU's account can read no kernel in /boot whose modules are in {_MODULES}; "
            f"{KERNEL_VARIABLE} and {MODULES_VARIABLE} may name another"
        )
    return None


def guestfs_environment(scratch: Path) -> dict[str, str]:
    """Return what libguestfs is told; its appliance is kept in the folder, which must be the account's."""
    given = {name: os.environ[name] for name in (KERNEL_VARIABLE, MODULES_VARIABLE) if name in os.environ}
    return {
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "LIBGUESTFS_CACHEDIR": str(scratch),
        "LIBGUESTFS_BACKEND": "direct",
        "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg",
        "LIBGUESTFS_MEMSIZE": str(_APPLIANCE_MEMORY_MIB),
        **given,
    }


async def _guestfish(
    account: Account, mode: tuple[str, ...], overlay: Path, words: tuple[str, ...], scratch: Path, limit: int | None
) -> None:
    arguments = (PROGRAM, *mode, "--format=qcow2", "-a", str(overlay), "-i")
    bounds = Bounds(seconds=_COPY_LIMIT_S, file_bytes=limit, environment=guestfs_environment(scratch))
    ended = await run_program(account, arguments, bounds, words="".join(f"{word}\n" for word in words).encode())
    if ended.status != 0:
        said = ended.err.decode(errors="replace")
        if "supermin" in said or "guestfs_launch failed" in said:
            raise ProgramFailed(f"libguestfs cannot start its appliance on this node: {_first_line(said)}")
        raise NoRootFileSystem(f"libguestfs could not work in the vm's disk: {_first_line(said)}")


def _first_line(said: str) -> str:
    return next((line.strip() for line in said.splitlines() if line.strip()), "it gave no reason")[:400]


def _output(
    archive: tarfile.TarFile, member: tarfile.TarInfo, name: str, into: Path, selection: Selection
) -> list[Output]:
    if not selection.takes(name, member.size):
        return []
    at = f"{member.offset:x}"
    if not (into / at).exists():  # by another name of the same file
        source = archive.extractfile(member)
        assert source is not None, "a plain file has content"
        with source, (into / at).open("xb") as file:
            shutil.copyfileobj(source, file, _CHUNK_BYTES)
    return [Output(name, member.size, into, at)]


def _result(archive: tarfile.TarFile, member: tarfile.TarInfo) -> ExchangeResult:
    source = archive.extractfile(member)
    assert source is not None, "a plain file has content"
    with source:
        return parse_result(source.read(MAX_RESULT_BYTES + 1))


def _end_of(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    source = archive.extractfile(member)
    assert source is not None, "a plain file has content"
    with source:
        source.seek(max(0, member.size - MAX_LOG_BYTES))
        return source.read(MAX_LOG_BYTES)


def _is_readable(account: Account, path: Path) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    if account.is_own:
        return os.access(path, os.R_OK)
    return bool(status.st_mode & 0o004)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
