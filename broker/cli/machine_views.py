"""How a machine is shown."""

from collections.abc import Sequence

from broker.cli import showing
from broker.wire.machines import Disk, MachineView


def size(view: MachineView) -> str:
    return f"{view.vcpus} vcpus, {view.memory_mib} MiB, {view.firmware}"


def disk(of: Disk) -> str:
    served = f", from {showing.plain(of.url)}" if of.url else ""
    return f"{of.format}, {showing.size(of.size_bytes)}, sha256 {showing.short(of.digest)}{served}"


def show_dropped(dropped: Sequence[str]) -> None:
    """Tell what of an XML a vm will not get, grouped by the reason."""
    console = showing.stdout()
    for why, paths in _by_reason(dropped).items():
        console.print(f"  not given to a vm: {showing.plain(', '.join(paths))} ({showing.plain(why)})", style="dim")


def _by_reason(dropped: Sequence[str]) -> dict[str, list[str]]:
    """Group `PATH: WHY` by the reason, in order; the paths without what they all begin with."""
    grouped: dict[str, list[str]] = {}
    for sentence in dropped:
        path, _, why = sentence.partition(": ")
        grouped.setdefault(why, []).append(path.removeprefix("/domain/").removeprefix("devices/"))
    return grouped
