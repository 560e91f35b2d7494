"""RQ's queue of callbacks: the one place that speaks to the Redis in which RQ keeps its jobs.

It may forget everything, by a crash or because somebody emptied it: the outbox hands out again what was not noted in
time. So nothing is kept there that is worth keeping: a job carries the event's place in the outbox, in JSON.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from rq import Queue
from rq.exceptions import DuplicateJobError
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.utils import current_timestamp
from rq.worker_registration import get_keys

from broker.callbacks.work import MOST_S, NAME
from broker.store.answers import OwedCallback

log = structlog.get_logger(__name__)

QUEUE = "callbacks"
PER_WORKER = 256
"""So many attempts go on at a time in one worker."""
JOB_S = int(MOST_S) + 1
QUEUE_FAILURES: tuple[type[Exception], ...] = (RedisError, OSError)
"""What calls raise when RQ's Redis is away, slow, or none."""
_CALL_S = 5.0
_FAILURE_KEPT_S = 60
"""A job that failed can be looked at for so long with RQ's own tools; an event owed again does not wait for it."""


class PlainJob(Job):
    """A job, and nothing beside it: RQ would import and call what a job names for when it failed or was abandoned.

    Whoever can write to RQ's Redis could name anything.
    """

    @property
    def success_callback(self) -> None:
        return None

    @property
    def failure_callback(self) -> None:
        return None

    @property
    def stopped_callback(self) -> None:
        return None

    def send_webhooks(self, *_: Any, **__: Any) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Room:
    """How many jobs can be taken on: `free` of `most`. Some that a killed worker had count until their time is over."""

    free: int
    most: int


def connect(url: str) -> Redis:
    """Return a client for RQ's Redis; it connects at its first call, and nothing is sent twice."""
    return Redis.from_url(
        url,
        socket_timeout=_CALL_S,
        socket_connect_timeout=_CALL_S,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
    )


def queue_over(connection: Redis) -> Queue:
    return Queue(QUEUE, connection=connection, serializer=JSONSerializer, default_timeout=JOB_S, job_class=PlainJob)


class CallbackQueue:
    """The queue as its relay sees it. Every call blocks, for `_CALL_S` at most; see `QUEUE_FAILURES`."""

    def __init__(self, url: str) -> None:
        self._connection = connect(url)
        self._queue = queue_over(self._connection)

    def close(self) -> None:
        self._connection.close()

    def waiting(self) -> int:
        """Return how many jobs no worker has taken."""
        return int(self._queue.count)

    def room(self) -> Room:
        """Return how many more jobs the workers can take on at once; one is there, or is to come."""
        started = self._connection.zcount(self._queue.started_job_registry.key, current_timestamp(), "+inf")
        most = PER_WORKER * max(1, len(get_keys(queue=self._queue)))
        return Room(max(0, most - self.waiting() - int(started)), most)

    def put(self, owed: Iterable[OwedCallback]) -> None:
        """Have each told by a worker. One that waits already is left where it is."""
        for each in owed:
            try:
                self._enqueue(each)
            except DuplicateJobError:
                self._put_again(each)

    def _enqueue(self, owed: OwedCallback) -> None:
        self._queue.enqueue_call(
            NAME,
            args=(owed.entry,),
            job_id=owed.id,
            unique=True,
            timeout=JOB_S,
            result_ttl=0,
            failure_ttl=_FAILURE_KEPT_S,
            description=owed.id,
        )

    def _put_again(self, owed: OwedCallback) -> None:
        """Replace a job of which the outbox has not heard in time: its worker died with it, or it failed.

        RQ itself gives up such a job at its maintenance, after ten minutes, and the job's name is taken until then.
        """
        if self._queue.get_job_position(owed.id) is not None:
            return
        self._remove(owed.id)
        self._connection.lrem(self._queue.intermediate_queue_key, 0, owed.id)
        with suppress(DuplicateJobError):  # another process was quicker
            self._enqueue(owed)

    def _remove(self, job_id: str) -> None:
        """Remove a job, or what is left of one: its worker may be through with it at this moment.

        What a heartbeat then writes is no job, but has its name.
        """
        try:
            self._queue.job_class.fetch(job_id, connection=self._connection, serializer=JSONSerializer).delete()
        except QUEUE_FAILURES:
            raise
        except Exception as error:  # noqa: BLE001 # RQ says of half a job what its reading happens to meet
            log.info("callbacks_job_unreadable", job=job_id, error=repr(error))
            self._connection.delete(self._queue.job_class.key_for(job_id))
