"""RQ, as its documentation has it: `rq_peer.py push|work SOCKET COUNT`; prints the seconds that it took.

Runs in the peers' own environment; nothing of this project is imported.
"""

import logging
import sys
import time

from redis import Redis
from rq import Queue, SimpleWorker

_CHUNK = 500
_URL = "https://data.example.org/collections/survey-2026/"
_URL_CHARS = 120


def main() -> None:
    act, socket, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    store = Redis(unix_socket_path=socket)
    store.flushall()
    queue = Queue(connection=store)
    begun_s = time.perf_counter()
    _push(queue, count)
    if act == "work":
        logging.disable(logging.CRITICAL)
        # Runs jobs in its own process: the fastest of RQ's workers.
        worker = SimpleWorker([queue], connection=store)
        begun_s = time.perf_counter()
        worker.work(burst=True)
    took_s = time.perf_counter() - begun_s
    if act == "work":
        assert len(queue.finished_job_registry) == count, len(queue.failed_job_registry)
    print(took_s)


def _push(queue: Queue, count: int) -> None:
    for first in range(0, count, _CHUNK):
        numbers = range(first, min(first + _CHUNK, count))
        queue.enqueue_many(
            [Queue.prepare_data("rq_noop.noop", args=(f"{_URL}{number}".ljust(_URL_CHARS, "x"),)) for number in numbers]
        )
    assert len(queue) == count, len(queue)


if __name__ == "__main__":
    main()
