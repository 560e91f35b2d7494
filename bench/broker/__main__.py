"""`python -m bench.broker`: measure the broker on this machine; print the table and write it to bench/out/broker.json.

Whatever a figure is held against is measured in the same run, in turns with the broker, so that a ratio says something
whatever the machine is. Run it on a machine that does nothing else.
"""

import argparse
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console

from bench.broker import cycles, push, queued, size, waits
from bench.broker.extent import FULL, QUICK, Extent
from bench.broker.table import markdown
from bench.failing import BenchFailed
from bench.figures import Figure, read, show, write
from tests.support.launching import short_folder

OUT = Path(__file__).parents[1] / "out" / "broker.json"
GROUPS: dict[str, tuple[str, Callable[[Path, Extent], list[Figure]]]] = {
    "push": ("bulk push, and the peers' ...", push.measure),
    "cycles": ("whole cycles, empty handlers, the peers' workers ...", cycles.measure),
    "queued": ("cycles with a short and a long queue ...", queued.measure),
    "size": ("what a queued item takes ...", size.measure),
    "waits": ("launchers that wait ...", waits.measure),
}
_LIMIT_S = 1_800
_FILE_COLUMNS = 160
_SPARE_FILES = 500


def run(groups: Sequence[str], extent: Extent, console: Console) -> list[Figure]:
    """Measure; bounded in time, and nothing that was started is left."""
    figures: list[Figure] = []
    with short_folder("vb-") as folder:
        for group in groups:
            said, measure = GROUPS[group]
            console.print(said)
            (folder / group).mkdir()
            figures += measure(folder / group, extent)
    return figures


def main() -> int:
    """Measure what the command line asks for; the exit status is 1 when a figure misses its bound."""
    given = _parsed()
    if given.table:
        print(markdown(read(OUT)))
        return 0
    # In a file or a pipe nobody's window folds the table.
    console = Console(width=None if sys.stdout.isatty() else _FILE_COLUMNS)
    try:
        _bound()
        # Where it is set, every start of a command would compile all of it again, which none that is installed does.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        extent = QUICK if given.quick else FULL
        groups = [given.only] if given.only else list(GROUPS)
        if "waits" in groups:
            # Launchers wait at the broker and at its floor.
            _raise_files(2 * extent.launchers + _SPARE_FILES)
        figures = run(groups, extent, console)
    except BenchFailed as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("bench: stopped\n")
        return 130
    show("The broker on this machine", figures, console)
    if given.only is None:
        write(figures, OUT)
        console.print(f"written to {OUT}")
    return 0 if all(figure.is_kept for figure in figures) else 1


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.broker", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="less and shorter: to see that it works")
    parser.add_argument("--only", choices=GROUPS, help="one group of figures; bench/out/broker.json is left as it was")
    parser.add_argument(
        "--table", action="store_true", help="print bench/out/broker.json as Markdown, and measure nothing"
    )
    return parser.parse_args()


def _bound() -> None:
    """End by SIGTERM as by Ctrl-C, and when it takes too long."""

    def late(_number: int, _frame: FrameType | None) -> NoReturn:
        raise BenchFailed(f"not done within {_LIMIT_S} s; is something else running on this machine?")

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGALRM, late)
    signal.alarm(_LIMIT_S)


def _raise_files(wanted: int) -> None:
    """Let this process and the servers that it starts open enough connections."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < wanted:
        raise BenchFailed(f"{wanted} open files are needed and this account may have {most}: raise `ulimit -Hn`")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    sys.exit(main())
