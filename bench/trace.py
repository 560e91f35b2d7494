"""What `traced_launcher` wrote, vm by vm: the launcher's own part of a vm's life."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

What = Literal["taken", "create", "created", "destroy", "destroyed", "stopped", "end", "ended"]


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a trace.

    `cpu_s` and `written_bytes` are the launcher's so far, its ended children's among them; `run_folder_bytes`, told
    with `create`, is what the vm's run folder takes on disk.
    """

    what: What
    dispatch: str
    at_ns: int
    cpu_s: float
    written_bytes: int
    run_folder_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Life:
    """One vm's moments; each kept once, the first."""

    moments: dict[What, Moment]

    @property
    def is_over(self) -> bool:
        return "ended" in self.moments

    @property
    def taken_ns(self) -> int:
        return self.moments["taken"].at_ns

    def before_ms(self) -> float:
        """Wall time from the dispatch's answer to the call of createXML."""
        return self._between_ms("taken", "create")

    def create_ms(self) -> float:
        return self._between_ms("create", "created")

    def after_ms(self) -> float:
        """Wall time from QEMU's end, as the launcher saw it, to the report of the verdict, destroying apart."""
        destroying_ms = self._between_ms("destroy", "destroyed") if "destroyed" in self.moments else 0.0
        return self._between_ms("stopped", "end") - destroying_ms

    def cpu_ms(self) -> float:
        """CPU time of the launcher and its children from the dispatch's answer to the verdict's acceptance.

        Right only while this vm is the launcher's only one.
        """
        return (self.moments["ended"].cpu_s - self.moments["taken"].cpu_s) * 1000

    def written_bytes(self) -> int:
        """What was written to disk for the vm before it was created, by whichever of two counts is larger.

        Right only while this vm is the launcher's only one.
        """
        before = self.moments["create"]
        return max(before.run_folder_bytes, before.written_bytes - self.moments["taken"].written_bytes)

    def _between_ms(self, first: What, last: What) -> float:
        return (self.moments[last].at_ns - self.moments[first].at_ns) / 1e6


def read_lives(path: Path) -> dict[str, Life]:
    """Return the vms of a trace by their dispatches; a line that is still being written is left for the next time."""
    lives: dict[str, dict[What, Moment]] = defaultdict(dict)
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    for line in whole.splitlines():
        moment = msgspec.json.decode(line, type=Moment)
        lives[moment.dispatch].setdefault(moment.what, moment)
    return {dispatch: Life(moments) for dispatch, moments in lives.items()}
