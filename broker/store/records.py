"""From the store's hashes to the wire's views and back."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from broker.domain.retry import Counters
from broker.store.answers import GivenItem
from broker.wire.items import ItemView, NewItem, OutputFile, Reason, VmView
from broker.wire.names import DispatchId, ItemRef, StreamRef, parse_item
from broker.wire.states import Accelerator, ItemState, Phase, Priority, Verdict
from broker.wire.streams import BulkAct, BulkView, RevisionView, StreamSpec, StreamView

MAX_FACTS = 32
MAX_FACT_NAME_CHARS = 64
MAX_FACT_CHARS = 256
MAX_SENTENCE_CHARS = 1_000

Hash = Mapping[str, str]


def rfc3339(at_ms: int) -> str:
    """Return a store time as the wire writes it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def bounded_sentence(text: str) -> str:
    """Return the sentence, cut to what an item keeps."""
    return text if len(text) <= MAX_SENTENCE_CHARS else text[: MAX_SENTENCE_CHARS - 1] + "…"


def bounded_facts(facts: Mapping[str, str]) -> tuple[str, ...]:
    """Return facts as names and values in turn, as many and as long as a vm's record takes of one message."""
    flat: list[str] = []
    for name, value in list(facts.items())[:MAX_FACTS]:
        flat += [name[:MAX_FACT_NAME_CHARS], value[:MAX_FACT_CHARS]]
    return tuple(flat)


def encode_items(items: Sequence[NewItem]) -> tuple[int, tuple[str, ...]]:
    """Return items as push.lua is passed them: how many values each has, and the values of one after another."""
    if all(map(_is_url_alone, items)):
        return 1, tuple([item.url or "" for item in items])
    width = 5 if any(item.inputs for item in items) else 4
    return width, tuple([value for item in items for value in _encode_item(item)[:width]])


def _is_url_alone(item: NewItem) -> bool:
    is_ordinary = not item.delay_ms and item.priority is Priority.NORMAL
    return is_ordinary and item.name is None and not item.params and not item.inputs


def _encode_item(item: NewItem) -> tuple[str, str, str, str, str]:
    """Return url, name, parameters, order and further inputs; '' is none."""
    params = encode_json(item.params) if item.params else ""
    inputs = encode_json(item.inputs) if item.inputs else ""
    is_plain = item.priority is Priority.NORMAL and not item.delay_ms
    return item.url or "", item.name or "", params, "" if is_plain else _order(item), inputs


def _order(item: NewItem) -> str:
    priority = "" if item.priority is Priority.NORMAL else item.priority.value
    return f"{priority}:{item.delay_ms or ''}"


def encode_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def encode_spec(spec: StreamSpec) -> str:
    """Return the one text of a spec, whether its defaults were written out or not: revisions are told apart by it."""
    return msgspec.json.encode(_without_defaults(spec), order="sorted").decode()


def _without_defaults(value: msgspec.Struct) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for field in msgspec.structs.fields(value):
        own = getattr(value, field.name)
        has_factory = field.default_factory is not msgspec.NODEFAULT
        if own != (field.default_factory() if has_factory else field.default):
            said[field.encode_name] = _without_defaults(own) if isinstance(own, msgspec.Struct) else own
    return said


def item_ref(text: str) -> ItemRef:
    """Read an item's name as the store keeps it."""
    return parse_item(text, own=None)


def item_view(ref: ItemRef, item: Hash, vm: VmView | None) -> ItemView:
    return ItemView(
        item=str(ref),
        state=ItemState(item["state"]),
        revision=int(item["revision"]),
        pushed_at=rfc3339(int(item["pushed_ms"])),
        url=item.get("url"),
        name=item.get("name"),
        params=_texts(item.get("params")),
        inputs=_texts(item.get("inputs")),
        priority=Priority(item.get("priority", "normal")),
        attempts=_int(item, "attempts"),
        boots=_int(item, "boots"),
        reason=Reason(code=item["code"], sentence=item["sentence"]) if "code" in item else None,
        not_before=_time(item, "not_before_ms"),
        exit_code=int(item["exit_code"]) if "exit_code" in item else None,
        outputs=msgspec.json.decode(item.get("outputs", "[]"), type=list[OutputFile]),
        settled_at=_time(item, "settled_ms"),
        vm=vm,
    )


