"""Progress of transfers, on stderr, and only where a person looks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from broker.cli import showing


class Bars:
    """The bars of one command."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown

    def bar(self, what: str, total_bytes: int) -> Callable[[int], None]:
        """Add a bar; the function returned is told the bytes that went by."""
        task = self._shown.add_task(what, total=total_bytes)
        return lambda count: self._shown.advance(task, count)


@contextmanager
def progress() -> Iterator[Bars]:
    """Show bars while the block runs; they are gone at its end."""
    console = showing.stderr()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        yield Bars(shown)
