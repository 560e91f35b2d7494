"""The one place that calls the store: every call is bounded, and what goes wrong comes out as the broker's own errors.

Nothing is sent twice behind the caller's back. A lost answer leaves it unknown whether the act was done; every act that
another party may repeat has a key that makes repeating safe, so the repeating is theirs.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ResponseError

from broker.domain.errors import Unavailable
from broker.store import scripts
from broker.store.arguments import SCRIPTS, Arguments, BeginLife, flatten
from broker.store.failures import FAILURES, disk_full, raise_translated, translated
from broker.store.gathering import Arg, Gathering, Head, head_of
from broker.store.keys import StreamKeys
from broker.store.remembered import Remembered
from broker.store.scripts import COMMON, Script, Word
from broker.wire.problems import ProblemCode

CALL_TIMEOUT_S = 5.0
"""The slowest script takes milliseconds; a store silent for longer is away."""
CONNECTIONS = 64
"""One process keeps at most so many connections; further callers wait their turn."""
_GATHERED = 32
"""More commands of one caller go over a connection of their own, so that others do not wait for them."""
_HEADS = 5_000
"""Packed beginnings of commands that are kept: one a script and stream."""
OLDEST = (7, 0)


class Reply(NamedTuple):
    """What a script answered: its word, and what follows it."""

    word: Word
    values: list[Any]


class Server:
    """A connected store. The scripts are loaded, and loaded again when the store forgot them.

    `life` is the key that tells which process serves the store; `is_disk_short` tells whether the disk of a store on
    this machine is about to be full.
    """

    def __init__(self, url: str, life: str, is_disk_short: Callable[[], bool] = lambda: False) -> None:
        self._life = life
        self._is_disk_short = is_disk_short
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=CALL_TIMEOUT_S,
            # Each call is bounded as a whole. A timeout of the client's own is an asyncio.wait_for, which on Python
            # 3.11 swallows a cancellation that comes just after the command was sent (bpo-37658).
            socket_timeout=None,
            socket_connect_timeout=CALL_TIMEOUT_S,
            decode_responses=True,
            # One shape of answers on every server and with every version of the client library.
            protocol=2,
            retry=Retry(NoBackoff(), 0),
        )
        self._redis: Redis = Redis.from_pool(pool)
        self._gathering = Gathering(self._redis, pool, CALL_TIMEOUT_S)
        self._heads: Remembered[tuple[str | int, ...], Head] = Remembered(_HEADS)
        self.durability = "unknown"

    async def open(self) -> None:
        """Check the server's version, learn its durability, load the scripts.

        Raises:
            Unavailable: it cannot be reached, or is older than Redis 7.0.
        """
        info = await self.command("INFO", "server")
        version = str(info["redis_version"])
        if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
            raise Unavailable(
                ProblemCode.STORE_UNAVAILABLE, f"the store is Redis {version}: run Redis 7.0 or newer, or Valkey"
            )
        self.durability = await self._read_durability()
        # Before any script is there to be run: whoever finds them loaded finds the life begun.
        await self._begin_life()
        for name in scripts.names():
            await self.command("SCRIPT", "LOAD", scripts.load(name).source)

    def check_disk(self) -> None:
        """Return when there is room for more.

        Raises:
            Unavailable: STORE_DISK_FULL.
        """
        if self._is_disk_short():
            raise disk_full()

    async def close(self) -> None:
        await self._gathering.close()
        async with self._translated():
            await self._redis.aclose()

    async def command(self, *parts: Arg) -> Any:
        """Call one command.

        Raises:
            Unavailable: the store is away, full or slow; a write may or may not have been done.
        """
        return (await self._ask([parts]))[0]

    async def commands(self, batch: Sequence[tuple[Arg, ...]], *, atomic: bool = False) -> list[Any]:
        """Call several commands in one round trip or few, `atomic` ones with nothing in between.

        Raises:
            Unavailable: as for `command`.
        """
        if not batch:
            return []
        if not atomic and len(batch) <= _GATHERED:
            return await self._ask(batch)
        async with self._translated(), self._redis.pipeline(transaction=atomic) as pipeline:
            for parts in batch:
                pipeline.execute_command(*parts)
            return list(await pipeline.execute())

    async def act(self, arguments: Arguments, keys: StreamKeys | None = None, **more_keys: str) -> Reply:
        """Run the script of `arguments` on the keys that its header names.

        Raises:
            Unavailable: as for `command`.
        """
        script = scripts.load(SCRIPTS[type(arguments)])

        def named() -> list[str]:
            return [more_keys[name] if name in more_keys else getattr(keys, name) for name in script.keys]

        try:
            if script.is_for_several:
                word, *values = await self._evaluate_act(script, named, flatten(arguments))
            else:
                word, *values = await self._evaluate(script, named(), flatten(arguments))
        except FAILURES as error:
            raise_translated(error, self._is_disk_short)
        answered = Word(word)
        assert answered in script.words, f"{script.name} answered {word!r}, which its header does not list"
        return Reply(answered, values)

    def pubsub(self) -> PubSub:
        """Return a subscriber; what it raises is the caller's to translate."""
        return self._redis.pubsub(ignore_subscribe_messages=True)

    async def _ask(self, batch: Sequence[tuple[Arg, ...]]) -> list[Any]:
        # Bounded and translated here, and not by a context around each call, which costs as much as the call.
        try:
            return await self._gathering.ask(batch)
        except FAILURES as error:
            raise_translated(error, self._is_disk_short)

    def _translated(self) -> AbstractAsyncContextManager[None]:
        return translated(CALL_TIMEOUT_S, self._is_disk_short)

    async def _call(self, *parts: Arg) -> Any:
        [answer] = await self._gathering.ask([parts])
        return answer

    async def _evaluate(self, script: Script, keys: list[str], arguments: list[str | int]) -> list[Any]:
        parts: list[Arg] = [len(keys), *keys, *arguments]
        try:
            answer = await self._call("EVALSHA", script.sha1, *parts)
        except NoScriptError:
            # The server was started anew, or another took its place; EVAL runs it and keeps it.
            await self._begin_life()
            answer = await self._call("EVAL", script.source, *parts)
        return list(answer)

    async def _evaluate_act(
        self, script: Script, named: Callable[[], list[str]], arguments: list[str | int]
    ) -> list[Any]:
        """Run a script for this act, and others on the same stream that come at the same time."""
        common, own = arguments[: len(COMMON)], arguments[len(COMMON) :]
        try:
            answer = await self._gathering.ask_act(self._head(script, named, common), own)
        except NoScriptError:
            await self._begin_life()
            keys = named()
            [answer] = await self._call("EVAL", script.source, len(keys), *keys, *common, len(own), *own)
            if isinstance(answer, Exception):
                raise answer from None
        return list(answer)

    def _head(self, script: Script, named: Callable[[], list[str]], common: list[str | int]) -> Head:
        name = (script.name, *common)
        head = self._heads.get(name)
        if head is None:
            keys = named()
            head = head_of("EVALSHA", script.sha1, len(keys), *keys, *common)
            self._heads.keep(name, head)
        return head

    async def _begin_life(self) -> None:
        """Note which process serves the store: with another one than before, event logs begin new epochs."""
        async with self._translated():
            info = await self._call("INFO", "server")
            script, run = scripts.load("begin_life"), flatten(BeginLife(run=info["run_id"]))
            await self._call("EVAL", script.source, 1, self._life, *run)

    async def _read_durability(self) -> str:
        """Return what a 2xx means: `fsync` on disk, `second` within a second, `memory` not at all, or `unknown`."""
        async with self._translated():
            try:
                flat = await self._call("CONFIG", "GET", "append*")
            except ResponseError:
                # An access list that hides CONFIG is good practice; the operator then knows, we do not.
                return "unknown"
        config = dict(zip(flat[::2], flat[1::2], strict=True))
        if config.get("appendonly") != "yes":
            return "memory"
        return {"always": "fsync", "everysec": "second"}.get(config["appendfsync"], "memory")
