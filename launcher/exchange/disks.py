"""The two disks of exchange `disk`: `VMB_IN`, made with files in it, and `VMB_OUT`, read without ever being mounted.

Their file system has no journal and none of ext4's later features, so that a guest of many years ago mounts it, too.
What a guest leaves on `VMB_OUT` may be no file system at all, or one made to break its readers: it is read by e2fsprogs
as QEMU's account, and of a file only its inode's number is ever told to them, never a name.

Source: mkfs.ext4(8), debugfs(8), ext4(5).
"""

import asyncio
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from broker.wire.dispatches import StagedItem
from broker.wire.exchange import LOG_FILE, MAX_RESULT_BYTES, OUTPUT_FOLDER, RESULT_FILE
from broker.wire.leases import MAX_LOG_BYTES, MAX_OUTPUTS
from launcher.exchange.outputs import MAX_DEPTH, MAX_ENTRIES, Harvest, Output, Selection, read_log, read_result, refused
from launcher.exchange.programs import Account, Bounds, ProgramFailed, run_program

IN_LABEL: Final = "VMB_IN"
OUT_LABEL: Final = "VMB_OUT"

_FEATURES: Final = "none,filetype,extent,sparse_super,large_file,dir_index,huge_file"
_MIB: Final = 1 << 20
_SLACK_MIB: Final = 32
"""For the file system's own tables, the log and the result."""
_SLACK_INODES: Final = 1_024
_MAX_LOG_FILE_BYTES: Final = 64 * _MIB
_MAX_FOLDERS: Final = 1_000
_MEMORY_BYTES: Final = 1 << 30
_MAKE_LIMIT_S: Final = 600.0
_LOOK_LIMIT_S: Final = 60.0
_DUMP_LIMIT_S: Final = 900.0
_ROOT_INODE: Final = 2
_LINE: Final = re.compile(rb"/([0-9]+)/([0-7]{6})/[0-9]+/[0-9]+/([^/]*)/([0-9]*)/")
_REGULAR, _DIRECTORY = 0o10, 0o04


class UnreadableDisk(Exception):
    """What the guest left on its disk is no file system that can be read; the text is a sentence."""


class _Inode(NamedTuple):
    number: int
    kind: int
    name: str
    size_bytes: int


async def make_in_disk(account: Account, folder: Path, image: Path) -> None:
    """Make a disk that holds what is in the folder, at its root; the folder is gone afterwards.

    Raises:
        ProgramFailed: e2fsprogs could not, e.g. for want of space.
    """
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    size_mib = sum(sizes) * 103 // 100 // _MIB + len(sizes) // 128 + 16
    await _make(account, image, IN_LABEL, size_mib, len(sizes) + _SLACK_INODES, ("-d", str(folder)))
    # An input may be large, and is never read from there again.
    await asyncio.to_thread(shutil.rmtree, folder)


