"""Bodies and headers of the API: whatever comes is read, or refused by name; large input costs steps in its size."""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any, get_args

import msgspec
import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from broker.cli.exits import BadUsage
from broker.cli.spec_file import BadSpec, merge, parse_document, read_spec
from broker.domain.errors import Rejected
from broker.domain.paths import BadPath
from broker.http import parts as parts_of_a_push
from broker.http import tus
from broker.http.call import decode, file_of
from broker.http.doors import bearer
from broker.http.files import announced_digest
from broker.http.parts import Part, parts_of
from broker.http.presence import _after
from broker.http.pushing import _decoded, _first_part
from broker.http.routes import ROUTES
from broker.store.event_log import _event_id
from broker.store.items import _position
from broker.wire.items import CHUNK_BYTES, CHUNK_ITEMS, NewItem
from broker.wire.names import BadName, StreamRef, UserName
from broker.wire.problems import ProblemCode
from tests.unit.hostile.inputs import blobs, fuzz, json_bodies, json_values, texts, wire_texts

RENDER = StreamRef(UserName("alice"), "render")
KINDS = sorted({route.operation.body for route in ROUTES if route.operation.body is not None}, key=str)
headers = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=60)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


@st.composite
def _bodies(draw: st.DrawFn) -> tuple[Any, bytes]:
    """Draw a kind of message, and a body with its fields, or without any sense."""
    kind = draw(st.sampled_from(KINDS))
    struct = kind if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else get_args(kind)[0]
    fields = [field.encode_name for field in msgspec.structs.fields(struct)]
    value = st.dictionaries(st.sampled_from([*fields, "surprise"]), json_values, max_size=len(fields))
    said = value if kind is struct else st.lists(value, max_size=3)
    return kind, draw(st.one_of(said.map(json.dumps).map(str.encode), json_bodies, blobs))


@fuzz
@given(_bodies())
def test_a_body_is_a_message_or_refused(drawn: tuple[Any, bytes]) -> None:
    kind, body = drawn
    try:
        message = decode(body, kind)
    except Rejected as error:
        assert error.code is ProblemCode.BAD_REQUEST
        return
    assert decode(msgspec.json.encode(message), kind) == message


_lines = st.one_of(
    blobs,
    json_bodies,
    st.dictionaries(st.sampled_from(["url", "name", "params", "delay_ms", "x"]), json_values).map(
        lambda said: json.dumps(said).encode()
    ),
)


@fuzz
@given(st.lists(_lines, max_size=6))
def test_each_line_of_a_push_is_an_item_or_is_told_with_its_number(lines: list[bytes]) -> None:
    part = Part(b"\n".join(lines), first_line=41)
    items, faults = _decoded(part)

    numbered = [number for number, _ in part.lines()]
    assert sorted([*(number for number, _ in items), *(int(fault.at) for fault in faults)]) == numbered
    assert all(isinstance(item, NewItem) for _, item in items)


@fuzz
@given(st.lists(st.one_of(blobs, st.just(b"{}\n" * 300)), max_size=12))
async def test_a_push_is_cut_into_the_same_parts_however_it_comes(chunks: list[bytes]) -> None:
    cut = [part async for part in parts_of(_each(chunks))]
    whole = b"".join(chunks)

    assert b"".join(part.body for part in cut) == whole
    assert [part async for part in parts_of(_each([whole]))] == cut
    assert all(part.body.count(b"\n") <= CHUNK_ITEMS and len(part.body) <= CHUNK_BYTES for part in cut)
    assert [part.is_last for part in cut] == [False] * (len(cut) - 1) + [True]


