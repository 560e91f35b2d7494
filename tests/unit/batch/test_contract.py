"""The fake batch system keeps the contract that the real ones are held to."""

import asyncio
from dataclasses import dataclass, field

from launcher.batch.job import JobState, Request
from tests.support.batch_contract import check_contract
from tests.unit.batch.fakes import FakeSystem
from tests.unit.batch.orders import order


@dataclass
class InMemory:
    """Drives the fake; a job that was told of as queued has started when it is asked for again."""

    system: FakeSystem = field(default_factory=FakeSystem)
    _count: int = 0

    def submit(self, slots: int) -> list[str]:
        self._count += 1
        asked = Request(order=order(), tag=f"vmb-0000000{self._count}", slots=slots, key=str(self._count))
        return asyncio.run(self.system.submit(asked))

    def states(self) -> dict[str, str]:
        told = {job.id: job.state.value for job in asyncio.run(self.system.jobs())}
        self.system.start(job.id for job in self.system.of(JobState.QUEUED))
        return told

    def submissions(self) -> dict[str, str]:
        return {job.id: job.tag for job in asyncio.run(self.system.jobs())}

    def remove(self, ids: list[str]) -> None:
        chosen = [job for job in asyncio.run(self.system.jobs()) if job.id in ids]
        asyncio.run(self.system.remove(chosen))


def test_the_fake_does_what_the_real_ones_do() -> None:
    check_contract(InMemory())
