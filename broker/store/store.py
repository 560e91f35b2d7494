"""The store as those above it see it: one method per act, atomic each, in the glossary's words.

Python decides, Lua moves: what policy wants is decided here from the domain's functions, on what was read; the act's
script checks that it still applies, moves the item, writes the event, and answers one word. When the item changed
meanwhile it is read and decided again, a bounded number of times.
"""

from collections.abc import Callable
from typing import Self

from broker.domain.deadlines import DEFAULT, Deadlines
from broker.store.accounts import Accounts
from broker.store.acts import Acts
from broker.store.callback_pages import CallbackPages
from broker.store.clock import Clock
from broker.store.demands import Demands
from broker.store.dispatches import Dispatches
from broker.store.event_log import EventLog
from broker.store.file_room import FileRoom
from broker.store.keys import Keys
from broker.store.launcher_jobs import LauncherJobs
from broker.store.launchers import Launchers
from broker.store.leases import Leases
from broker.store.peers import Peers
from broker.store.secrets import Secrets
from broker.store.server import Server
from broker.store.token_records import TokenRecords


class Store(
    Acts,
    Dispatches,
    Leases,
    Launchers,
    LauncherJobs,
    Clock,
    EventLog,
    CallbackPages,
    Accounts,
    FileRoom,
    TokenRecords,
    Secrets,
    Demands,
    Peers,
):
    """A connected store. Every method raises `Unavailable` when the store is away, full or slow."""

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        prefix: str = "vmb",
        deadlines: Deadlines = DEFAULT,
        is_disk_short: Callable[[], bool] = lambda: False,
    ) -> Self:
        """Connect to `redis://…`, `rediss://…` or `unix://PATH`; all names begin with `prefix`.

        While `is_disk_short` no items are pushed; everything else is still tried, so that running ones can settle.

        Raises:
            Unavailable: it cannot be reached, or is older than Redis 7.0.
        """
        keys = Keys(prefix)
        server = Server(url, keys.life, is_disk_short)
        try:
            await server.open()
        except BaseException:
            await server.close()
            raise
        return cls(server, keys, deadlines)

    @property
    def durability(self) -> str:
        """What an accepted push is worth; see `Pushed`."""
        return self._server.durability

    async def close(self) -> None:
        """Close all connections."""
        await self._server.close()

    async def ping(self) -> None:
        """Return when the store answers.

        Raises:
            Unavailable: it does not.
        """
        await self._server.command("PING")
