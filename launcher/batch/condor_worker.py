"""The process that speaks with HTCondor's daemons for a launcher's command, one call after the other.

The bindings hold Python's global lock while they wait for a daemon, for minutes if it hangs: a thread would stop the
event loop with it. So they are in this process, which whoever asks kills at a deadline, and which dies with it.

On its standard input comes a call a line, as JSON `{"call": NAME, "with": {…}}`, on its standard output goes an answer
a line, `{"value": …}` or `{"fault": KIND, "text": …}`.

Source: HTCondor's manual, "Python bindings, version 2"; "Job Event Log Codes".
"""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

import classad2
import htcondor2

from launcher.batch.condor_process import MAX_EVENTS

READY: Final = "ready\n"
"""The first line that it writes."""
REFUSED: Final = "refused"
AWAY: Final = "away"
_CAN_RUN: Final = "CAN_RUN_VIRTUAL_MACHINE"
_PR_SET_PDEATHSIG: Final = 1
# What the bindings say when no daemon answers, as far as it is told apart at all.
_WORDS_OF_AWAY: Final = (
    "failed to connect", "communication error", "unable to locate", "timed out", "failed to fetch", "no reply",
    "failed to send", "cedar", "failed to authenticate", "unable to connect", "failed to commit",
)  # fmt: skip

Ad = dict[str, Any]


class Calls:
    """The calls, by their names. Every argument and every answer is plain JSON."""

    def __init__(self) -> None:
        self._logs: dict[str, Any] = {}

    def submit(self, description: dict[str, str], count: int) -> list[str]:
        """Bring `count` jobs in; return their ids."""
        told = _schedd().submit(htcondor2.Submit(description), count=count)
        first = int(told.first_proc())
        return [f"{told.cluster()}.{proc}" for proc in range(first, first + int(told.num_procs()))]

    def query(self, constraint: str, attributes: list[str], limit: int) -> list[Ad]:
        """Return this account's jobs that meet the constraint."""
        ads = _schedd().query(constraint, attributes, limit=limit, opts=htcondor2.QueryOpt.DefaultMyJobsOnly)
        return [_plain(ad) for ad in ads]

    def act(self, action: str, ids: list[str], reason: str) -> Ad:
        """Do `Remove`, `RemoveX` or another action of HTCondor's to jobs; ones that are gone are passed over."""
        return _plain(_schedd().act(htcondor2.JobAction[action], ids, reason=reason))

    def slots(self) -> Ad:
        """Count the pool's slots, and those that can run vms; dynamic ones are parts of others and left out."""
        names = [_CAN_RUN, "VMBROKER_REASON"]
        ads = htcondor2.Collector().query(htcondor2.AdType.Startd, 'SlotType =!= "Dynamic"', names)
        reason = next((str(ad["VMBROKER_REASON"]) for ad in ads if ad.get("VMBROKER_REASON")), "")
        return {"total": len(ads), "able": sum(ad.get(_CAN_RUN) is True for ad in ads), "reason": reason}

    def place(self) -> str:
        """Return the name of this machine's access point."""
        ad = htcondor2.Collector().locate(htcondor2.DaemonType.Schedd)
        return str(ad["Name"])

    def events(self, path: str) -> list[Ad]:
        """Return what came to a job event log since it was asked for last, all of it the first time; never waits."""
        if path not in self._logs:
            self._logs[path] = htcondor2.JobEventLog(path)
        return [_event(event) for event in islice(self._logs[path].events(stop_after=0), MAX_EVENTS)]


def _schedd() -> Any:
    return htcondor2.Schedd(htcondor2.Collector().locate(htcondor2.DaemonType.Schedd))


def _event(event: Any) -> Ad:
    return {"id": f"{event.cluster}.{event.proc}", "type": event.type.name, "at_s": event.timestamp, **_plain(event)}


def _plain(ad: Any) -> Ad:
    """Return an ad's attributes whose values are plain; expressions are left out."""
    values: Iterator[tuple[str, Any]] = ((name, ad[name]) for name in ad)
    return {name: value for name, value in values if isinstance(value, str | int | float | bool)}


def main() -> None:
    """Serve calls until the standard input ends."""
    _die_with(int(sys.argv[2]))
    # What the bindings' own libraries print must not get between the answers.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    calls = Calls()
    out.write(READY)
    out.flush()
    for line in sys.stdin:
        asked = json.loads(line)
        out.write(json.dumps(_answer(getattr(calls, asked["call"]), asked["with"])) + "\n")
        out.flush()


def _answer(call: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"value": call(**arguments)}
    except (htcondor2.HTCondorException, classad2.ClassAdException, OSError, ValueError, KeyError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        is_away = any(word in text.lower() for word in _WORDS_OF_AWAY)
        return {"fault": AWAY if is_away else REFUSED, "text": text[:1_000]}


def _die_with(parent_pid: int) -> None:
    """Be killed when the parent dies, be it by SIGKILL. Source: prctl(2)."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        sys.exit(1)