def given_item(ref: ItemRef, revision: int, url: str, params: str, inputs: str) -> GivenItem:
    """Return what a vm works with, as the scripts answer it: '' is none."""
    return GivenItem(ref, revision, url or None, _texts(params), _texts(inputs))


def kept_item(ref: ItemRef, item: Hash) -> GivenItem:
    """Return what a vm works with of an item as it is kept."""
    return given_item(ref, int(item["revision"]), *(item.get(name, "") for name in ("url", "params", "inputs")))


def _texts(kept: str | None) -> dict[str, str]:
    return msgspec.json.decode(kept, type=dict[str, str]) if kept else {}


def vm_view(dispatch: DispatchId, vm: Hash) -> VmView:
    return VmView(
        dispatch=dispatch,
        fence=int(vm["fence"]),
        launcher=vm["launcher"],
        node=vm["node"],
        accelerator=Accelerator(vm["accelerator"]),
        vcpus=int(vm["vcpus"]),
        memory_mib=int(vm["memory_mib"]),
        phases={phase: rfc3339(int(vm[f"phase:{phase}"])) for phase in Phase if f"phase:{phase}" in vm},
        facts={name.removeprefix("fact:"): value for name, value in vm.items() if name.startswith("fact:") and value},
        verdict=Verdict(vm["verdict"]) if "verdict" in vm else None,
        sentence=vm.get("sentence", ""),
        has_console=vm.get("has_console") == "1",
    )


def stream_view(ref: StreamRef, stream: Hash, spec: StreamSpec, bulk: Hash) -> StreamView:
    return StreamView(
        stream=str(ref),
        revision=int(stream["revision"]),
        spec=spec,
        counts={state.value: _int(stream, state) for state in ItemState},
        created_at=rfc3339(int(stream["created_ms"])),
        forgotten=_int(stream, "forgotten"),
        paused=_reason(stream, "paused"),
        paused_at=_time(stream, "paused_ms"),
        callback_off=_reason(stream, "callback_off"),
        callback_off_at=_time(stream, "callback_off_ms"),
        bulk=bulk_view(bulk) if bulk else None,
        last_event=f"{stream['epoch']}-{stream['seq']}",
    )


def bulk_view(bulk: Hash) -> BulkView:
    first, upto, ended = int(bulk["first"]), int(bulk["upto"]), "over_ms" in bulk
    return BulkView(
        act=BulkAct(bulk["act"]),
        states=tuple(ItemState(state) for state in bulk["states"].strip(",").split(",")),
        by=bulk["by"],
        started_at=rfc3339(int(bulk["started_ms"])),
        of=upto - first + 1,
        looked_at=min(int(bulk["next"]), upto + 1) - first,
        acted=int(bulk["acted"]),
        ended_at=rfc3339(int(bulk["over_ms"])) if ended else None,
    )


def _reason(stream: Hash, name: str) -> Reason | None:
    return Reason(code=stream[name], sentence=stream[f"{name}_sentence"]) if name in stream else None


def revision_view(revision: int, put_ms: str | None, spec: StreamSpec) -> RevisionView:
    return RevisionView(
        revision=revision,
        put_at=rfc3339(int(put_ms)) if put_ms is not None else None,
        machine=spec.machine,
        run=spec.run,
        has_script=bool(spec.script),
    )


def first_revision(noted: str | None) -> int:
    """Return a stream's first revision: those of a stream that was made anew go on after the purged one's."""
    return int(noted or 1)


def revision_of(lane: str) -> int:
    """Return the spec revision of a stream's lane; see lua/lib/queue.lua."""
    return int(lane.partition(":")[0])


def counters(item: Hash) -> Counters:
    return Counters(_int(item, "attempts"), _int(item, "boots"), _int(item, "given_back"))


def counters_text(seen: Counters) -> str:
    """Return the counters as the scripts compare them."""
    return f"{seen.attempts}:{seen.boots}:{seen.given_back}"


def _int(record: Hash, name: str) -> int:
    return int(record.get(name, 0))


def _time(record: Hash, name: str) -> str | None:
    return rfc3339(int(record[name])) if name in record else None
