"""Callbacks to a fast receiver, from the outbox to what is noted, against RQ's worker on a job that does nothing."""

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from bench.broker.calls import Calls, check
from bench.broker.drive import Talk, drive
from bench.broker.extent import Extent
from bench.broker.ground import Served, peer, put, served, valkey
from bench.broker.receiver import Receiver, receiving
from bench.figures import Figure, median_of, ratio_of
from broker.wire.items import CHUNK_ITEMS
from tests.support.waiting import wait_until

_LINES = 32
_LIMIT_S = 300
_STREAM = "/v1/streams/alice/told"
_KEY = {"kind": "webhook_key", "value": "d2hzZWNfTURFeU16UTFOamM0T1RBeE1qTTBOVFkzT0Rrd01USXpORFUyTnpnNU1ERT0="}
"""`whsec_` and 32 bytes in base64, in base64."""


def measure(folder: Path, extent: Extent) -> list[Figure]:
    """Measure in turns."""
    ours, rq = [], []
    with (
        receiving() as receiver,
        valkey(folder / "v") as socket,
        served(folder / "b", VMBROKER_BROKER_OUTGOING_TRUSTED=f"127.0.0.1:{receiver.port}") as here,
    ):
        _name(here, receiver)
        for _ in range(extent.rounds):
            ours.append(_rate(here, receiver, extent.callbacks))
            rq.append(extent.callbacks / peer("rq_peer", "work", str(socket), str(extent.callbacks)))
    what = f"{extent.callbacks} of one stream, signed, over plain HTTP; the outbox, RQ and what is noted"
    return [
        median_of("callbacks", "1/s", ours, reference=what),
        median_of("  RQ's worker", "1/s", rq, reference=f"{extent.callbacks} no-ops, SimpleWorker"),
        ratio_of("callbacks / RQ", ours, rq, reference="RQ's worker on no-ops", at_least=0.6),
    ]


def _name(here: Served, receiver: Receiver) -> None:
    callback = {"url": f"http://127.0.0.1:{receiver.port}/hook", "secrets": ["hook"]}
    put(here.broker, "/v1/secrets/alice/hook", json.dumps(_KEY).encode())
    put(here.broker, _STREAM, json.dumps({"machine": "m", "run": "/bin/true", "callback": callback}).encode())


def _rate(here: Served, receiver: Receiver, count: int) -> float:
    """Settle so many items while the receiver answers nothing; return how many a second it is told from then on.

    What has come to it by then counts for nothing.
    """
    receiver.hold()
    numbers = iter(_pushed(here, count))
    drive(here.address, [_canceller(here.calls(), numbers) for _ in range(_LINES)], limit_s=_LIMIT_S)
    before, begun_s = len(receiver.told), time.perf_counter()
    receiver.let_go()
    wait_until(lambda: len(receiver.told) >= count, f"{count} callbacks are told", timeout_s=_LIMIT_S)
    took_s = receiver.last_s - begun_s
    wait_until(lambda: _waiting(here) == 0, "all of them are noted", timeout_s=_LIMIT_S)
    return (count - before) / took_s


def _pushed(here: Served, count: int) -> Iterator[int]:
    for first in range(0, count, CHUNK_ITEMS):
        size = min(CHUNK_ITEMS, count - first)
        pushed = here.broker.call("POST", f"{_STREAM}/items", [{}] * size, here.broker.token())
        yield from range(pushed["first"], pushed["first"] + size)


def _canceller(calls: Calls, numbers: Iterator[int]) -> Talk:
    for number in numbers:
        check((yield calls.cancel(f"{_STREAM}/items/{number}")))


def _waiting(here: Served) -> int:
    headers = {"Authorization": f"Bearer {here.broker.token()}"}
    request = urllib.request.Request(f"{here.broker.url}/v1/callbacks?limit=1", headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return int(json.load(answer)["counts"]["waiting"])
