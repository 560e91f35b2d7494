"""What one job of RQ's does: the outbox says whether the event is still owed, and is told what became of it.

A job carries the event's place in the outbox and nothing else. It may run twice, or never: the outbox alone decides.
"""

import asyncio

import structlog

from broker.callbacks.delivering import BOUNDS, Services, deliver
from broker.domain.errors import Unavailable
from broker.store.answers import CallbackOutcome, OwedCallback

NAME = f"{__name__}.deliver_owed"
"""Of the one function that jobs may name."""
_NOTE_S = 8.0
"""A store that was killed is back within a second or two; what is not noted is told again."""
_PAUSE_S = 0.2
MOST_S = 5.0 + BOUNDS.total_s + _NOTE_S + 2.0
"""One job: the store is asked, the server told, the outcome noted."""

log = structlog.get_logger(__name__)


async def deliver_owed(services: Services, entry: str) -> None:
    """Tell a stream's server of the event at `entry` of the outbox, once, if it is still owed.

    Raises:
        Unavailable: the store is away. What was told and not noted is told again, by the same `webhook-id`.
        TimeoutError: after `MOST_S`.
    """
    async with asyncio.timeout(MOST_S):
        owed = await services.store.begin_callback(entry)
        if owed is not None:
            await _note(services, owed, await deliver(services, owed, owed.attempts))


async def _note(services: Services, owed: OwedCallback, outcome: CallbackOutcome) -> None:
    clock = asyncio.get_running_loop().time
    ends_s = clock() + _NOTE_S
    while True:
        try:
            await services.store.note_callback(owed.entry, outcome)
        except Unavailable as error:
            if clock() > ends_s:
                raise
            log.info("callback_not_noted_yet", callback=owed.id, reason=error.detail)
        else:
            return
        await asyncio.sleep(_PAUSE_S)
