"""RQ's worker, of which many attempts go on at a time: a server that hangs holds up one of them.

RQ's own workers do one job after the other, and run a coroutine in an event loop of its own. This one does RQ's part of
a job in the main thread, as RQ's worker does, and tells the server in one event loop beside it, which is kept, and
with it the connections to the store and to the servers. RQ's bookkeeping of what ended is done in a third thread.

What RQ does by an alarm in the main thread, to end a job that takes too long, the attempt does by bounds of its own.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any, Final

import structlog
from rq import Queue, SimpleWorker
from rq.executions import Execution
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.utils import now
from rq.worker_registration import register

from broker.callbacks.queue import JOB_S, PER_WORKER, QUEUE_FAILURES, PlainJob, connect, queue_over
from broker.callbacks.work import NAME

Deliver = Callable[[str], Awaitable[None]]
_TTL_S: Final = 35
"""RQ forgets a worker that was silent for a minute more, and waits for a job 15 s less."""
_BEAT_S: Final = 10.0
_DRAIN_S: Final = 5.0
"""What is being told at the stop has so long to end; what has not is told again by another worker."""

log = structlog.get_logger(__name__)


class CallbackWorker(SimpleWorker):
    """Works until it is told to stop, or loses its Redis; then make another one.

    Args:
        url: RQ's Redis.
        deliver: Tells of the event at a place in the outbox; runs in `loop`.
        loop: Runs in another thread, longer than this.
        told_to_stop: Is set when a signal told this process to stop.
    """

    max_connection_wait_time = 2.0

    def __init__(
        self, url: str, deliver: Deliver, loop: asyncio.AbstractEventLoop, told_to_stop: threading.Event
    ) -> None:
        self._deliver = deliver
        self._loop = loop
        self._told_to_stop = told_to_stop
        self._slots = threading.Semaphore(PER_WORKER)
        self._going_on: set[Future[None]] = set()
        self._books = ThreadPoolExecutor(1, "callback-books")
        self._beaten_at = 0.0
        super().__init__(
            [queue_over(connect(url))],
            serializer=JSONSerializer,
            job_class=PlainJob,
            log_job_description=False,
            worker_ttl=_TTL_S,
        )

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Begin a job, and come back; its slot was taken before it was."""
        execution = self.prepare_execution(job)
        self.prepare_job_execution(job, remove_from_intermediate_queue=True)
        job.started_at = now()
        attempt = asyncio.run_coroutine_threadsafe(self._run(job), self._loop)
        self._going_on.add(attempt)
        attempt.add_done_callback(lambda _: self._books.submit(self._note, job, queue, execution, attempt))

    async def _run(self, job: Job) -> None:
        # Whoever can write to RQ's Redis may name any function there is: only one is ever called.
        if job.func_name != NAME:
            raise ValueError(f"{job.func_name} is nothing that a worker of callbacks does")
        [entry] = job.args
        await self._deliver(str(entry))

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """Take a job, once there is a slot for it: until then another worker may."""
        self._slots.acquire()
        taken = None
        try:
            taken = super().dequeue_job_and_maintain_ttl(timeout, max_idle_time)
        finally:
            if taken is None:
                self._slots.release()
        return taken

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:  # noqa: ARG002 # as the base class has it
        """Return for how long a job counts as being done, in seconds: RQ's minute more would keep its slot as long."""
        return JOB_S

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """Show that this worker is there, now and then: RQ's own does four times a job, which were half of the time."""
        clock = self._loop.time()
        if clock - self._beaten_at < _BEAT_S:
            return
        self._beaten_at = clock
        super().heartbeat(timeout, pipeline)
        # A Redis that forgot everything has forgotten who works.
        register(self)

    def subscribe(self) -> None:
        """Take no orders by RQ's channel: whoever can write to its Redis could stop every worker."""

    def unsubscribe(self) -> None:
        pass

    def handle_warm_shutdown_request(self) -> None:
        self._told_to_stop.set()

    def drain(self) -> None:
        """Wait for what is going on, `_DRAIN_S` at most, and cut short the rest."""
        ends_s = self._loop.time() + _DRAIN_S
        while self._going_on and self._loop.time() < ends_s:
            threading.Event().wait(0.02)
        for attempt in tuple(self._going_on):
            attempt.cancel()
        self._books.shutdown(wait=True)
        self.connection.close()

    def _note(self, job: Job, queue: Queue, execution: Execution, attempt: "Future[None]") -> None:
        """Do RQ's bookkeeping of a job that ended. Where that fails nothing is lost: the outbox knows."""
        try:
            job.ended_at = now()
            fault = _fault_of(attempt)
            if not fault:
                self.handle_job_success(job, queue, queue.started_job_registry, execution)
            else:
                log.warning("callback_attempt_failed", callback=job.id, reason=fault)
                self.handle_job_failure(job, queue, queue.started_job_registry, fault, execution)
        except QUEUE_FAILURES as error:
            log.info("callback_job_not_noted", callback=job.id, reason=str(error))
        except Exception:
            # Nobody reads what this thread raises.
            log.exception("callback_job_not_noted", callback=job.id)
        finally:
            self._going_on.discard(attempt)
            self._slots.release()


def _fault_of(attempt: "Future[None]") -> str:
    try:
        error = attempt.exception()
    except CancelledError:
        return "the worker was stopped"
    return "" if error is None else f"{type(error).__name__}: {error}"
