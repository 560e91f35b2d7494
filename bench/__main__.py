"""`python -m bench`: measure what a vm costs on this machine; print the table and write it to bench/out/vm.json.

Everything is measured in one run on one machine, the launcher's vms in turns with the same vms without a launcher, so
that a ratio says something whatever the machine is. Run it on a machine that does nothing else.
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from bench import boots, idle, many
from bench.failing import BenchFailed
from bench.figures import Figure, show, write
from bench.ground import ground, launcher
from bench.plain import floor

OUT = Path(__file__).parent / "out" / "vm.json"
GROUPS = ("boots", "many", "idle")
_LIMIT_S = 1_800
_FILE_COLUMNS = 160
_OVERHEAD_MIB = 256
_MINIMAL_MIB, _TINY_MIB = 256, 16


class Extent(NamedTuple):
    """How much is measured."""

    rounds: int
    rounds_of_many: int
    settle_s: float
    watch_s: float


FULL = Extent(rounds=7, rounds_of_many=2, settle_s=30, watch_s=60)
QUICK = Extent(rounds=2, rounds_of_many=1, settle_s=5, watch_s=15)


async def run(groups: Sequence[str], extent: Extent, console: Console) -> list[Figure]:
    """Measure; bounded in time, and nothing that was started is left."""
    figures: list[Figure] = []
    task = asyncio.current_task()
    assert task is not None, "this runs in a loop"
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with asyncio.timeout(_LIMIT_S), ground() as here:
        if set(groups) & {"boots", "many"}:
            memory_mib = many.VMS * (_MINIMAL_MIB + _OVERHEAD_MIB)
            with launcher(here, "boots", vms=many.VMS, memory_mib=memory_mib, is_traced=True) as running:
                console.print("one vm that does not count, for warm caches ...")
                pattern = await boots.learn_pattern(here, running)
                async with floor(here.folder / "p", here.broker.url, has_kvm=pattern.has_kvm) as plain:
                    if "boots" in groups:
                        console.print(f"one vm at a time, {extent.rounds} rounds ...")
                        figures += await boots.measure(here, running, plain, pattern, rounds=extent.rounds)
                    if "many" in groups:
                        console.print(f"{many.VMS} vms at once, {extent.rounds_of_many} rounds ...")
                        figures += await many.measure(here, running, plain, pattern, rounds=extent.rounds_of_many)
        if "idle" in groups:
            console.print(f"{idle.VMS} vms that do nothing ...")
            memory_mib = idle.VMS * (_TINY_MIB + _OVERHEAD_MIB)
            with launcher(here, "idle", vms=idle.VMS, memory_mib=memory_mib, is_traced=False) as running:
                figures += await idle.measure(here, running, settle_s=extent.settle_s, watch_s=extent.watch_s)
    return figures


def main() -> int:
    """Measure what the command line asks for; the exit status is 1 when a figure is more than it may be."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs: to see that it works")
    parser.add_argument("--only", choices=GROUPS, help="one group of figures; bench/out/vm.json is left as it was")
    given = parser.parse_args()
    # In a file or a pipe nobody's window folds the table.
    console = Console(width=None if sys.stdout.isatty() else _FILE_COLUMNS)
    try:
        figures = asyncio.run(run([given.only] if given.only else GROUPS, QUICK if given.quick else FULL, console))
    except BenchFailed as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.stderr.write("bench: stopped\n")
        return 130
    except TimeoutError:
        sys.stderr.write(f"bench: not done within {_LIMIT_S} s; is something else running on this machine?\n")
        return 1
    show("What a vm costs on this machine", figures, console)
    if given.only is None:
        write(figures, OUT)
        console.print(f"written to {OUT}")
    return 0 if all(figure.is_kept for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
