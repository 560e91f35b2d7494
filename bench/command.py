"""A benchmark as a command: groups of figures one after another, bounded in time, then a table and a file."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Generic, NoReturn, TypeVar

from rich.console import Console

from bench.failing import BenchFailed
from bench.figures import Figure, read, show, write
from bench.table import markdown
from tests.support.launching import short_folder

OUT = Path(__file__).parent / "out"
_FILE_COLUMNS = 160

Extent = TypeVar("Extent")


@dataclass(frozen=True)
class Command(Generic[Extent]):
    """`python -m MODULE`. Each group has what is said when it begins, and what measures in a folder of its own."""

    module: str
    about: str
    title: str
    out: Path
    groups: Mapping[str, tuple[str, Callable[[Path, Extent], list[Figure]]]]
    full: Extent
    quick: Extent
    limit_s: int
    prepare: Callable[[Sequence[str], Extent], None] = lambda _groups, _extent: None

    def main(self) -> int:
        """Measure what the command line asks for; the exit status is 1 when a figure misses its bound."""
        given = self._parsed()
        if given.table:
            print(markdown(read(self.out)))
            return 0
        # In a file or a pipe nobody's window folds the table.
        console = Console(width=None if sys.stdout.isatty() else _FILE_COLUMNS)
        try:
            self._bound()
            # Where it is set, every start of a command would compile all of it again, which none that is installed
            # does.
            os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
            extent = self.quick if given.quick else self.full
            groups = [given.only] if given.only else list(self.groups)
            self.prepare(groups, extent)
            figures = self._run(groups, extent, console)
        except BenchFailed as error:
            sys.stderr.write(f"bench: {error}\n")
            return 1
        except KeyboardInterrupt:
            sys.stderr.write("bench: stopped\n")
            return 130
        show(self.title, figures, console)
        if given.only is None:
            write(figures, self.out)
            console.print(f"written to {self.out}")
        return 0 if all(figure.is_kept for figure in figures) else 1

    def _run(self, groups: Sequence[str], extent: Extent, console: Console) -> list[Figure]:
        """Measure; nothing that was started or written is left."""
        figures: list[Figure] = []
        with short_folder("vb-") as folder:
            for group in groups:
                said, measure = self.groups[group]
                console.print(said)
                (folder / group).mkdir()
                figures += measure(folder / group, extent)
        return figures

    def _parsed(self) -> argparse.Namespace:
        out = self.out.relative_to(Path(__file__).parents[1])
        parser = argparse.ArgumentParser(prog=f"python -m {self.module}", description=self.about)
        parser.add_argument("--quick", action="store_true", help="less and shorter: to see that it works")
        parser.add_argument("--only", choices=self.groups, help=f"one group of figures; {out} is left as it was")
        parser.add_argument("--table", action="store_true", help=f"print {out} as Markdown, and measure nothing")
        return parser.parse_args()

    def _bound(self) -> None:
        """End by SIGTERM as by Ctrl-C, and when it takes too long."""

        def late(_number: int, _frame: FrameType | None) -> NoReturn:
            raise BenchFailed(f"not done within {self.limit_s} s; is something else running on this machine?")

        signal.signal(signal.SIGTERM, signal.default_int_handler)
        signal.signal(signal.SIGALRM, late)
        signal.alarm(self.limit_s)
