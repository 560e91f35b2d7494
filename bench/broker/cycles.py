"""Whole cycles (dispatch, claim, complete) against three handlers that do nothing, and peers' workers on a no-op."""

from pathlib import Path

from bench.broker.calls import MOST, Calls
from bench.broker.drive import Address, drive
from bench.broker.extent import Extent
from bench.broker.ground import beanstalkd, floor, peer, served, valkey
from bench.broker.peers import beanstalk
from bench.broker.talks import Work, guest
from bench.figures import Figure, median_of, ratio_of

GUESTS = 64
_LIMIT_S = 300


def rate(address: Address, calls: Calls, cycles: int) -> float:
    """Return how many cycles a second all guests together get through."""
    work = Work(cycles)
    took_s = drive(address, [guest(calls, f"l{number}", work) for number in range(GUESTS)], limit_s=_LIMIT_S)
    return work.done / took_s


def measure(folder: Path, extent: Extent) -> list[Figure]:
    """Measure in turns."""
    ours, empty, arq, rq, beans = [], [], [], [], []
    with (
        served(folder / "b") as here,
        floor("empty", folder / "b") as nothing,
        valkey(folder / "v") as socket,
        beanstalkd(folder / "q") as address,
    ):
        calls = here.calls()
        for _ in range(extent.rounds):
            here.fill(extent.cycles)
            ours.append(rate(here.address, calls, extent.cycles))
            empty.append(rate(nothing, calls, extent.empty_cycles))
            arq.append(extent.arq_jobs / peer("arq_peer", str(socket), str(extent.arq_jobs)))
            rq.append(extent.rq_jobs / peer("rq_peer", "work", str(socket), str(extent.rq_jobs)))
            beans.append(_beanstalkd(address, extent.beans))
    what = f"{GUESTS} connections, {MOST} items a dispatch"
    return [
        median_of("whole cycles", "1/s", ours, reference=f"dispatch, claim, complete; {what}"),
        median_of("  three empty handlers", "1/s", empty, reference=f"aiohttp, called the same way; {what}"),
        median_of("  arq's worker", "1/s", arq, reference=f"{extent.arq_jobs} no-ops, 64 at once"),
        median_of("  RQ's worker", "1/s", rq, reference=f"{extent.rq_jobs} no-ops, SimpleWorker"),
        median_of("  beanstalkd", "1/s", beans, reference=f"reserve and delete, {GUESTS} connections"),
        ratio_of("cycles / empty handlers", ours, empty, reference="three empty handlers", at_least=0.4, aim=0.7),
        ratio_of("cycles / arq", ours, arq, reference="arq's worker", at_least=2),
        ratio_of("cycles / RQ", ours, rq, reference="RQ's worker", at_least=8),
        ratio_of("cycles / beanstalkd", ours, beans, reference="beanstalkd's reserve and delete"),
    ]


def _beanstalkd(address: Address, jobs: int) -> float:
    beanstalk.push(address, jobs)
    work = Work(jobs)
    workers = [beanstalk.worker(work) for _ in range(GUESTS)]
    return jobs / drive(address, workers, limit_s=_LIMIT_S, framing=beanstalk.read_answer)
