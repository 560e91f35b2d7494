"""The checker: from what a run left to the faults in it. Pure, so that it can be shown faults that no run has."""

from tests.fault import accounts
from tests.fault.evidence import Evidence, Fault, FaultKind
from tests.fault.replay import replay


def check(evidence: Evidence) -> list[Fault]:
    """Return every fault, none when nothing was lost, doubled or moved wrongly."""
    faults: list[Fault] = []
    replays = [replay(stream.stream, stream.events) for stream in evidence.streams]
    for stream, replayed in zip(evidence.streams, replays, strict=True):
        faults += replayed.faults
        faults += accounts.counter_faults(stream, replayed, evidence.retry)
        faults += accounts.end_faults(stream)
    faults += accounts.push_faults(evidence)
    faults += accounts.result_faults(evidence)
    faults += accounts.failure_faults(evidence, replays)
    faults += accounts.cancel_faults(evidence)
    faults += accounts.lease_faults(evidence)
    faults += accounts.expiry_faults(evidence, replays)
    faults += [Fault(FaultKind.KEYS_LEFT, "the store", sentence) for sentence in evidence.keys]
    return faults