async def make_out_disk(account: Account, image: Path, output_mib: int) -> None:
    """Make an empty disk with room for that much output; it takes space as it is written.

    Raises:
        ProgramFailed: e2fsprogs could not.
    """
    await _make(account, image, OUT_LABEL, output_mib * 103 // 100 + _SLACK_MIB, MAX_OUTPUTS + _SLACK_INODES, ())


async def harvest_disk(account: Account, image: Path, into: Path, staged: StagedItem) -> Harvest:
    """Copy what the guest left on the disk to `into`, an empty folder of the account's, and look through it.

    The disk is gone afterwards.

    Raises:
        ItemFault: what the guest wrote is refused.
        UnreadableDisk: there is no file system any more.
        ProgramFailed: e2fsprogs took too long, or were broken by what they met.
    """
    # Puts right what a power-off without an unmount left; whether it is enough is seen by the reading.
    await run_program(account, ("e2fsck", "-p", str(image)), _bounds(_LOOK_LIMIT_S))
    top = {inode.name: inode for inode in await _list(account, image, _ROOT_INODE)}
    await _dump_plain(account, image, top.get(RESULT_FILE), into / RESULT_FILE, MAX_RESULT_BYTES)
    await _dump_plain(account, image, top.get(LOG_FILE), into / LOG_FILE, _MAX_LOG_FILE_BYTES)
    result, log = read_result(into), read_log(into)[-MAX_LOG_BYTES:]
    folder = top.get(OUTPUT_FOLDER)
    outputs: list[Output] = []
    if result is not None and folder is not None and folder.kind == _DIRECTORY:
        outputs = await _outputs(account, image, folder, into, staged)
    image.unlink()
    return Harvest(result=result, log=log, outputs=tuple(outputs))


async def why_unusable(account: Account, scratch: Path) -> str | None:
    """Say why the disks cannot be made or read here, None if they can: one is, in a folder of the account's."""
    folder, into, image = scratch / "in", scratch / "into", scratch / "probe.raw"
    staged = StagedItem(run="", as_user="", output_files=["*"], output_mib=1)
    try:
        for made in (folder, into):
            made.mkdir()
            account.take(made)
        (folder / RESULT_FILE).write_text('{"exit_code": 0}', encoding="ascii")
        await make_in_disk(account, folder, image)
        harvest = await harvest_disk(account, image, into, staged)
    except (ProgramFailed, UnreadableDisk, OSError) as error:
        return str(error)
    return None if harvest.result is not None else "e2fsprogs do not read what they have written"


async def _outputs(account: Account, image: Path, folder: _Inode, into: Path, staged: StagedItem) -> list[Output]:
    selection = Selection(staged)
    chosen = [
        (name, inode)
        for name, inode in await _files_below(account, image, folder)
        if selection.takes(name, inode.size_bytes)
    ]
    chosen.sort(key=lambda found: found[0])
    outputs = [Output(name, inode.size_bytes, into, f"{at:04}") for at, (name, inode) in enumerate(chosen)]
    copies = [(inode, into / output.at) for (_, inode), output in zip(chosen, outputs, strict=True)]
    await _dump(account, image, copies, staged.output_mib * _MIB)
    for output in outputs:
        copy = into / output.at
        if not copy.is_file() or copy.lstat().st_size != output.size_bytes:
            raise refused(
                f"the output file {output.name} cannot be read from the guest's disk: was it powered off hard?"
            )
    return outputs


async def _files_below(account: Account, image: Path, top: _Inode) -> list[tuple[str, _Inode]]:
    found: list[tuple[str, _Inode]] = []
    waiting, seen, entries = [("", top.number)], {top.number}, 0
    while waiting:
        below, number = waiting.pop()
        for inode in await _list(account, image, number):
            name = f"{below}/{inode.name}" if below else inode.name
            entries += 1
            if entries > MAX_ENTRIES or name.count("/") > MAX_DEPTH or len(seen) > _MAX_FOLDERS:
                raise refused("the output folder has too many files, or too many levels of folders")
            if inode.kind == _REGULAR:
                found.append((name, inode))
            elif inode.kind == _DIRECTORY and inode.number not in seen:
                seen.add(inode.number)
                waiting.append((name, inode.number))
    return found


async def _list(account: Account, image: Path, number: int) -> list[_Inode]:
    listed = await run_program(account, ("debugfs", "-R", f"ls -p <{number}>", str(image)), _bounds(_LOOK_LIMIT_S))
    if listed.status != 0 or b"\n/" not in b"\n" + listed.out:
        raise UnreadableDisk(f"the disk {OUT_LABEL} cannot be read any more: {listed.last_words()}")
    found = []
    for line in listed.out.splitlines():
        parsed = _LINE.fullmatch(line)
        if line and parsed is None:
            raise refused("a file on the guest's disk has a name with a line end or a slash in it")
        if parsed is not None and parsed[3] not in {b".", b".."}:
            name = parsed[3].decode("utf-8", "surrogateescape")
            found.append(_Inode(int(parsed[1]), int(parsed[2], 8) >> 12, name, int(parsed[4] or 0)))
    return found


async def _dump_plain(account: Account, image: Path, inode: _Inode | None, to: Path, limit_bytes: int) -> None:
    """Copy a file that is there; one that is none, or too large, counts as not there."""
    if inode is not None and inode.kind == _REGULAR and inode.size_bytes <= limit_bytes:
        await _dump(account, image, [(inode, to)], limit_bytes)


async def _dump(account: Account, image: Path, copies: Sequence[tuple[_Inode, Path]], limit_bytes: int) -> None:
    words = "".join(f'dump <{inode.number}> "{to}"\n' for inode, to in copies)
    bounds = Bounds(seconds=_DUMP_LIMIT_S, file_bytes=limit_bytes, memory_bytes=_MEMORY_BYTES)
    await run_program(account, ("debugfs", "-f", "-", str(image)), bounds, words=words.encode())


async def _make(account: Account, image: Path, label: str, size_mib: int, inodes: int, more: Sequence[str]) -> None:
    # The tables of inodes are written out, so there are as many as are needed, not as many as fit.
    options = ("-q", "-F", "-L", label, "-m", "0", "-I", "256", "-N", str(inodes), "-O", _FEATURES)
    command = ("mkfs.ext4", *options, "-E", "root_owner=0:0", *more, str(image), f"{size_mib}M")
    made = await run_program(account, command, Bounds(seconds=_MAKE_LIMIT_S, memory_bytes=_MEMORY_BYTES))
    if made.status != 0:
        raise ProgramFailed(f"the disk {label} could not be made: {made.last_words()}")


def _bounds(seconds: float) -> Bounds:
    return Bounds(seconds=seconds, memory_bytes=_MEMORY_BYTES)
