"""`broker machine uploads`: images and files that are half-way, which count against what a user may have."""

import contextlib
from collections.abc import Iterator

from broker.cli import showing
from broker.cli.acting import Acting
from broker.client.errors import ApiError
from broker.client.uploads import drop_upload, unfinished_uploads
from broker.wire.problems import ProblemCode


async def show_uploads(acting: Acting, *, drop: bool) -> None:
    """Show the uploads that are not finished, or remove them; one that goes on just now stays."""
    uploads = await unfinished_uploads(acting.session)
    if not uploads:
        showing.stdout().print("no upload is unfinished")
        return
    table = showing.table("sha256", "becomes", "size", "arrived", "", right=("size", "arrived"))
    for each in uploads:
        said = "" if not drop else "removed" if await _dropped(acting, each.upload) else "stays: it goes on just now"
        size, arrived = showing.size(each.size_bytes), showing.size(each.offset_bytes)
        table.add_row(showing.short(each.digest), showing.plain(each.becomes), size, arrived, said)
    showing.stdout().print(table)


async def _dropped(acting: Acting, upload: str) -> bool:
    try:
        await drop_upload(acting.session, upload)
    except ApiError as error:
        if error.code is not ProblemCode.UPLOAD_BUSY:
            raise
        return False
    return True


@contextlib.contextmanager
def say_how_to_drop() -> Iterator[None]:
    """Add to the broker's refusal of one upload more how to get rid of those that are there."""
    try:
        yield
    except ApiError as error:
        if error.code is ProblemCode.TOO_MANY_UPLOADS:
            error.add_note("`broker machine uploads` shows them, and `broker machine uploads --drop` removes them")
        raise
