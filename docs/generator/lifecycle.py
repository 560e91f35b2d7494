"""The blocks of the page on the life of an item, from the tables that decide it."""

from broker.domain import deadlines
from broker.domain.lifecycle import ACTS, VERDICTS, Act, Counter, Moves
from broker.wire.states import SETTLED, Accelerator, ItemState, Verdict
from broker.wire.streams import Limits, Retry
from docs.generator.layout import code, codes, duration, table

_STATES = {
    ItemState.READY: "waits for a launcher with room",
    ItemState.DISPATCHED: "a launcher has it and prepares or boots its vm",
    ItemState.RUNNING: "the guest of that vm claimed it and holds a lease",
    ItemState.DELAYED: "is tried again, after a pause",
    ItemState.DONE: "its result was accepted",
    ItemState.HELD: "is tried no more; its reason says why",
    ItemState.CANCELLED: "was stopped for good by somebody; a vm that had it is destroyed",
}
_COUNTED = {Counter.ATTEMPTS: "an attempt", Counter.BOOTS: "a boot", None: ""}
_VERDICTS = {
    Verdict.COMPLETED: "the guest's result was accepted",
    Verdict.ITEM_FAILED: "the guest said that its attempt failed",
    Verdict.RUN_TIMEOUT: "it ran longer than it may",
    Verdict.DISK_EXCEEDED: "it wrote more than it may",
    Verdict.VM_CRASHED: "the guest's kernel panicked, or QEMU ended abnormally",
    Verdict.STOPPED_EARLY: "the vm powered itself off, or suspended, without an accepted result",
    Verdict.GUEST_LOST: "the vm runs, its client is silent",
    Verdict.NEVER_CLAIMED: "no client claimed the item within the boot deadline",
    Verdict.IMAGE_ERROR: "a disk's bytes are not those of its digest, or are no image that a node takes",
    Verdict.XML_REFUSED: "the node's policy or its libvirt does not take the machine",
    Verdict.HOST_ERROR: "the node could not do it: an image not to be had, a full disk, a libvirt that failed",
    Verdict.NETWORK_CUT: "the node cut the vm's network",
    Verdict.DRAINED: "the launcher was told to stop",
    Verdict.CANCELLED: "the broker told the launcher to end the vm",
    Verdict.SUPERSEDED: "the item was settled or given to somebody else",
}


def states() -> str:
    """Return the table of the states that an act leads to."""
    reached = {target for moves in ACTS.values() for targets in moves.transitions.values() for target in targets}
    rows = ((code(state), _STATES[state], "yes" if state in SETTLED else "") for state in _STATES if state in reached)
    assert reached <= _STATES.keys(), "say what each state means"
    return table(("state", "the item", "settled"), rows)


def diagram() -> str:
    """Return the acts as a Mermaid state diagram."""
    edges: dict[tuple[ItemState | None, ItemState], list[str]] = {}
    for act, moves in ACTS.items():
        for source, targets in moves.transitions.items():
            for target in sorted(targets, key=list(ItemState).index):
                edges.setdefault((source, target), []).append(_words(act))
    lines = [f"    {source or '[*]'} --> {target}: {', '.join(acts)}" for (source, target), acts in edges.items()]
    ends = [f"    {state} --> [*]" for state in _STATES if state in SETTLED]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, *ends, "```"])


def acts() -> str:
    """Return the table of acts."""
    rows = ((_words(act), moves.by, _transitions(moves), _COUNTED[moves.counts]) for act, moves in ACTS.items())
    return table(("act", "by", "from → to", "counts"), rows)


def verdicts() -> str:
    """Return the table of what each verdict does to an item that is still its vm's."""
    rows = (
        (code(verdict), _VERDICTS[verdict], acts.fault, _effect(acts.while_dispatched), _effect(acts.while_running))
        for verdict, acts in VERDICTS.items()
    )
    return table(("verdict", "what was seen", "fault", "while dispatched", "while running"), rows)


def deadline_table() -> str:
    """Return the table of how long each party may be silent, and how long each part may take."""
    default = deadlines.DEFAULT
    rows = (
        ("heartbeat", default.heartbeat_ms, "guest and launcher extend so often", "`heartbeat_s` of the broker"),
        ("lease", default.lease_ms, "a guest may be silent so long", "`lease_s` of the broker"),
        (
            "launcher's grace",
            default.launcher_grace_ms,
            "a launcher may be silent so long",
            "`launcher_grace_s` of the broker",
        ),
        ("first deadline", deadlines.FIRST_DEADLINE_MS, "from the dispatch to `preparing`", ""),
        ("preparation", deadlines.PREPARE_MS, "from `preparing` to `booting`: an image may have to come first", ""),
        (
            "boot with KVM",
            deadlines.BOOT_MS[Accelerator.KVM],
            "from `booting` to the claim",
            "`--boot-limit` of the stream",
        ),
        (
            "boot without",
            deadlines.BOOT_MS[Accelerator.TCG],
            "from `booting` to the claim",
            "`--boot-limit` of the stream",
        ),
        ("run limit", Limits().run_ms, "from the claim to the result", "`--run-limit` of the stream"),
        ("absence", deadlines.AWAY_MS, "a clock that ticks so late, or a time that jumped so far, was away", ""),
    )
    shown = ((name, duration(length_ms), meaning, setting) for name, length_ms, meaning, setting in rows)
    return table(("deadline", "default", "meaning", "set by"), shown)


def retries() -> str:
    """Return the table of the bounds on trying again."""
    retry = Retry()
    rows = (
        ("attempts", str(retry.attempts), "failed attempts until the item is held"),
        ("boots", str(retry.boots), "dispatches until the item is held"),
        ("first pause", duration(retry.backoff_first_ms), "after the first failure; doubled after each further one"),
        ("longest pause", duration(retry.backoff_max_ms), "the doubling ends here"),
    )
    return table(("bound", "default", "meaning"), rows)


def _words(act: Act) -> str:
    return act.value.replace("_", " ")


def _effect(act: Act | None) -> str:
    return "recorded" if act is None else _words(act)


def _transitions(moves: Moves) -> str:
    """Return what an act does, sources with the same targets together."""
    if all(targets == {source} for source, targets in moves.transitions.items()):
        return f"stays in {codes(source for source in moves.transitions if source)}"
    sources: dict[tuple[ItemState, ...], list[ItemState]] = {}
    for source, targets in moves.transitions.items():
        known = sources.setdefault(tuple(sorted(targets, key=list(_STATES).index)), [])
        if source is not None:
            known.append(source)
    return "; ".join(f"{codes(known)} → {codes(targets)}".strip() for targets, known in sources.items())
