"""A push that adds nothing: what would become of its items, computed by what would do it."""

from collections.abc import Sequence

from broker.domain import targets
from broker.domain.access import access_of
from broker.domain.faults import Fault
from broker.domain.specs import inputs_of
from broker.wire.items import DryItem, DryRun, NewItem
from broker.wire.names import DispatchId, ItemRef, StreamRef
from broker.wire.streams import StreamSpec

_SHOWN = 10
_NAME = "out.txt"
_INPUT = "https://host.example/in.txt"
_RUN = DispatchId("0" * 36)


class Rehearsal:
    """Counts what is good, and shows the first of it; numbers are those that a new stream would give."""

    def __init__(self, stream: StreamRef, spec: StreamSpec) -> None:
        self.items = 0
        self._stream = stream
        self._spec = spec
        self._shown: list[DryItem] = []

    @classmethod
    def of_spec(cls, stream: StreamRef, spec: StreamSpec) -> DryRun:
        """Return what would become of one item, with an input only where its targets are made from that."""
        rehearsal = cls(stream, spec)
        rehearsal.add([NewItem(url=_INPUT if targets.needs_input(spec.output.to) else None)])
        return rehearsal.answer(())

    def add(self, items: Sequence[NewItem]) -> None:
        """Take checked items in."""
        for number, item in enumerate(items[: _SHOWN - len(self._shown)], self.items + 1):
            self._shown.append(self._dry(number, item))
        self.items += len(items)

    def answer(self, refused: Sequence[Fault]) -> DryRun:
        return DryRun(
            stream=str(self._stream),
            items=self.items,
            first=self._shown,
            refused=tuple({"line": each.at, "reason": each.reason, "remedy": each.remedy} for each in refused),
        )

    def _dry(self, number: int, item: NewItem) -> DryItem:
        of = targets.TargetOf(ItemRef(self._stream, number), 1, _RUN, _NAME, item.url)
        target = targets.target_url(self._spec.output.to, of)
        inputs = inputs_of(self._spec, item.inputs)
        urls = [*([item.url] if item.url else []), *inputs.values(), target]
        headers = {url: sent for url in dict.fromkeys(urls) if (sent := self._sent_to(url))}
        return DryItem(number=number, input=item.url, inputs=inputs, target=target, headers=headers)

    def _sent_to(self, url: str) -> dict[str, str]:
        found = access_of(self._spec.access, url)
        if found is None:
            return {}
        return {**found.headers, **{name: f"secret {secret}" for name, secret in found.secret_headers.items()}}
