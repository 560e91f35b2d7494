"""A broker of several real processes: which they are, and calls that reach a certain one of them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from broker.domain.errors import Unavailable
from broker.http.offers import Offer
from broker.http.roll_call import RollCall
from broker.http.waiting import WaitingRoom
from broker.store import Dispatched, Presence, Store
from broker.wire.names import UserName
from broker.wire.problems import ProblemCode
from tests.support.api import Api
from tests.support.grid import free_port
from tests.support.waiting import until

_MODULE = b"broker.worker"
_ESTABLISHED = "01"
_TRIES = 200
"""Connections are spread by a hash: so many in a row that miss one of a few processes are none of chance's."""


def children_of(parent: int) -> list[int]:
    """Return the process ids of a process's children that are not dead."""
    return [pid for pid in _processes() if _stat(pid)[1:2] == [str(parent)] and is_alive(pid)]


def workers_of(parent: int) -> list[int]:
    """Return the process ids of a broker's workers."""
    return [pid for pid in children_of(parent) if _MODULE in _command(pid).split(b"\0")]


def is_alive(pid: int) -> bool:
    """Tell whether a process is there, and not only waits for somebody to learn of its end."""
    return _stat(pid)[:1] not in ([], ["Z"])


@asynccontextmanager
async def bound_to(worker: int, url: str, token: str | None) -> AsyncIterator[Api]:
    """Give calls that go over one connection, which the worker with this process id has accepted."""
    async with AsyncExitStack() as stack:
        for _ in range(_TRIES):
            port = free_port()
            connector = aiohttp.TCPConnector(limit=1, local_addr=("127.0.0.1", port), keepalive_timeout=600)
            http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
            await Api(http, url, None).ok("GET", "/healthz")
            if _has(worker, _inode(urlsplit(url).port or 0, port)):
                yield Api(http, url, token)
                return
    raise AssertionError(f"no connection came to the worker with process id {worker}")


@asynccontextmanager
async def parked_at_all(store: str) -> AsyncIterator["Parked"]:
    """Look into the waiting rooms of all processes, as one of them would."""
    connected = await Store.connect(store)
    try:
        roll_call = RollCall(connected, WaitingRoom(_take_nothing, _hear_nobody, capacity=0))
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(roll_call.run())
            yield Parked(roll_call)
            listening.cancel()
    finally:
        await connected.close()


class Parked:
    def __init__(self, roll_call: RollCall) -> None:
        self._roll_call = roll_call

    async def launchers(self) -> list[str]:
        """Return the names of the launchers that wait now, at whichever process."""
        offered = await self._roll_call.offers(UserName("alice"), frozenset())
        return sorted(each.launcher.rpartition("/")[2] for each in offered if each.is_parked)

    async def are(self, *launchers: str) -> None:
        """Wait until these launchers wait, and no others."""

        async def are_they() -> bool:
            return await self.launchers() == sorted(launchers)

        await until(are_they, f"{', '.join(launchers) or 'nobody'} waits")


async def _take_nothing(_: Offer) -> list[Dispatched]:
    raise Unavailable(ProblemCode.STORE_UNAVAILABLE, "nothing is given out here")


async def _hear_nobody(_: Sequence[Offer]) -> list[Presence]:
    return []


def _processes() -> list[int]:
    return [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]


def _stat(pid: int) -> list[str]:
    """Return state, parent and all that follows; nothing when it is gone. Source: proc_pid_stat(5)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _inode(served: int, client: int) -> str | None:
    """Return the inode of the server's end of a connection. Source: proc_pid_net(5), tcp.

    None when it was not seen: the kernel lists connections by and by, and may leave out some while others come and go.
    """
    ends = f"0100007F:{served:04X}", f"0100007F:{client:04X}", _ESTABLISHED
    lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return next((line[9] for line in lines if tuple(line[1:4]) == ends), None)


def _has(pid: int, inode: str | None) -> bool:
    return inode is not None and any(
        _target(entry) == f"socket:[{inode}]" for entry in Path(f"/proc/{pid}/fd").iterdir()
    )


def _target(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except FileNotFoundError:
        return ""
