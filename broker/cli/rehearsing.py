"""`broker push --dry-run`: the broker checks everything, and tells where files would go."""

from collections.abc import Iterable

from broker.cli import showing
from broker.cli.acting import Acting
from broker.cli.chunks import Common, chunks_of
from broker.cli.exits import BadUsage
from broker.cli.progress import progress
from broker.cli.sources import Given, Source
from broker.wire.items import DryRun


async def rehearse(acting: Acting, stream: str, sources: Iterable[Given], common: Common) -> None:
    """Have the broker check all sources, and show the first of them.

    Raises:
        BadSource, BadUsage: something is no item, or a file that would have to be uploaded.
        ApiError, Unreachable: as a push.
    """
    ref = acting.stream(stream)
    count, shown = 0, None
    with progress(of_items=True) as bars:
        async for chunk in chunks_of(acting, ref, _of_addresses(sources), common, bars):
            if chunk.bad:
                raise chunk.bad[0]
            told = await acting.researcher.rehearse(ref, chunk.body)
            shown = shown or told
            count += told.items
    if shown is not None:
        show_rehearsal(shown)
    showing.stdout().print(f"{count} items would be pushed to {ref}; nothing was")


def _of_addresses(sources: Iterable[Given]) -> Iterable[Given]:
    for source in sources:
        if isinstance(source, Source) and source.file:
            raise BadUsage(f"{source.file} would have to be uploaded: `broker file put` it, and name file:USER/PATH")
        yield source


def show_rehearsal(told: DryRun) -> None:
    """Show where the files of the first items would be."""
    table = showing.table("item", "what", "where", right=("item",))
    for each in told.first:
        rows = [("input", each.input)] if each.input else []
        rows += [(f"input {name}", url) for name, url in each.inputs.items()]
        rows.append(("output out.txt", each.target))
        rows += [("header", f"{name}: {value}") for sent in each.headers.values() for name, value in sent.items()]
        for index, (what, where) in enumerate(dict.fromkeys(rows)):
            table.add_row("" if index else str(each.number), showing.plain(what), showing.plain(where))
    showing.stdout().print(table)
