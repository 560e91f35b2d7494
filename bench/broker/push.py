"""Bulk push: `broker push --from FILE` as a person runs it, against RQ's and beanstalkd's quickest way in."""

import time
from pathlib import Path

from bench.broker.calls import URL_CHARS, url_of, urls_of
from bench.broker.extent import Extent
from bench.broker.ground import beanstalkd, peer, served, valkey
from bench.broker.peers import beanstalk
from bench.figures import Figure, median_of, ratio_of

_LIMIT_S = 300


def measure(folder: Path, extent: Extent) -> list[Figure]:
    """Push in turns. Ours is timed from the command's start to its end, the peers from first call to last answer."""
    lines = folder / "items"
    lines.write_text("".join(f"{url}\n" for urls in urls_of(extent.push_items) for url in urls))
    one = folder / "one"
    one.write_text(f"{url_of(0)}\n")
    ours, rq, beans = [], [], []
    with served(folder / "b") as here, valkey(folder / "v") as socket, beanstalkd(folder / "q") as address:
        # One that does not count, for warm caches.
        here.broker.home.ok("broker", "push", "work", "--from", str(one), timeout_s=_LIMIT_S)
        for _ in range(extent.rounds):
            begun_s = time.perf_counter()
            here.broker.home.ok("broker", "push", "work", "--from", str(lines), timeout_s=_LIMIT_S)
            ours.append(extent.push_items / (time.perf_counter() - begun_s))
            rq.append(extent.rq_push_items / peer("rq_peer", "push", str(socket), str(extent.rq_push_items)))
            begun_s = time.perf_counter()
            beanstalk.push(address, extent.beans)
            beans.append(extent.beans / (time.perf_counter() - begun_s))
    what = f"{extent.push_items} lines of {URL_CHARS} characters, the command's start included"
    return [
        median_of("bulk push, `broker push`", "items/s", ours, reference=what),
        median_of("  RQ `enqueue_many`", "items/s", rq, reference=f"{extent.rq_push_items} items, 500 a call"),
        median_of("  beanstalkd `-f 0`", "items/s", beans, reference=f"{extent.beans} puts, 500 in one go"),
        ratio_of("bulk push / RQ", ours, rq, reference="RQ `enqueue_many`", at_least=3, aim=6),
        ratio_of("bulk push / beanstalkd", ours, beans, reference="beanstalkd `-f 0`", at_least=3, aim=8),
    ]
