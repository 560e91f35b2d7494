"""A running machine's disks at one moment: a snapshot that is taken back whatever happens.

The machine goes on writing to an overlay while its disks, frozen below, are copied; then the overlay is written into
them and removed. Without a guest agent the copy is what a power cut would leave, which file systems with a journal are
made for. The machine may end meanwhile, by itself or by QEMU's fault: then the overlay is written back while it is
off. A machine that is saved meanwhile keeps its overlay, which its saved state names; and a kill -9 of this program, or
of the desktop, leaves the overlay to the machine, which runs on with it: `check_left_over` tells what to do.

Source: virsh(1), "snapshot-create-as" and "blockcommit"; https://libvirt.org/kbase/live_full_disk_backup.html
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from broker.desktop.definition import Definition, NamedDisk, read_definition
from broker.desktop.failure import DesktopFailure
from broker.desktop.own_disks import with_own_disks
from broker.desktop.programs import run
from broker.desktop.virsh import NoSuchDomain, State, Virsh

SUFFIX = ".vmbroker-live"
_NAME = "vmbroker-live"
# QEMU 7.2 stops at an assertion (`child->perm & BLK_PERM_WRITE`) when it pivots under an IDE or SATA disk that is being
# written to: measured in four of twelve tries, and in none of twelve on these.
_SAFE_BUSES = frozenset({"virtio", "scsi"})
_COMMIT_S = 6 * 3600.0

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A running domain, the files its disks are on now, and the definition to come back to; None: it is transient."""

    virsh: Virsh
    domain: str
    definition: str | None
    disks: tuple[NamedDisk, ...]

    def frozen(self) -> dict[str, Path]:
        """Return the files of the disks that it may write to.

        Raises:
            DesktopFailure: one is no file, so nothing can be put over it, or cannot be taken off again safely.
        """
        found = {}
        for disk in self.disks:
            if disk.device != "disk" or disk.is_readonly:
                continue
            if not isinstance(disk.source, Path) or disk.is_block:
                raise DesktopFailure(f"disk {disk.target} is no image file, so --live cannot be: shut the machine down")
            if disk.bus not in _SAFE_BUSES:
                raise DesktopFailure(
                    f"disk {disk.target} is on the bus {disk.bus!r}, where taking the snapshot back can crash a "
                    f"machine that writes: shut the machine down instead of --live"
                )
            found[disk.target] = disk.source
        return found


def check_left_over(domain: str, definition: Definition, uri: str) -> None:
    """Refuse a domain that runs on the overlay of an earlier command which was killed.

    Raises:
        DesktopFailure: with the commands that put it back.
    """
    left = [disk.target for disk in definition.disks if str(disk.source or "").endswith(SUFFIX)]
    if left:
        raise DesktopFailure(
            f"an earlier --live was killed, and {domain} still runs on its overlay: start it if it is off, then put it "
            f"back with `{_commit_commands(uri, domain, left)}`"
        )


@contextlib.asynccontextmanager
async def frozen_disks(running: Running, scratch: Path, log: Log) -> AsyncIterator[None]:
    """Keep a running domain's disk files unchanged for the block.

    Everything is put back at the end, also on an error and when the caller is cancelled, which waits for that.

    Raises:
        DesktopFailure: the snapshot was refused and nothing has changed, or could not be taken back, with what to do.
    """
    overlays = {target: Path(f"{path}{SUFFIX}") for target, path in running.frozen().items()}
    for overlay in overlays.values():
        if overlay.exists():
            raise DesktopFailure(f"{overlay} is in the way, of an earlier --live: remove it if no machine uses it")
    try:
        await _finished(asyncio.create_task(_take(running, overlays, log)))
        yield
    finally:
        await _finished(asyncio.create_task(_put_back(running, overlays, scratch, log)))


async def _take(running: Running, overlays: dict[str, Path], log: Log) -> None:
    others = [disk.target for disk in running.disks if disk.target not in overlays]
    quiesce = await running.virsh.has_agent(running.domain)
    if not quiesce:
        log("no guest agent answers: the copy is as after a power cut")
    await running.virsh.snapshot(running.domain, _NAME, overlays.items(), others, quiesce=quiesce)
    log(f"{running.domain} runs on; its disks are frozen for the copy")


