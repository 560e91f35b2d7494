"""What launchers offer to any process of the broker, for whoever is told why an item waits.

Offers are parked where they were made, in the memory of one process. Instead of noting them where all can see them,
which would cost the store a write for each that comes and goes, the other processes are asked, when somebody wants to
know: one message to all, one back from each. Who does not answer in time is left out, as is what nobody hears of while
the store is away.
"""

import asyncio
import secrets
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import msgspec
import structlog

from broker.domain.bounds import Bound
from broker.domain.errors import Unavailable
from broker.http.offers import Offer
from broker.http.waiting import WaitingRoom
from broker.store import Store
from broker.wire.dispatches import Room
from broker.wire.names import UserName

ANSWER_S = 1.0
"""A process answers within milliseconds; one that hangs delays nobody for longer."""
MAX_TOLD = 2_000
"""One process tells of so many offers, of those first that serve the user, and of those that are parked."""

log = structlog.get_logger(__name__)


class Offered(msgspec.Struct, frozen=True, array_like=True):
    """A launcher's room: what it offers now, when `is_parked`, or the most that it has offered before.

    Attributes:
        serves: its token and its site serve the user who was asked for.
        labels: its token's.
        bound: how much its token may hold, if that has one.
    """

    launcher: str
    serves: bool
    is_parked: bool
    room: Room
    labels: frozenset[str] = frozenset()
    bound: Bound | None = None


class _Question(msgspec.Struct, frozen=True, tag="question"):
    asker: str
    number: int
    user: str


class _Answer(msgspec.Struct, frozen=True, tag="answer"):
    process: str
    number: int
    offered: list[Offered]


@dataclass(eq=False)
class _Asked:
    """A question that was asked: the answers so far, by the process that gave it."""

    answers: dict[str, list[Offered]] = field(default_factory=dict)
    came: asyncio.Event = field(default_factory=asyncio.Event)


class RollCall:
    """Asks the other processes, and answers them."""

    def __init__(self, store: Store, waiting: WaitingRoom) -> None:
        self._store = store
        self._waiting = waiting
        self._own = secrets.token_hex(8)
        self._number = 0
        self._asked: dict[int, _Asked] = {}

    async def offers(self, user: UserName, there: AbstractSet[str]) -> list[Offered]:
        """Return what launchers offer, and those that are `there` did, to all processes that answer in time.

        Raises:
            Unavailable: the store is away.
        """
        self._number += 1
        number = self._number  # others may ask meanwhile
        asked = self._asked[number] = _Asked()
        try:
            text = msgspec.json.encode(_Question(self._own, number, user))
            await self._collect(asked, await self._store.tell_peers(text))
        finally:
            del self._asked[number]
        asked.answers[self._own] = self._told(user, there)
        return [each for answer in asked.answers.values() for each in answer]

    async def run(self) -> None:
        """Answer for ever. The store's listener mends its own connection."""
        async with self._store.peers(self._own) as said:
            async for text in said:
                message = _read(text)
                if isinstance(message, _Question):
                    await self._answer(message)
                elif message is not None:
                    self._note(message)

    async def _collect(self, asked: _Asked, heard_by: int) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                while len(asked.answers) < heard_by:
                    asked.came.clear()
                    await asked.came.wait()
        except TimeoutError:
            log.info("roll_call_incomplete", answers=len(asked.answers), processes=heard_by)

    async def _answer(self, question: _Question) -> None:
        if question.asker == self._own:
            # Its own offers are told without a way through the store.
            self._note(_Answer(self._own, question.number, []))
            return
        try:
            there = await self._store.present_launchers()
            answer = _Answer(self._own, question.number, self._told(question.user, there))
            await self._store.tell_peers(msgspec.json.encode(answer), only=question.asker)
        except Unavailable as error:
            log.warning("roll_call_not_answered", reason=error.detail)

    def _note(self, answer: _Answer) -> None:
        asked = self._asked.get(answer.number)
        if asked is not None:
            asked.answers[answer.process] = answer.offered
            asked.came.set()

    def _told(self, user: str, there: AbstractSet[str]) -> list[Offered]:
        now_s = asyncio.get_running_loop().time()

        def told(offer: Offer, *, is_parked: bool) -> Offered:
            room = offer.as_of(now_s).request.room
            return Offered(offer.request.launcher, offer.serves(user), is_parked, room, offer.labels, offer.bound)

        all_told = [told(offer, is_parked=True) for offer in self._waiting.offers()]
        all_told += [told(offer, is_parked=False) for offer in self._waiting.largest(there)]
        return sorted(all_told, key=lambda each: (not each.serves, not each.is_parked))[:MAX_TOLD]


def _read(text: str) -> _Question | _Answer | None:
    """Return a message; None when it is of another release, which its asker learns by the time that it waits."""
    try:
        return msgspec.json.decode(text, type=_Question | _Answer)
    except msgspec.DecodeError as error:
        log.warning("roll_call_not_understood", reason=str(error))
        return None
