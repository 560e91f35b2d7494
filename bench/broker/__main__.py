"""`python -m bench.broker`: measure the broker on this machine; print the table and write it to bench/out/broker.json.

Whatever a figure is held against is measured in the same run, in turns with the broker, so that a ratio says something
whatever the machine is. Run it on a machine that does nothing else.
"""

import resource
import sys
from collections.abc import Sequence

from bench.broker import callbacks, cycles, push, queued, size, waits
from bench.broker.extent import FULL, QUICK, Extent
from bench.command import OUT, Command
from bench.failing import BenchFailed

_SPARE_FILES = 500


def _raise_files(groups: Sequence[str], extent: Extent) -> None:
    """Let this process and the servers that it starts open enough connections."""
    if "waits" not in groups:
        return
    # Launchers wait at the broker and at its floor.
    wanted = 2 * extent.launchers + _SPARE_FILES
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < wanted:
        raise BenchFailed(f"{wanted} open files are needed and this account may have {most}: raise `ulimit -Hn`")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


COMMAND = Command(
    module="bench.broker",
    about=__doc__.partition("\n")[0],
    title="The broker on this machine",
    out=OUT / "broker.json",
    groups={
        "push": ("bulk push, and the peers' ...", push.measure),
        "cycles": ("whole cycles, empty handlers, the peers' workers ...", cycles.measure),
        "queued": ("cycles with a short and a long queue ...", queued.measure),
        "size": ("what a queued item takes ...", size.measure),
        "callbacks": ("callbacks to a fast receiver, RQ's worker ...", callbacks.measure),
        "waits": ("launchers that wait ...", waits.measure),
    },
    full=FULL,
    quick=QUICK,
    limit_s=1_800,
    prepare=_raise_files,
)

if __name__ == "__main__":
    sys.exit(COMMAND.main())
