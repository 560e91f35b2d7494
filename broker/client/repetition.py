"""Trying again. Only an answer in the 400s says no; every other failure may be gone a little later.

A broker that is away behind the launcher's proxy is heard of as a 502, one that stumbles answers 500: neither has
refused anything, and every call for an item may be repeated, be it the guest's or its launcher's.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TypeVar

from broker.client.errors import CallError, may_help_to_repeat
from broker.client.session import ApiError, Patience, Unreachable

T = TypeVar("T")

PROGRESS_BYTES = 1_048_576
"""Less than this is no progress: a server that gives a byte for each try is not asked for ever."""


def is_passing(error: CallError) -> bool:
    """Tell whether the same request may succeed a little later."""
    is_server_fault = isinstance(error, ApiError) and error.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return is_server_fault or may_help_to_repeat(error)


async def repeated(
    once: Callable[[], Awaitable[T]],
    patience: Patience,
    may_repeat: Callable[[CallError], bool] = is_passing,
    came_so_far: Callable[[], int] | None = None,
) -> T:
    """Call `once` until it succeeds, fails for good, or the patience is at its end; then its last error is raised.

    `came_so_far`, in bytes, is of what goes on where it was cut: `PROGRESS_BYTES` further, the patience begins anew.
    """
    started_at_s, attempt, mark_bytes = time.monotonic(), 0, 0
    while True:
        attempt += 1
        try:
            return await once()
        except CallError as error:
            if came_so_far is not None and came_so_far() >= mark_bytes + PROGRESS_BYTES:
                started_at_s, attempt, mark_bytes = time.monotonic(), 1, came_so_far()
            delay_s = patience.delay_s(attempt, _asked_delay_s(error))
            is_late = time.monotonic() - started_at_s + delay_s > patience.total_s
            if not may_repeat(error) or is_late or attempt >= patience.attempts:
                raise
        await asyncio.sleep(delay_s)


async def answered(once: Callable[[], Awaitable[T]], patience: Patience) -> T:
    """Repeat a call of the broker until it is taken or refused. `once` must not be patient itself.

    Raises:
        ApiError: the broker refused.
        Unreachable: no answer that counts came within the patience.
    """
    try:
        return await repeated(once, patience)
    except ApiError as error:
        if is_passing(error):
            raise Unreachable(str(error)) from error
        raise


def _asked_delay_s(error: CallError) -> float | None:
    asked_s = error.problem.retry_after_s if isinstance(error, ApiError) else None
    return None if asked_s is None else float(asked_s)
