"""What nobody waits for: abandoned uploads, images that no machine names, bytes that are nobody's, and counting."""

import asyncio

import structlog

from broker.domain.errors import Unavailable
from broker.domain.turns import Turns
from broker.http.call import Services
from broker.http.images import release_unnamed, remove_ungranted

SWEEP_S = 3_600.0
UNNAMED_MS = 86_400_000
"""How long an image stays granted that no machine names; far longer than a vm takes to fetch its own."""

log = structlog.get_logger(__name__)


async def keep_swept(services: Services, turns: Turns) -> None:
    """Sweep at this process's turns, which come round every hour, for ever; the first one sweeps at its start, too."""
    clock = asyncio.get_running_loop().time
    if turns.place == 0:
        await sweep_once(services)
    while True:
        await asyncio.sleep(turns.until_next_s(clock(), SWEEP_S))
        await sweep_once(services)


async def recount_files(services: Services) -> None:
    """Set right what each user's files are counted to take, where it moved since it was compared with the disk.

    Only a broker that died, or was cut from its store, leaves it wrong. Files from before there was a count are counted
    now, too.
    """
    for user in await services.files.users():
        moves = await services.store.file_moves(user)
        if moves is None:
            continue
        size_bytes = await services.files.counted(user)
        if size_bytes is not None:
            await services.store.recount_files(user, moves, size_bytes)


async def sweep_once(services: Services) -> None:
    """Remove what may go; what cannot be removed now is left for the next time."""
    try:
        removed = await services.uploads.clear_abandoned()
        await release_unnamed(services, keep_ms=UNNAMED_MS)
        await remove_ungranted(services)
        await recount_files(services)
        # Last, since it asks somebody else, who may be away.
        if services.files.direct is not None:
            await services.files.direct.sweep()
    except (Unavailable, OSError) as error:
        log.warning("sweep_missed", reason=str(error))
        return
    if removed:
        log.info("uploads_removed", count=removed)
