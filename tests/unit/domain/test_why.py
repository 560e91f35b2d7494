import msgspec

from broker.cli.said import verdict_of
from broker.domain.why import sentence_of
from broker.wire.items import ItemView, Reason, VmView
from broker.wire.states import ItemState

VM = VmView(dispatch="d", fence=1, launcher="local/l1", node="n1", facts={"refused": "10.0.0.1:22, no.example:443"})
HELD = ItemView(
    item="alice/render/1",
    state=ItemState.HELD,
    revision=1,
    pushed_at="2026-01-01T00:00:00Z",
    attempts=1,
    boots=1,
    reason=Reason(code="program_failed", sentence="the program exited with status 7"),
    vm=VM,
)


def test_why_names_what_the_vms_network_refused() -> None:
    assert sentence_of(HELD) == (
        "alice/render/1 is held (attempts: 1, boots: 1): the program exited with status 7; "
        "the vm's network refused 10.0.0.1:22, no.example:443"
    )


def test_why_says_nothing_of_a_network_that_refused_nothing_or_of_an_item_that_is_done() -> None:
    quiet = msgspec.structs.replace(HELD, vm=msgspec.structs.replace(VM, facts={}))
    assert sentence_of(quiet).endswith("status 7")
    done = msgspec.structs.replace(HELD, state=ItemState.DONE, reason=None)
    assert sentence_of(done) == "alice/render/1 is done"


def test_why_says_who_cancelled_an_item() -> None:
    cancelled = msgspec.structs.replace(
        HELD, state=ItemState.CANCELLED, reason=Reason(code="cancelled", sentence="bob cancelled it"), vm=None
    )
    assert sentence_of(cancelled) == "alice/render/1 is cancelled: bob cancelled it"


def test_what_the_network_refused_is_named_for_failures_alone() -> None:
    cancelled = msgspec.structs.replace(
        HELD, state=ItemState.CANCELLED, reason=Reason(code="cancelled", sentence="alice cancelled it")
    )
    assert sentence_of(cancelled) == "alice/render/1 is cancelled: alice cancelled it"
    drained = msgspec.structs.replace(
        HELD, state=ItemState.READY, reason=Reason(code="drained", sentence="the launcher was told to stop")
    )
    assert "refused" not in sentence_of(drained)


def test_an_item_that_ended_without_a_vm_waits_for_none() -> None:
    ended = msgspec.structs.replace(HELD, state=ItemState.CANCELLED, vm=None)
    assert verdict_of(ended) == "it had no vm"
    assert verdict_of(msgspec.structs.replace(ended, state=ItemState.READY)) == "it had no vm yet"
