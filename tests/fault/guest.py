"""A guest without a vm: claims with its ticket, keeps the lease, and says how it went as its behaviour has it."""

import asyncio
import hashlib
import secrets
import sys

from broker.client.errors import CallError
from broker.client.lease import LeaseClient
from broker.wire.items import OutputFile
from broker.wire.leases import ClaimAnswer, ClaimRequest, CompleteRequest, FailRequest
from broker.wire.states import EXIT_GIVE_BACK, FailureCode, Instruction
from tests.fault import plan
from tests.fault.history import Facts, History
from tests.fault.jobs import EXIT_FAILED, EXIT_GAVE_BACK, EXIT_LOST, GuestJob, told

_OUTPUT = "out"


class Guest:
    def __init__(self, job: GuestJob, history: History, client: LeaseClient) -> None:
        self._job = job
        self._history = history
        self._client = client
        self._facts: Facts = {"item": job.item, "fence": job.fence, "dispatch": job.dispatch}
        self._lease = ""
        self._target = ""

    async def run(self) -> int:
        """Return the exit status; a refusal ends it at once, as it would a real one."""
        seed, item, fence = self._job.place.seed, self._job.item, self._job.fence
        behaviour = plan.behaviour(seed, item, fence)
        if behaviour is plan.Behaviour.NEVER_CLAIM:
            return 0
        await self._claim()
        for _ in range(plan.heartbeats(seed, item, fence)):
            await asyncio.sleep(plan.HEARTBEAT_S)
            if not await self._extend():
                return EXIT_LOST
        return await self._end(behaviour)

    async def _end(self, behaviour: plan.Behaviour) -> int:
        match behaviour:
            case plan.Behaviour.CRASH:
                return EXIT_FAILED
            case plan.Behaviour.FAIL:
                await self._fail(1)
                return EXIT_FAILED
            case plan.Behaviour.GIVE_BACK:
                await self._fail(EXIT_GIVE_BACK)
                return EXIT_GAVE_BACK
            case plan.Behaviour.HANG:
                await asyncio.sleep(plan.STOPPED_S)
        await self._complete("a")
        if behaviour is plan.Behaviour.TWICE:
            await self._complete("b")
        return 0

    async def _claim(self) -> None:
        request = ClaimRequest(ticket=self._job.ticket, claim_key=secrets.token_urlsafe(32))

        def kept(answer: ClaimAnswer) -> Facts:
            return {"item": answer.item, "fence": answer.fence}

        claimed = await self._history.call("claim", self._facts, lambda: self._client.claim(request), kept)
        self._lease = claimed.lease
        # A real one asks before it uploads; what hangs here hangs after that.
        signed = await self._history.call("urls", self._facts, lambda: self._client.urls(self._lease, [_OUTPUT]))
        self._target = signed.outputs[_OUTPUT].target

    async def _extend(self) -> bool:
        extended = await self._history.call(
            "extend",
            self._facts,
            lambda: self._client.extend(self._lease),
            lambda answer: {"instruction": answer.instruction.value},
        )
        return extended.instruction in {Instruction.CONTINUE, Instruction.DRAIN}

    async def _complete(self, content: str) -> None:
        digest = f"sha256:{hashlib.sha256(f'{self._job.place.who}/{content}'.encode()).hexdigest()}"
        output = OutputFile(name=_OUTPUT, size_bytes=1, digest=digest, url=self._target)
        request = CompleteRequest(outputs=[output])
        sent = self._facts | {"digest": digest}
        await self._history.call("complete", sent, lambda: self._client.complete(self._lease, request))

    async def _fail(self, exit_code: int) -> None:
        request = FailRequest(code=FailureCode.PROGRAM_FAILED, sentence=f"exit {exit_code}", exit_code=exit_code)
        sent = self._facts | {"exit_code": exit_code}
        await self._history.call(
            "fail", sent, lambda: self._client.fail(self._lease, request), lambda answer: {"state": answer.state}
        )


async def main(job: GuestJob) -> int:
    """Run one guest to its end."""
    try:
        async with job.place.session() as session:
            return await Guest(job, job.place.history(), LeaseClient(session)).run()
    except CallError:
        return EXIT_LOST


if __name__ == "__main__":
    sys.exit(asyncio.run(main(told(GuestJob))))