async def _put_back(running: Running, overlays: dict[str, Path], scratch: Path, log: Log) -> None:
    """Undo what libvirt says was done: a snapshot whose answer was lost may have been taken."""
    state, failures = await _state(running), list[str]()
    if state == "running" and (failures := await _commit_all(running, overlays, log)):
        state = await _state(running)
    match state:
        case "running" if failures:
            raise DesktopFailure("; ".join(failures))
        case "saved":
            _check_not_saved_above(running, overlays)
        case "off":
            await _write_back(running, overlays)
    await _restore_definition(running, overlays, scratch)


async def _commit_all(running: Running, overlays: dict[str, Path], log: Log) -> list[str]:
    """Put a running domain back on its own disks; return what failed."""
    now = read_definition((await running.virsh.running_definition(running.domain)).encode())
    on_overlay = [disk.target for disk in now.disks if disk.source == overlays.get(disk.target)]
    failures = [failure for target in on_overlay if (failure := await _commit(running, target))]
    if on_overlay and not failures:
        log(f"{running.domain} is back on its own disks")
    return failures


async def _commit(running: Running, target: str) -> str | None:
    try:
        await running.virsh.commit(running.domain, target)
    except DesktopFailure as failure:
        return (
            f"disk {target} of {running.domain} could not be taken off its overlay ({failure}), and the machine "
            f"runs on with it: try again with `{_commit_commands(running.virsh.uri, running.domain, [target])}`"
        )
    return None


def _check_not_saved_above(running: Running, overlays: dict[str, Path]) -> None:
    """Leave everything to a domain that was saved: its saved state can only be started over the overlays."""
    left = [target for target, overlay in overlays.items() if overlay.exists()]
    if left:
        uri, domain = running.virsh.uri, running.domain
        raise DesktopFailure(
            f"{domain} was saved while it was copied, and its saved state needs its overlays: start it with "
            f"`virsh -c {uri} start {domain}` (or `virsh restore` and the file it was saved to), then put it back with "
            f"`{_commit_commands(uri, domain, left)}`, and add it again"
        )


async def _write_back(running: Running, overlays: dict[str, Path]) -> None:
    """Write the overlays of a domain that is off into the disks below."""
    for overlay in filter(Path.exists, overlays.values()):
        ended = await run("qemu-img", "commit", "-q", "-f", "qcow2", str(overlay), timeout_s=_COMMIT_S)
        if ended.status != 0:
            raise DesktopFailure(
                f"{running.domain} ended while it was copied, and {overlay} could not be written back: {ended.reason}; "
                f"do it with `sudo qemu-img commit {overlay}`, then name its own disks again with "
                f"`virsh -c {running.virsh.uri} edit {running.domain}`"
            )
        overlay.unlink()


async def _restore_definition(running: Running, overlays: dict[str, Path], scratch: Path) -> None:
    """Name a domain's own disks again where its definition, as it is by now, still names an overlay."""
    if running.definition is None:
        return
    try:
        present = await running.virsh.whole_definition(running.domain)
    except NoSuchDomain:
        return
    restored = with_own_disks(present, running.definition, overlays.values())
    if restored is None:
        return
    file = scratch / "definition.xml"
    file.touch(mode=0o600)  # there are passwords in it
    try:
        file.write_text(restored, encoding="utf-8")
        await running.virsh.define(file)
    finally:
        file.unlink()


async def _state(running: Running) -> State:
    try:
        return await running.virsh.state(running.domain)
    except NoSuchDomain:
        return "off"


def _commit_commands(uri: str, domain: str, targets: Iterable[str]) -> str:
    flags = "--active --shallow --pivot --wait --delete"
    return "; ".join(f"virsh -c {uri} blockcommit {domain} {target} {flags}" for target in targets)


async def _finished(task: "asyncio.Task[None]") -> None:
    """Wait until a task has ended, whatever happens to the waiter; then be cancelled, if that is what happened."""
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError
