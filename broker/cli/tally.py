"""What a push came to, so far and in the end."""

from dataclasses import dataclass, field

from broker.wire.items import Pushed
from broker.wire.names import OwnedName

TOLD = 20
"""Bad lines that are told one by one when they are skipped."""


@dataclass(slots=True)
class Tally:
    """What was accepted so far."""

    stream: OwnedName
    accepted: int = 0
    before: int = 0
    duplicates: int = 0
    first: int = 0
    last: int = 0
    durability: str = "fsync"
    bad: list[str] = field(default_factory=list)
    bad_count: int = 0

    def add(self, pushed: Pushed) -> None:
        self.accepted += pushed.accepted
        self.before += pushed.accepted if pushed.repeated else pushed.before
        self.duplicates += pushed.duplicates
        self.durability = pushed.durability
        if pushed.accepted:
            self.first, self.last = self.first or pushed.first, pushed.last

    def add_bad(self, sentence: str) -> None:
        self.bad_count += 1
        if len(self.bad) < TOLD:
            self.bad.append(sentence)

    @property
    def range(self) -> str:
        one = f"{self.stream}/{self.first}"
        return one if self.accepted == 1 else f"{one} to {self.stream}/{self.last}"


def half_way(tally: Tally, total: int | None, key: str) -> str:
    """Say what was accepted for certain; the chunk on its way may have been too, which the key takes care of."""
    if not tally.accepted:
        return f"it is not known whether items were pushed; push again with --key {key}, which adds none twice"
    of = counted(tally.accepted) if total is None else f"{tally.accepted} of {total} items"
    were = "was" if total is None and tally.accepted == 1 else "were"
    return f"{of} {were} pushed ({tally.range}); push again with --key {key} to go on"


def sentence_of(tally: Tally, *, is_asked_again: bool) -> str:
    """Say what was pushed; that some was there already is of interest to whoever chose the key."""
    there = f"; {counted(tally.duplicates)} left out, whose names are there" if tally.duplicates else ""
    if not tally.accepted:
        return f"nothing was added{there}"
    disk = "" if tally.durability == "fsync" else f" (durability: {tally.durability})"
    items = counted(tally.accepted)
    if not is_asked_again or not tally.before:
        return f"{items} pushed: {tally.range}{disk}{there}"
    if tally.before == tally.accepted:
        return f"nothing was added, this key has pushed before: {tally.range}{disk}{there}"
    new = tally.accepted - tally.before
    return f"{new} of {items} pushed, the others were before: {tally.range}{disk}{there}"


def counted(count: int, what: str = "item") -> str:
    """Return a number of things in words."""
    return f"1 {what}" if count == 1 else f"{count} {what}s"
