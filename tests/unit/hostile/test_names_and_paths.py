"""Names, paths, scopes, durations, addresses and templates, each against a second reading of its grammar."""

from urllib.parse import unquote, urlsplit

from hypothesis import example, given
from hypothesis import strategies as st

from broker.domain import limits
from broker.domain.durations import BadDuration, parse_ms, text_of
from broker.domain.errors import Rejected
from broker.domain.image_urls import check_image_url
from broker.domain.paths import MAX_PATH_BYTES, MAX_SEGMENT_BYTES, BadPath, parse_file_path, parse_file_url, split_path
from broker.domain.pushes import input_files, item_faults
from broker.domain.scopes import Authority, Scope, parse_scopes
from broker.domain.specs import check_spec
from broker.domain.targets import BadTarget, TargetOf, check_template, input_name, origin_of, target_url, written_below
from broker.wire.items import NewItem
from broker.wire.names import (
    BadName,
    DispatchId,
    ItemRef,
    StreamRef,
    UserName,
    check_digest,
    check_name,
    parse_item,
    parse_owned,
)
from broker.wire.states import Exchange
from broker.wire.streams import Needs, Output, StreamSpec
from launcher.batch.times import parse_span
from tests.unit.hostile.inputs import fuzz, is_plain, texts, wire_texts

RENDER = StreamRef(UserName("alice"), "render")
ITEM = ItemRef(RENDER, 17)
DISPATCH = DispatchId("0b0f8f4e-6d5a-4c8e-9b1e-2f6a7d3c9e10")
templates = st.one_of(
    texts,
    st.builds("file:{0}/{1}".format, st.sampled_from(["{user}", "alice", "bob", "Alice"]), texts),
    st.builds("https://h.example/{0}".format, texts),
)


def is_name(text: str) -> bool:
    return (
        0 < len(text) <= 63
        and is_plain(text[0])
        and all(is_plain(char) or char in "._-" for char in text)
        and ".." not in text
    )


def is_segment(text: str) -> bool:
    return (
        text not in {"", ".", ".."}
        and not any(code in text.lower() for code in ("%2f", "%5c", "\\", "/"))
        and all(" " <= char != "\x7f" and not "\ud800" <= char <= "\udfff" for char in text)
        and len(text.encode()) <= MAX_SEGMENT_BYTES
    )


@fuzz
@given(texts)
@example("alice\n")
@example("\u0430lice")
def test_a_name_is_letters_digits_dots_dashes_and_nothing_that_looks_like_them(text: str) -> None:
    try:
        assert check_name(text, "user") == text
    except BadName:
        assert not is_name(text)
    else:
        assert is_name(text)


@fuzz
@given(texts, st.sampled_from([None, "alice"]))
def test_an_owned_name_is_read_or_refused_and_written_as_it_was_read(text: str, own: str | None) -> None:
    try:
        owned = parse_owned(text, own, "stream")
    except BadName:
        return
    assert str(owned) == (text if "/" in text else f"{own}/{text}")
    assert is_name(owned.user)
    assert is_name(owned.name)
    assert parse_owned(str(owned), None, "stream") == owned


@fuzz
@given(st.one_of(texts, st.builds("alice/render/{0}".format, texts)))
@example("alice/render/0")
@example("alice/render/\u0661")
@example("alice/render/017")
def test_an_item_has_one_spelling(text: str) -> None:
    try:
        ref = parse_item(text, None)
    except BadName:
        return
    assert str(ref) == text
    assert ref.number > 0


@fuzz
@given(st.one_of(texts, st.builds("sha256:{0}".format, texts)))
@example("sha256:" + "a" * 64 + "\n")
def test_a_digest_has_one_spelling(text: str) -> None:
    try:
        check_digest(text)
    except BadName:
        return
    assert len(text) == 71
    assert set(text[7:]) <= set("0123456789abcdef")


