"""Commands of many callers in few round trips.

What is called in one turn of the loop, or while earlier commands are on their way, goes out together over one of a few
connections: with a thousand callers at once the store is written to and read from a few times, not a thousand times,
and a durable store writes its disk as seldom. Each caller gets the answer to its own commands, or the error.

Acts of one script on one stream that go out together are one command, where the script can be run for several: what
they have in common is read and written once.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import hiredis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import ResponseError

LANES = 3
"""Connections that are used at once: the next batch is made while the one before is answered."""
MOST_COMMANDS = 32
"""One batch has about so many commands at most: the store works on it while the next one is made."""

Arg = str | int | bytes


class Head(NamedTuple):
    """What acts that may be one command begin with: so many parts, packed."""

    packed: bytes
    parts: int


@dataclass(slots=True)
class _Asked:
    """Some commands of one caller; or, after a `head`, what its act adds to the command that it shares."""

    packed: bytes
    names: Sequence[str]
    """Of the commands, as the client library knows them."""
    answered: asyncio.Future[list[Any]]
    since_s: float
    head: Head | None = None
    parts: int = 0


def head_of(*parts: Arg) -> Head:
    """Pack what acts have in common."""
    return Head(_without_count(_pack(parts)), len(parts))


def _pack(parts: Sequence[Arg]) -> bytes:
    packed: bytes = hiredis.pack_command(tuple(parts))  # type: ignore[arg-type] # its stub knows tuples of one part
    return packed


def _without_count(packed: bytes) -> bytes:
    """Return a packed command's parts alone; before them it says how many they are."""
    return packed[packed.index(b"\n") + 1 :]


class Gathering:
    """Sends commands over connections of a pool. `limit_s` bounds one batch: a store silent for longer is away."""

    def __init__(self, redis: Redis, pool: BlockingConnectionPool, limit_s: float) -> None:
        self._redis = redis
        self._pool = pool
        self._limit_s = limit_s
        self._waiting: deque[_Asked] = deque()
        self._sending: set[asyncio.Task[None]] = set()
        self._idle: list[Any] = []
        """Connections that are kept: to have one of the pool's for each batch costs more than a small one's answers."""
        self._is_due = False

    async def ask(self, commands: Sequence[tuple[Arg, ...]]) -> list[Any]:
        """Return the answers to some commands, in order; they are sent one after another, others' may come between.

        Raises:
            RedisError, TimeoutError: as the client library; of an error in an answer the first one.
        """
        # Packed here, so that what cannot be sent fails its own caller and nobody beside it.
        packed = b"".join(_pack(parts) for parts in commands)
        names = [str(parts[0]) for parts in commands]
        return await self._put(_Asked(packed, names, *_new_future()))

    async def ask_act(self, head: Head, arguments: Sequence[Arg]) -> Any:
        """Return the answer to an act, which may be one command with others that have the same `head`.

        Raises:
            RedisError, TimeoutError: as `ask`.
        """
        packed = _without_count(_pack((len(arguments), *arguments)))
        asked = _Asked(packed, ("EVALSHA",), *_new_future(), head, len(arguments) + 1)
        return (await self._put(asked))[0]

    async def close(self) -> None:
        """Wait for what is on its way."""
        while self._sending:
            await asyncio.wait(self._sending)
        while self._idle:
            await self._pool.release(self._idle.pop())

    def _put(self, asked: _Asked) -> "asyncio.Future[list[Any]]":
        self._waiting.append(asked)
        if not self._is_due and len(self._sending) < LANES:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._send_waiting)
        return asked.answered

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
                count += len(asked.names)
        return batch

    async def _send(self, batch: list[_Asked]) -> None:
        runs = _runs(batch)
        try:
            async with asyncio.timeout(self._limit_s):
                connection = await self._connected()
                try:
                    packed = b"".join(_packed(run) for run in runs)
                    await connection.send_packed_command(packed, check_health=False)
                    for run in runs:
                        await self._read(connection, run)
                except BaseException:
                    # Answers that are not read would be taken for those of the next one who uses the connection.
                    await connection.disconnect(nowait=True)
                    raise
                finally:
                    self._idle.append(connection)
        except BaseException as error:
            _refuse(batch, error)
            if isinstance(error, TimeoutError):
                self._give_up()
            if not isinstance(error, Exception):
                raise

    async def _connected(self) -> Any:
        """Return a connection that nobody uses; one that the store has closed since is made anew."""
        if not self._idle:
            return await self._pool.get_connection()  # type: ignore[no-untyped-call] # redis-py has no type
        connection = self._idle.pop()
        try:
            await self._pool.ensure_connection(connection)
        except BaseException:
            self._idle.append(connection)
            raise
        return connection

    def _give_up(self) -> None:
        """Refuse those that waited for as long as one batch may take: the store is away, and they need not ask it."""
        until_s = asyncio.get_running_loop().time() - self._limit_s
        late = [asked for asked in self._waiting if asked.since_s <= until_s]
        self._waiting = deque(asked for asked in self._waiting if asked.since_s > until_s)
        _refuse(late, TimeoutError())

    async def _read(self, connection: Any, run: list[_Asked]) -> None:
        answers: list[Any] = []
        failed: ResponseError | None = None
        for name in run[0].names:
            try:
                answers.append(await self._redis.parse_response(connection, name))
            except ResponseError as error:
                failed = failed or error
        if failed is not None:
            _refuse(run, failed)
        elif run[0].head is None:
            _answer(run[0], answers)
        else:
            for asked, answer in zip(run, answers[0], strict=True):
                if isinstance(answer, ResponseError):
                    _refuse([asked], answer)
                else:
                    _answer(asked, [answer])


def _new_future() -> tuple["asyncio.Future[list[Any]]", float]:
    loop = asyncio.get_running_loop()
    return loop.create_future(), loop.time()


def _runs(batch: list[_Asked]) -> list[list[_Asked]]:
    """Put together what is one command; it goes where the first of it was."""
    runs: list[list[_Asked]] = []
    shared: dict[Head, list[_Asked]] = {}
    for asked in batch:
        if asked.head is None:
            runs.append([asked])
        elif asked.head in shared:
            shared[asked.head].append(asked)
        else:
            runs.append(shared.setdefault(asked.head, [asked]))
    return runs


def _packed(run: list[_Asked]) -> bytes:
    head = run[0].head
    if head is None:
        return run[0].packed
    count = head.parts + sum(asked.parts for asked in run)
    return b"".join((b"*%d\r\n" % count, head.packed, *(asked.packed for asked in run)))


def _answer(asked: _Asked, answers: list[Any]) -> None:
    if not asked.answered.done():
        asked.answered.set_result(answers)


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
