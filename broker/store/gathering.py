"""Commands of many callers in few round trips.

What is called in one turn of the loop, or while earlier commands are on their way, goes out together over one of a few
connections: with a thousand callers at once the store is written to and read from a few times, not a thousand times,
and a durable store writes its disk as seldom. Each caller gets the answer to its own commands, or the error.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import hiredis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import ResponseError

LANES = 4
"""Connections that are used at once: the next batch is made while the one before is answered."""
MOST_COMMANDS = 16
"""One batch has about so many commands at most: the store works on it while the next one is made."""

Arg = str | int | bytes


@dataclass(slots=True)
class _Asked:
    """Some commands of one caller."""

    commands: Sequence[tuple[Arg, ...]]
    packed: bytes
    answered: asyncio.Future[list[Any]]
    since_s: float


class Gathering:
    """Sends commands over connections of a pool. `limit_s` bounds one batch: a store silent for longer is away."""

    def __init__(self, redis: Redis, pool: BlockingConnectionPool, limit_s: float) -> None:
        self._redis = redis
        self._pool = pool
        self._limit_s = limit_s
        self._waiting: deque[_Asked] = deque()
        self._sending: set[asyncio.Task[None]] = set()
        self._is_due = False

    async def ask(self, commands: Sequence[tuple[Arg, ...]]) -> list[Any]:
        """Return the answers to some commands, in order; they are sent one after another, others' may come between.

        Raises:
            RedisError, TimeoutError: as the client library; of an error in an answer the first one.
        """
        loop = asyncio.get_running_loop()
        # Packed here, so that what cannot be sent fails its own caller and nobody beside it.
        packed = b"".join(
            hiredis.pack_command(parts)  # type: ignore[arg-type] # its stub knows tuples of one part
            for parts in commands
        )
        asked = _Asked(commands, packed, loop.create_future(), loop.time())
        self._waiting.append(asked)
        if not self._is_due and len(self._sending) < LANES:
            self._is_due = True
            loop.call_soon(self._send_waiting)
        return await asked.answered

    async def close(self) -> None:
        """Wait for what is on its way."""
        if self._sending:
            await asyncio.wait(self._sending)

    def _send_waiting(self) -> None:
        self._is_due = False
        while self._waiting and len(self._sending) < LANES:
            if batch := self._batch():
                task = asyncio.ensure_future(self._send(batch))
                self._sending.add(task)
                task.add_done_callback(self._sent)

    def _sent(self, task: "asyncio.Task[None]") -> None:
        self._sending.discard(task)
        self._send_waiting()

    def _batch(self) -> list[_Asked]:
        batch, count = [], 0
        while self._waiting and count < MOST_COMMANDS:
            asked = self._waiting.popleft()
            if not asked.answered.done():  # else its caller gave up
                batch.append(asked)
                count += len(asked.commands)
        return batch

    async def _send(self, batch: list[_Asked]) -> None:
        try:
            async with asyncio.timeout(self._limit_s):
                connection = await self._pool.get_connection()  # type: ignore[no-untyped-call] # redis-py has no type
                try:
                    packed = b"".join(asked.packed for asked in batch)
                    await connection.send_packed_command(packed, check_health=False)
                    for asked in batch:
                        await self._read(connection, asked)
                except BaseException:
                    # Answers that are not read would be taken for those of the next one who uses the connection.
                    await connection.disconnect(nowait=True)
                    raise
                finally:
                    await self._pool.release(connection)
        except BaseException as error:
            _refuse(batch, error)
            if isinstance(error, TimeoutError):
                self._give_up()
            if not isinstance(error, Exception):
                raise

    def _give_up(self) -> None:
        """Refuse those that waited for as long as one batch may take: the store is away, and they need not ask it."""
        until_s = asyncio.get_running_loop().time() - self._limit_s
        late = [asked for asked in self._waiting if asked.since_s <= until_s]
        self._waiting = deque(asked for asked in self._waiting if asked.since_s > until_s)
        _refuse(late, TimeoutError())

    async def _read(self, connection: Any, asked: _Asked) -> None:
        answers: list[Any] = []
        failed: ResponseError | None = None
        for parts in asked.commands:
            try:
                answers.append(await self._redis.parse_response(connection, str(parts[0])))
            except ResponseError as error:
                failed = failed or error
        if asked.answered.done():
            return
        if failed is None:
            asked.answered.set_result(answers)
        else:
            asked.answered.set_exception(failed)


def _refuse(batch: Sequence[_Asked], error: BaseException) -> None:
    for asked in batch:
        if not asked.answered.done():
            asked.answered.set_exception(_told(error))


def _told(error: BaseException) -> Exception:
    """Return an error of one caller's own: one exception raised in many tasks would gather all their tracebacks."""
    if isinstance(error, asyncio.CancelledError):
        return StoreConnectionError("the connection was closed")
    if not isinstance(error, Exception):
        return StoreConnectionError(str(error))
    try:
        return type(error)(*error.args)
    except TypeError:  # it is made in another way than its `args` tell
        return error