async def test_a_long_line_in_small_pieces_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    look = parts_of_a_push._end_of_part

    def counted(body: bytearray) -> int | None:
        looked.append(len(body))
        return look(body)

    monkeypatch.setattr(parts_of_a_push, "_end_of_part", counted)

    with pytest.raises(Rejected, match="no item is that long"):
        async for _ in parts_of(_each([b"x" * 100] * (CHUNK_BYTES // 100 + 1))):
            pass

    assert len(looked) == 1


@fuzz
@given(st.one_of(st.none(), texts))
@example("\u0663")
@example("-1")
def test_a_number_of_a_part_is_one(text: str | None) -> None:
    try:
        first = _first_part(text)
    except Rejected:
        return
    assert first is None or (text is not None and text.isascii() and int(text) == first >= 0)


@fuzz
@given(st.one_of(texts, st.builds("{0}-{1}".format, texts, texts)))
@example("\u0663-1")
@example("1-1\n")
@example("9" * 18 + "-" + "9" * 18)
def test_a_cursor_is_read_or_refused(text: str) -> None:
    for read in (_event_id, _position):
        try:
            first, second = read(text)
        except Rejected as error:
            assert error.code is ProblemCode.BAD_REQUEST
            continue
        assert all(char in "0123456789-" for char in text)
        assert max(first, second) < 1 << 63, "the store counts with so many bits"
    try:
        _after(text)
    except Rejected as error:
        assert error.code is ProblemCode.BAD_REQUEST


@fuzz
@given(st.dictionaries(st.sampled_from(["Upload-Length", "Upload-Offset", "Upload-Concat"]), headers))
def test_numbers_of_an_upload_are_read_or_refused(said: dict[str, str]) -> None:
    for name, read in (
        ("Upload-Length", tus.length),
        ("Upload-Offset", lambda all_: tus.number(all_, "Upload-Offset")),
    ):
        try:
            number = read(said)
        except Rejected:
            continue
        assert int(said[name]) == number
        assert 0 <= number < 10**15


@fuzz
@given(st.one_of(headers, st.builds("digest {0}".format, headers), blobs.map(lambda raw: f"digest {_base64(raw)}")))
def test_metadata_of_an_upload_is_read_or_refused(field: str) -> None:
    try:
        digest = tus.announced(tus.metadata(field))
    except (Rejected, BadName):
        return
    assert len(digest) == 71


@fuzz
@given(st.one_of(headers, st.builds("sha1 {0}".format, headers), blobs.map(lambda raw: f"sha256 {_base64(raw)}")))
@example("sha1 \x80")
def test_a_checksum_of_an_upload_is_read_or_refused(field: str) -> None:
    try:
        read = tus.checksum(field)
    except Rejected:
        return
    assert read is not None
    assert read.algorithm in {"sha1", "sha256"}


@fuzz
@given(st.one_of(headers, st.builds("sha-256=:{0}:".format, st.one_of(headers, blobs.map(_base64)))))
def test_a_promised_digest_is_read_or_refused_and_never_passed_over(field: str) -> None:
    request = make_mocked_request("PUT", "/", headers={"Repr-Digest": field})
    try:
        digest = announced_digest(request)
    except Rejected:
        assert "sha-256" in field
        return
    assert digest is not None or "sha-256" not in field


@fuzz
@given(headers, st.sampled_from(["Bearer ", "bearer ", "Basic ", ""]))
def test_a_bearer_has_one_token_or_none(field: str, scheme: str) -> None:
    token = bearer(make_mocked_request("GET", "/", headers={"Authorization": scheme + field}))

    assert token is None or (token == token.strip() != "" and token in scheme + field)


@fuzz
@given(wire_texts)
@example("..%2fbob/x")
@example("%2e%2e/bob/x")
@example("a%00b")
def test_the_file_of_an_address_is_the_one_that_is_written_there(path: str) -> None:
    request = make_mocked_request("GET", "/")
    request._rel_url = URL(f"/v1/files/alice/{path}".replace("#", "%23").replace("?", "%3F"), encoded=True)
    request._match_info = {"user": "alice", "path": request._rel_url.path.removeprefix("/v1/files/alice/")}  # type: ignore[assignment] # a router's
    try:
        file = file_of(request)
    except BadPath:
        return
    assert file.user == "alice"
    assert not {"", ".", ".."} & set(file.segments)
    assert "%2f" not in path.lower()


_tables = st.dictionaries(
    st.sampled_from(
        ["machine", "run", "needs", "vcpus", "limits", "retry", "output", "params", "network", "keep", "x"]
    ),
    st.recursive(
        st.one_of(st.booleans(), st.integers(), st.floats(), texts, st.dates(), st.datetimes(), st.times()),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
        max_leaves=6,
    ),
)


@fuzz
@given(_tables, st.dictionaries(st.sampled_from(["run", "needs.vcpus", "params", "output.to"]), texts))
def test_a_document_is_a_spec_or_every_fault_is_told(document: dict[str, Any], given_: dict[str, str]) -> None:
    try:
        read_spec(merge(document, given_), RENDER)
    except BadSpec as error:
        assert error.faults
        assert all(fault.reason for fault in error.faults)
    except UnicodeEncodeError as error:
        # The command says which text is none: it came from the command line.
        assert any("\ud800" <= char <= "\udfff" for char in error.object)


@fuzz
@given(st.one_of(blobs, st.sampled_from([b"a=" + b"[" * 50_000, b"a=1e999999", b"a=" + b"9" * 5_000, b"a='\xff'"])))
@example(b"a=" + b"9" * 5_000)
@example(b"a=9999-99-99")
def test_a_file_is_a_document_or_refused(content: bytes) -> None:
    try:
        parse_document(content, "spec.toml")
    except BadUsage as error:
        assert "spec.toml" in str(error)


async def _each(chunks: list[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