@fuzz
@given(texts)
@example("a/%2F..")
@example("a/\udcff")
def test_a_path_is_its_segments_and_each_means_itself(text: str) -> None:
    try:
        segments = split_path(text)
    except BadPath:
        assert len(text.encode("utf-8", "surrogatepass")) > MAX_PATH_BYTES or not all(map(is_segment, text.split("/")))
        return
    assert "/".join(segments) == text
    assert all(map(is_segment, segments))


@fuzz
@given(st.one_of(texts, st.builds("alice/{0}".format, texts)))
def test_a_file_of_a_user_stays_that_users(text: str) -> None:
    try:
        path = parse_file_path(text)
    except BadPath:
        return
    assert str(path) == text
    assert text.startswith(f"{path.user}/")
    assert parse_file_url(path.url) == path


@fuzz
@given(texts)
@example("file:/etc/passwd")
@example("file://alice/x")
def test_an_address_of_a_file_has_one_spelling(text: str) -> None:
    try:
        path = parse_file_url(text)
    except BadPath:
        return
    assert path.url == text


@fuzz
@given(st.one_of(texts, st.builds("{0}:/{1}".format, st.sampled_from(list(Authority)), texts)))
@example("queue.read:/alice/../bob")
@example("queue.read:/alice%2Fbob")
def test_scopes_mean_what_they_say_and_are_written_as_they_were_read(text: str) -> None:
    try:
        scopes = parse_scopes(text)
    except BadPath:
        return
    assert parse_scopes(str(scopes)) == scopes
    for scope in scopes:
        assert all(map(is_segment, scope.path))
        assert any(word.startswith(scope.authority) for word in text.split(" "))


_parts = st.lists(st.sampled_from(["alice", "alice2", "Alice", "alic", "render", "a"]), max_size=3).map(tuple)


@fuzz
@given(_parts, _parts, st.sampled_from(list(Authority)), st.sampled_from(list(Authority)))
def test_a_scope_covers_its_path_and_what_is_below(
    held: tuple[str, ...], asked: tuple[str, ...], authority: Authority, other: Authority
) -> None:
    below = "".join(f"/{part}" for part in asked) + "/"
    covers = authority == other and below.startswith("".join(f"/{part}" for part in held) + "/")

    assert Scope(authority, held).covers(other, asked) is covers


@fuzz
@given(texts)
@example("\u0663s")
@example("1h\n")
def test_a_duration_is_read_or_refused(text: str) -> None:
    try:
        ms = parse_ms(text)
    except BadDuration:
        return
    assert all(char in "0123456789dhms" for char in text)
    assert parse_ms(text_of(ms)) == ms


@fuzz
@given(texts)
@example("\u0663s")
def test_a_span_of_the_command_line_is_read_or_refused(text: str) -> None:
    try:
        parse_span(text)
    except ValueError:
        return
    assert all(char in "0123456789dhms" for char in text.strip())


@fuzz
@given(st.one_of(texts, st.builds("https://{0}".format, texts)))
@example("https://h/\n")
@example("https://user:pw@h/x")
@example("https://[::1/x")
@example("https://h:99999/x")
@example("https://\u212a.example/x")
def test_an_image_is_fetched_by_https_from_a_host_and_nothing_else(url: str) -> None:
    try:
        check_image_url(url, "vda")
    except Rejected:
        return
    parts = urlsplit(url)
    assert (parts.scheme, parts.fragment, parts.username) == ("https", "", None)
    assert parts.hostname
    assert all("!" <= char <= "~" for char in url)


@fuzz
@given(texts)
@example("http://[")
@example("http://h:\u0663/")
def test_an_origin_is_read_or_refused(url: str) -> None:
    try:
        origin = origin_of(url)
    except BadTarget:
        return
    if origin is not None:
        host, _, port = origin.rpartition(":")
        assert host
        assert 0 < int(port) < 65_536


