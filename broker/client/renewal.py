"""A person's token while a program runs: renewed by the login before it ends, and when the broker says it did."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Protocol

import msgspec

from broker.client.login import KeptLogin
from broker.wire.logins import Renewed

BEFORE_END = timedelta(minutes=5)
"""So long before its end a token is renewed: more than clocks differ, less than a token lives."""


class _Calls(Protocol):
    async def renew(self, login: str) -> Renewed: ...


class Renewal:
    """Keeps the token of a login fresh, in memory and in the login's file. One request at a time renews it."""

    def __init__(self, kept: KeptLogin, calls: _Calls) -> None:
        self._kept = kept
        self._calls = calls
        self._renewing = asyncio.Lock()

    async def token(self) -> str:
        """Return a token that is good for a while.

        Raises:
            CallError: the login is over, or the broker does not answer.
        """
        content = self._kept.content
        return content.token if not _ends_soon(content.ends_at) else await self.renewed(content.token)

    async def renewed(self, refused: str) -> str:
        """Return another token than one that was refused.

        Raises:
            CallError: the login is over, or the broker does not answer.
        """
        async with self._renewing:
            content = self._kept.content
            if content.token == refused:
                new = await self._calls.renew(content.login)
                self._kept = self._kept.write(
                    msgspec.structs.replace(
                        content, token=new.token, ends_at=new.ends_at, login_ends_at=new.login_ends_at
                    )
                )
            return self._kept.content.token


def _ends_soon(ends_at: str) -> bool:
    try:
        ends = datetime.fromisoformat(ends_at)
    except ValueError:
        return True
    return ends - datetime.now(UTC) < BEFORE_END
