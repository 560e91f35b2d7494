"""A researcher: pushes chunk after chunk, each with its key, cancels some items, and started anew pushes all again."""

import asyncio
import itertools
import signal

from broker.client.errors import ApiError
from broker.client.researcher import Researcher as Client
from broker.client.session import Session
from broker.wire.items import Pushed
from broker.wire.names import ItemRef, StreamRef, UserName
from broker.wire.problems import ProblemCode
from tests.fault import plan
from tests.fault.history import Facts, History
from tests.fault.jobs import ResearcherJob, told


class Researcher:
    def __init__(self, job: ResearcherJob, history: History, session: Session) -> None:
        self._job = job
        self._history = history
        self._client = Client(session)
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Push until SIGTERM; every chunk that was begun is brought to an answer."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stopping.set)
        for chunk in itertools.count():
            if self._stopping.is_set():
                return
            pushed = await self._push(chunk)
            if not pushed.repeated:
                await self._pause()
            await self._cancel(chunk, pushed)

    async def _push(self, chunk: int) -> Pushed:
        stream = StreamRef(UserName(self._job.user), plan.stream_of(chunk))
        key = f"researcher-{self._job.number}-chunk-{chunk}"
        items = plan.items_of(self._job.number, chunk)

        async def push() -> Pushed:
            [pushed] = [answer async for answer in self._client.push(stream, items, key)]
            return pushed

        def kept(pushed: Pushed) -> Facts:
            return {"first": pushed.first, "last": pushed.last, "repeated": int(pushed.repeated)}

        marks = " ".join(item.params[plan.MARK] for item in items)
        return await self._history.call("push", {"key": key, "stream": str(stream), "marks": marks}, push, kept)

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._job.pause_s):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _cancel(self, chunk: int, pushed: Pushed) -> None:
        which = plan.cancels(self._job.place.seed, self._job.number, chunk)
        if which is None:
            return
        ref = ItemRef(StreamRef(UserName(self._job.user), plan.stream_of(chunk)), pushed.first + which)
        try:
            await self._history.call("cancel", {"item": str(ref)}, lambda: self._client.cancel(ref))
        except ApiError as error:
            if error.code is not ProblemCode.SETTLED:
                raise


async def main(job: ResearcherJob) -> None:
    """Run one researcher to its end."""
    async with job.place.session() as session:
        await Researcher(job, job.place.history(), session).run()


if __name__ == "__main__":
    asyncio.run(main(told(ResearcherJob)))
