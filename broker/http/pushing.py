"""A push: a JSON array, or any number of lines, which are taken in as they come, part by part.

Each part is accepted as a whole or not at all, and has an idempotency key of its own: the request's, and for every
part after the first with `/` and its number. So a push of any length needs little memory here, and one that broke off
goes on where it was when the same lines come again under the same key. With `?part=` the request's parts are some of
those of a longer push, each with the key, `/` and its number there.

The store gets one part after the other, since the order of items is that of the lines; the next one is read meanwhile.
"""

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import msgspec
from aiohttp import web

from broker.domain import pushes, specs
from broker.domain.access import header_secrets
from broker.domain.errors import BrokerError, Rejected, Unavailable
from broker.domain.faults import Fault, rejected
from broker.domain.paths import FilePath
from broker.domain.scopes import Authority
from broker.http.call import Call, decode, json_answer, limit
from broker.http.contract import NDJSON, lines_of, operation
from broker.http.parameters import DRY_RUN, IDEMPOTENCY_KEY, PART, SKIP_BAD
from broker.http.parts import Part, parts_of
from broker.http.rehearsing import Rehearsal
from broker.http.streams import no_stream
from broker.store import SpecChanged
from broker.store.catalogue import machine_not_usable
from broker.store.reading import TRIES, kept_changing
from broker.wire.items import DryRun, NewItem, Pushed
from broker.wire.problems import ProblemCode
from broker.wire.streams import StreamSpec

_MAX_KEY = 255
_MAX_PART_DIGITS = 9
_ITEM = msgspec.json.Decoder(NewItem)
_TURNS_TO_STORE = 6
"""So many turns of the loop after a part was given to the store it has been written to its connection."""


@dataclass(slots=True)
class _Push:
    """A push on its way."""

    call: Call
    spec: StreamSpec
    revision: int
    is_latest: bool
    """The spec was read for this push; else it is how it was seen last, and the store tells when it is another now."""
    key: str | None
    is_skipping: bool
    first_part: int | None
    dry: Rehearsal | None = None
    may_run: bool = False
    """Whether its share was looked at."""
    answers: list[Pushed] = field(default_factory=list)
    refused: list[Fault] = field(default_factory=list)

    @property
    def accepted(self) -> int:
        return sum(answer.accepted for answer in self.answers)


@dataclass(slots=True)
class _Looked:
    """A part that was read: its items by their lines, and what is wrong with lines that are none."""

    part: Part
    items: list[tuple[int, NewItem]]
    unread: list[Fault]
    _faults: list[Fault] = field(default_factory=list)
    _by: StreamSpec | None = None

    def look(self, going: _Push) -> list[Fault]:
        """Return what is wrong with its lines, by the spec that the push knows now."""
        if self._by is not going.spec:
            self._faults = self.unread + pushes.item_faults(going.spec, going.call.stream, self.items)
            self._by = going.spec
        return self._faults


@operation(
    takes=(list[NewItem], lines_of(NewItem)),
    answers={201: Pushed, 200: DryRun},
    problems=(
        ProblemCode.BAD_ITEMS,
        ProblemCode.BAD_SPEC,
        ProblemCode.KEY_REUSED,
        ProblemCode.PURGING,
        ProblemCode.QUOTA_EXCEEDED,
    ),
    parameters=(SKIP_BAD, DRY_RUN, PART, IDEMPOTENCY_KEY),
)
async def push(call: Call) -> web.Response:
    """Add items. A part with a bad line is not accepted, or without its bad lines where `?skip_bad=1` asks for that."""
    query = call.query("skip_bad", "dry_run", "part")
    skip_bad, dry_run = query.get("skip_bad", "0"), query.get("dry_run", "0")
    if not {skip_bad, dry_run} <= {"0", "1"}:
        raise Rejected(ProblemCode.BAD_REQUEST, "skip_bad and dry_run are 0 or 1")
    first_part = _first_part(query.get("part"))
    seen = None if dry_run == "1" else call.services.store.seen_spec(call.stream)
    revision, spec = seen or await _latest(call)
    going = _Push(call, spec, revision, seen is None, _key(call), skip_bad == "1", first_part)
    if dry_run == "1":
        going.dry = Rehearsal(call.stream, spec)
    if call.request.content_type != NDJSON:
        await _push_array(going, await call.whole_body())
    else:
        with call.large_body() as body:
            await _push_parts(going, parts_of(body.chunks()))
    if going.dry is not None and (going.dry.items or going.refused):
        return json_answer(going.dry.answer(going.refused))
    if not going.answers and not going.refused:
        raise Rejected(ProblemCode.BAD_REQUEST, "the push holds no item: send at least one")
    return json_answer(_summary(going), status=201)


