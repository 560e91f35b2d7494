"""Progress of transfers, on stderr, and only where a person looks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from broker.cli import showing


class Bars:
    """The bars of one command."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown

    @property
    def is_shown(self) -> bool:
        """Whether anybody sees them."""
        return not self._shown.disable

    def bar(self, what: str, total: int | None) -> Callable[[int], None]:
        """Add a bar; the function returned is told the bytes, or items, that went by."""
        task = self._shown.add_task(what, total=total)
        return lambda count: self._shown.advance(task, count)


@contextmanager
def progress(*, of_items: bool = False) -> Iterator[Bars]:
    """Show bars while the block runs, of bytes or of items; they are gone at its end."""
    console = showing.stderr()
    amounts: tuple[ProgressColumn, ...] = (DownloadColumn(), TransferSpeedColumn())
    if of_items:
        amounts = (MofNCompleteColumn(), TimeRemainingColumn())
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), *amounts)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        yield Bars(shown)
