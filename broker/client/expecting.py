"""Requests that ask before they send their body, and do not wait for ever to be told to. Source: RFC 9110, 10.1.1."""

import asyncio
from typing import Any

import aiohttp

CONTINUE_WAIT_S = 2.0
"""For `100 Continue`, which some servers never send: then the body goes anyway."""


class ExpectingRequest(aiohttp.ClientRequest):
    """A request that, with `Expect: 100-continue`, waits `CONTINUE_WAIT_S` for the word to go on, where aiohttp's waits
    for ever. A final status that comes before the body ends the request without it.
    """

    async def write_bytes(self, *args: Any, **named: Any) -> None:
        """Send the body, once the server wants it or the wait is over."""
        if (told := self._continue) is None:
            return await super().write_bytes(*args, **named)
        timer = asyncio.get_running_loop().call_later(CONTINUE_WAIT_S, _go_on, told)
        try:
            return await super().write_bytes(*args, **named)
        finally:
            timer.cancel()


def _go_on(told: asyncio.Future[bool]) -> None:
    if not told.done():
        told.set_result(True)