async def _push_array(going: _Push, body: bytes) -> None:
    items = decode(body, list[NewItem])
    if len(items) > limit("push_items"):
        raise Rejected(
            ProblemCode.TOO_LARGE,
            f"one array has at most {limit('push_items')} items: cut it into several, or send a line for each "
            f"({NDJSON}), as many as you like",
        )
    if items:
        await _push_part(going, _Looked(Part(body), list(enumerate(items, 1)), []))


async def _push_parts(going: _Push, parts: AsyncIterator[Part]) -> None:
    """Push part after part; each is read and looked at while the store takes the one before."""
    taken: asyncio.Task[None] | None = None
    try:
        async for part in parts:
            looked = _Looked(part, *_decoded(part))
            looked.look(going)
            if taken is not None:
                await taken
            if not looked.items and not looked.unread:
                continue
            if part.is_last:
                await _push_part(going, looked)
            else:
                taken = asyncio.create_task(_push_part(going, looked))
                for _ in range(_TURNS_TO_STORE):
                    await asyncio.sleep(0)
    finally:
        # What goes wrong with an earlier part is told before what is wrong with the one that was read after it.
        if taken is not None:
            await taken


async def _push_part(going: _Push, looked: _Looked) -> None:
    try:
        for _ in range(TRIES):
            if await _push_items(going, looked):
                return
            going.revision, going.spec = await _latest(going.call)
            going.is_latest, going.may_run = True, False
        raise kept_changing()
    except BrokerError as error:
        # What was right when it was accepted may have changed since: the answer is then the first one.
        if _is_of_the_store(error) or not await _is_known(going, looked.part):
            raise


async def _latest(call: Call) -> tuple[int, StreamSpec]:
    found = await call.services.store.latest_spec(call.stream)
    if found is None:
        raise no_stream(call.stream)
    return found


def _is_of_the_store(error: BrokerError) -> bool:
    """Tell whether the store itself is away; where its disk is short it can still be asked."""
    return isinstance(error, Unavailable) and error.code is not ProblemCode.STORE_DISK_FULL


async def _push_items(going: _Push, looked: _Looked) -> bool:
    """Push those items that are good; none of them when some are bad and nobody asked to skip those.

    False when the stream's spec may be, or is, another one by now: look at its latest first.
    """
    if not going.may_run:
        try:
            await _check_share(going.call, going.spec)
        except Rejected:
            if not going.is_latest:
                return False
            raise
        going.may_run = True
    faults = looked.look(going)
    bad = {int(fault.at) for fault in faults}
    right = [each for each in looked.items if each[0] not in bad]
    faults = [*faults, *pushes.unlent_faults(going.spec, right, _unlent(going.call, going.spec))]
    faults = faults + await _missing_inputs(going.call, right)
    if faults and not going.is_latest:
        return False
    if faults and (not going.is_skipping or len(going.refused) + len(faults) > limit("push_refused")):
        refusal = rejected(ProblemCode.BAD_ITEMS, "line", sorted(faults, key=lambda fault: int(fault.at)))
        refusal.progress = {"accepted_lines": going.accepted, "next_line": looked.part.first_line}
        raise refusal
    bad = {int(fault.at) for fault in faults}
    good = [item for number, item in looked.items if number not in bad]
    if going.dry is not None:
        going.dry.add(good)
    elif good:
        waiting = going.call.services.waiting
        is_awaited = waiting.expect(going.call.stream, len(good))
        try:
            answer = await going.call.services.store.push(
                going.call.stream,
                good,
                idempotency_key=_key_of(going, looked.part),
                body_digest=hashlib.sha256(looked.part.body).hexdigest(),
                revision=going.revision,
            )
        except SpecChanged:
            return False
        if is_awaited:
            await waiting.give_way()
        going.answers.append(answer)
    going.refused += faults
    return True