@fuzz
@given(templates, texts, st.one_of(st.none(), texts))
@example("file:{user}/..{name}", "x", None)
@example("file:{user}/{stem}./{suffix}", "..x", None)
@example("https://h.example/{name}", "../../x", None)
@example("http://h.example/\x1f\n{name}", "x", None)
@example("https://h.example/{input.path}", "o", "https://[")
@example("https://h.example/{input.path}", "o", "https://i.example/%2e%2e/%2e%2e/x")
@example("file:{user}/{input.path}/{name}", "o", "https://i.example/..%2f..%2fbob")
def test_a_target_stays_with_its_user_or_at_its_host(template: str, name: str, input_url: str | None) -> None:
    try:
        check_template(template, RENDER)
        url = target_url(template, TargetOf(ITEM, 3, DISPATCH, name, input_url))
    except (BadTarget, UnicodeEncodeError) as error:
        # What is no UTF-8 comes from a command line alone, whose commands tell of it.
        assert isinstance(error, BadTarget) or any("\ud800" <= char <= "\udfff" for char in template + name)
        return
    assert "3-0b0f8f4e" in url, "a run that lost its item can write over nothing"
    if url.startswith("file:"):
        path = parse_file_url(url)
        assert path.user == "alice"
        below = written_below(template, RENDER) or ()
        assert (path.user, *path.segments)[: len(below)] == below
    else:
        assert urlsplit(url).netloc == urlsplit(template).netloc
        assert not {".", ".."} & set(urlsplit(url).path.split("/"))
        assert all("!" <= char <= "~" for char in url)


@fuzz
@given(texts)
@example("https://[")
def test_an_input_has_a_file_name_of_one_part_in_the_guest(url: str) -> None:
    name = input_name(url)
    assert is_segment(name)
    assert unquote(name) == name or "%" in name


_specs = st.builds(
    StreamSpec,
    machine=wire_texts,
    run=wire_texts,
    script=wire_texts,
    as_user=wire_texts,
    params=st.dictionaries(wire_texts, wire_texts, max_size=3),
    needs=st.builds(
        Needs,
        vcpus=st.integers(),
        memory_mib=st.integers(),
        disk_mib=st.integers(),
        exchange=st.sampled_from(list(Exchange)),
        exchange_folder=wire_texts,
    ),
    output=st.builds(Output, to=st.one_of(wire_texts, templates), files=st.lists(wire_texts, max_size=3).map(tuple)),
    network=st.lists(wire_texts, max_size=3).map(tuple),
    keep_ms=st.integers(),
)


@fuzz
@given(_specs)
def test_a_spec_is_accepted_or_its_faults_are_told(spec: StreamSpec) -> None:
    try:
        check_spec(spec, RENDER)
    except Rejected as error:
        assert error.refusals
        assert all(refusal["reason"] for refusal in error.refusals)
    except UnicodeEncodeError:
        assert any("\ud800" <= char <= "\udfff" for char in spec.output.to)


_items = st.builds(
    NewItem,
    url=st.one_of(st.none(), wire_texts, st.builds("https://{0}".format, wire_texts)),
    name=st.one_of(st.none(), wire_texts),
    params=st.dictionaries(wire_texts, wire_texts, max_size=3),
    delay_ms=st.integers(),
)


@fuzz
@example(NewItem(url="https://["), "/bin/run", True)
@given(_items, st.sampled_from(["/bin/run", "/bin/run {input} {param.x}"]), st.booleans())
def test_an_item_is_accepted_or_its_faults_are_told(item: NewItem, run: str, has_input: bool) -> None:
    to = "https://h.example/{input.path}/{name}" if has_input else "file:{user}/{name}"
    spec = StreamSpec(machine="m", run=run, output=Output(to=to))
    faults = item_faults(spec, RENDER, [(1, item)])
    if faults:
        assert all(fault.reason for fault in faults)
        return
    input_files([item])
    url = item.url or "https://h/"
    assert url.startswith(("http://", "https://", "file:"))
    assert "\n" not in url
    assert len(url) <= limits.default("url_bytes")
    assert 0 <= item.delay_ms <= limits.default("delay_ms")
    assert item.name is None or item.name.isprintable()
