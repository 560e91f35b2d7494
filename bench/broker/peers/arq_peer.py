"""arq, as its documentation has it: `arq_peer.py SOCKET COUNT`; prints the seconds that its worker took.

Runs in the peers' own environment; nothing of this project is imported.
"""

import asyncio
import logging
import sys
import time

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker

_AT_ONCE = 64
_POLL_S = 0.01
_PUSHED_AT_ONCE = 100


async def noop(ctx: dict[str, object], url: str) -> None:
    """Do nothing."""
    del ctx, url


async def _push(settings: RedisSettings, count: int) -> None:
    pool = await create_pool(settings)
    await pool.flushall()
    for first in range(0, count, _PUSHED_AT_ONCE):
        numbers = range(first, min(first + _PUSHED_AT_ONCE, count))
        await asyncio.gather(*(pool.enqueue_job("noop", f"https://data.example.org/{number}") for number in numbers))
    await pool.aclose()


def main() -> None:
    socket, count = sys.argv[1], int(sys.argv[2])
    settings = RedisSettings(unix_socket_path=socket)
    logging.disable(logging.CRITICAL)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(_push(settings, count))
    worker = Worker(
        [noop],
        redis_settings=settings,
        burst=True,
        # As many as guests of the broker's; it polls at once, where by default it pauses half a second.
        max_jobs=_AT_ONCE,
        poll_delay=_POLL_S,
        handle_signals=False,
    )
    begun_s = time.perf_counter()
    worker.run()
    took_s = time.perf_counter() - begun_s
    assert worker.jobs_complete == count, worker.jobs_complete
    print(took_s)


if __name__ == "__main__":
    main()