async def _is_known(going: _Push, part: Part) -> bool:
    """Tell whether the part was pushed under its key before; its answer is then the first one."""
    key = _key_of(going, part)
    if key is None or going.is_skipping or going.dry is not None:
        return False
    digest = hashlib.sha256(part.body).hexdigest()
    known = await going.call.services.store.first_answer(going.call.stream, key, digest)
    if known is not None:
        going.answers.append(known)
    return known is not None


def _key_of(going: _Push, part: Part) -> str | None:
    if going.key is None or (part.number == 0 and going.first_part is None):
        return going.key
    return f"{going.key}/{(going.first_part or 0) + part.number}"


def _summary(going: _Push) -> Pushed:
    """Return one answer for all parts: of the numbers between `first` and `last`, others may have pushed some."""
    added = [answer for answer in going.answers if answer.accepted]
    some = added or going.answers
    is_repeated = bool(some) and all(answer.repeated for answer in going.answers)
    return Pushed(
        stream=str(going.call.stream),
        accepted=going.accepted,
        first=some[0].first if some else 0,
        last=some[-1].last if some else 0,
        durability=some[0].durability if some else going.call.services.store.durability,
        duplicates=sum(answer.duplicates for answer in going.answers),
        repeated=is_repeated,
        before=0 if is_repeated else sum(answer.accepted for answer in going.answers if answer.repeated),
        refused=tuple({"line": fault.at, "reason": fault.reason, "remedy": fault.remedy} for fault in going.refused),
    )


def _decoded(part: Part) -> tuple[list[tuple[int, NewItem]], list[Fault]]:
    """Return the items with their lines, and what is wrong with the lines that are none."""
    try:
        items = _ITEM.decode_lines(part.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _decoded_one_by_one(part)
    # Quick where every line is an item: none is blank.
    if part.body.count(b"\n") + (not part.body.endswith(b"\n")) == len(items):
        return list(zip(itertools.count(part.first_line), items, strict=False)), []
    return [(number, item) for (number, _), item in zip(part.lines(), items, strict=True)], []


def _decoded_one_by_one(part: Part) -> tuple[list[tuple[int, NewItem]], list[Fault]]:
    items: list[tuple[int, NewItem]] = []
    faults: list[Fault] = []
    for number, line in part.lines():
        try:
            items.append((number, _ITEM.decode(line)))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            faults.append(Fault(str(number), f"it is no item: {error}", 'write {"url": …, "name": …, "params": …}'))
    return items, faults


def _first_part(text: str | None) -> int | None:
    if text is not None and not (0 < len(text) <= _MAX_PART_DIGITS and text.isascii() and text.isdecimal()):
        raise Rejected(ProblemCode.BAD_REQUEST, "part is a whole number of at most 9 digits")
    return None if text is None else int(text)


def _key(call: Call) -> str | None:
    key = call.request.headers.get("Idempotency-Key")
    if key is not None and not (0 < len(key) <= _MAX_KEY and key.isascii() and key.isprintable()):
        raise Rejected(ProblemCode.BAD_REQUEST, f"Idempotency-Key is 1 to {_MAX_KEY} printable ASCII characters")
    return key


async def _check_share(call: Call, spec: StreamSpec) -> None:
    """Check that what is pushed could run: a share may have been taken back since the spec was put."""
    machine, user = specs.machine_of(spec, call.stream), call.stream.user
    if not await call.services.store.may_use(user, machine):
        raise machine_not_usable(machine, user)


def _unlent(call: Call, spec: StreamSpec) -> set[str]:
    """Return the secrets that requests for inputs are made with, and that whoever pushes may not use."""
    names = {*header_secrets(spec), *([spec.s3.secret] if spec.s3 else [])}
    return {name for name in names if not call.who.may(Authority.SECRET_USE, call.stream.user, name)}


async def _missing_inputs(call: Call, items: list[tuple[int, NewItem]]) -> list[Fault]:
    files = pushes.input_files(item for _, item in items)
    if not files:
        return []
    readable = {file for file in files if call.who.may(Authority.FILE_READ, file.user, *file.segments)}
    return list(_of_missing(items, files - await call.services.files.find_all(readable)))


def _of_missing(items: list[tuple[int, NewItem]], missing: set[FilePath]) -> Iterator[Fault]:
    urls = {file.url for file in missing}
    for line, item in items:
        for url in urls.intersection((item.url or "", *item.inputs.values())):
            reason = f"there is no file {url}, or you may not read it"
            yield Fault(str(line), reason, "upload it with `broker file put`")
