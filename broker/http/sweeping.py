"""What nobody waits for: abandoned uploads, and images that lost their last user while the broker was stopped."""

import asyncio

import structlog

from broker.domain.errors import Unavailable
from broker.http.call import Services
from broker.http.images import remove_ungranted

SWEEP_S = 3_600.0

log = structlog.get_logger(__name__)


async def keep_swept(services: Services) -> None:
    """Sweep every hour, for ever."""
    while True:
        await sweep_once(services)
        await asyncio.sleep(SWEEP_S)


async def sweep_once(services: Services) -> None:
    """Remove what may go; what cannot be removed now is left for the next time."""
    try:
        removed = await services.uploads.clear_abandoned()
        await remove_ungranted(services)
    except (Unavailable, OSError) as error:
        log.warning("sweep_missed", reason=str(error))
        return
    if removed:
        log.info("uploads_removed", count=removed)
