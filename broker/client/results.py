"""Following the results of a stream."""

from collections.abc import AsyncGenerator, AsyncIterator

import msgspec

from broker.client.lasting import SILENCE_S, lasting
from broker.client.researcher import lines_of
from broker.client.session import Session
from broker.wire.files import ResultLine
from broker.wire.names import StreamRef


async def follow_results(session: Session, ref: StreamRef) -> AsyncGenerator[ResultLine, None]:
    """Yield the results of done and held items, first those there are, then each as its item settles, for ever.

    None is missed and none comes twice, whatever connections break; an item that settles again is another result.

    Raises:
        ApiError: the broker refuses.
        Unreachable: it stayed away for two minutes.
    """
    following = _Following(session, ref)
    async for line in lasting(following.connect):
        if following.is_new(line):
            yield line


class _Following:
    """How far a stream's results were told. Going on tells those of the last millisecond again, which are kept here."""

    def __init__(self, session: Session, ref: StreamRef) -> None:
        self._session = session
        self._ref = ref
        self._position: str | None = None
        self._last: dict[str, tuple[str | None, set[str]]] = {}

    async def connect(self) -> AsyncIterator[ResultLine]:
        query = {"follow": "1"} | ({"after": self._position} if self._position else {})
        path = f"/v1/streams/{self._ref}/results"
        async with self._session.open("GET", path, query=query, idle_timeout_s=SILENCE_S) as answer:
            async for line in lines_of(answer):
                yield msgspec.json.decode(line, type=ResultLine)

    def is_new(self, line: ResultLine) -> bool:
        self._position = line.position or self._position
        at, items = self._last.get(line.state, (None, set()))
        if line.settled_at != at:
            items = set()
        if line.item in items:
            return False
        items.add(line.item)
        self._last[line.state] = (line.settled_at, items)
        return True
