from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.paths import BadPath, split_path
from broker.domain.targets import (
    BadTarget,
    TargetOf,
    check_template,
    input_name,
    origin_of,
    target_url,
    written_below,
)
from broker.wire.names import DispatchId, ItemRef, StreamRef, UserName

STREAM = StreamRef(UserName("alice"), "render")
RUN = "2-1a2b3c4d"


def of(name: str = "out.txt", url: str | None = "https://share.example/d/in%20put.exr") -> TargetOf:
    return TargetOf(ItemRef(STREAM, 17), 2, DispatchId("1a2b3c4d-0000-4000-8000-000000000000"), name, url)


@pytest.mark.parametrize(
    ("template", "name", "target"),
    [
        ("file:{user}/{job}/{item}/{run}/{name}", "out.txt", f"file:alice/render/17/{RUN}/out.txt"),
        ("file:{user}/{job}/{item}/{run}/{name}", "sub/out.txt", f"file:alice/render/17/{RUN}/sub/out.txt"),
        ("file:{user}/{name}", "out.tar.gz", f"file:alice/out.tar.{RUN}.gz"),
        ("file:{user}/{name}", "README", f"file:alice/README.{RUN}"),
        ("file:alice/x/{stem}.png", "out.txt", f"file:alice/x/out.{RUN}.png"),
        ("file:{user}/{input.path}", "out.txt", f"file:alice/d/in put.exr.{RUN}"),
        ("https://up.example/u/{input.path}?run={run}", "o", f"https://up.example/u/d/in%20put.exr?run={RUN}"),
        ("http://up.example:81/{item}/{name}?a=b", "o t.x", f"http://up.example:81/17/o%20t.{RUN}.x?a=b"),
        ("https://up.example/{run}", "o.x", f"https://up.example/{RUN}"),
    ],
)
def test_a_target_is_computed_and_always_carries_its_run(template: str, name: str, target: str) -> None:
    check_template(template, STREAM)

    assert target_url(template, of(name)) == target


@pytest.mark.parametrize(
    "template",
    [
        "file:bob/{name}",
        "file:{job}/{name}",
        "file:/etc/{name}",
        "https://{user}.example/{name}",
        "https://{name}",
        "https://me:pw@host/{name}",
        "https://host/{name}#x",
        "https://host/{nmae}",
        "https://host/{name",
        "ftp://host/{name}",
        "/tmp/{name}",
        "file:{user}/../bob/{name}",
        "https://host/../{name}",
        "https://host/in/%2e%2e/other/{name}",
        "https://host/in/a%2F%2E.%2f/{name}",
        "https://host/in/..%5c/{name}",
        "davs://host/in/.%2E/{name}",
        "http://host:99999/{name}",
        "http://host:0/{name}",
        "http://./{name}",
        "http://a..example/{name}",
        f"http://{'h' * 64}.example/{{name}}",
        f"http://{'h' * 254}/{{name}}",
    ],
)
def test_a_template_that_could_lead_elsewhere_is_refused(template: str) -> None:
    with pytest.raises(BadTarget):
        check_template(template, STREAM)


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a//b", "", "a\0b", "..", "x" * 300])
def test_an_output_name_that_could_lead_elsewhere_is_refused(name: str) -> None:
    for template in ("file:{user}/{run}/{name}", "https://host/{run}/{name}"):
        with pytest.raises(BadTarget):
            target_url(template, of(name))


def test_an_input_path_cannot_lead_a_target_elsewhere() -> None:
    for url in ("https://h/%2e%2e/%2e%2e/x", "https://h/a/../../x", "file:alice/x/../../bob"):
        for template in ("file:{user}/{input.path}", "https://up.example/u/{input.path}"):
            with pytest.raises(BadTarget):
                target_url(template, of(url=url))


def test_two_runs_never_share_a_target() -> None:
    other = of()._replace(dispatch=DispatchId("9" * 36))
    later = of()._replace(fence=3)

    targets = {target_url("file:{user}/{name}", each) for each in (of(), other, later)}

    assert len(targets) == 3


def test_what_lies_below_is_the_part_that_no_item_changes() -> None:
    assert written_below("file:{user}/{job}/{item}/{run}/{name}", STREAM) == ("alice", "render")
    assert written_below("file:{user}/out-{job}/{name}", STREAM) == ("alice", "out-render")
    assert written_below("file:{user}/{name}", STREAM) == ("alice",)
    assert written_below("https://host/{name}", STREAM) is None


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://h/a/b%20c.exr?x=1", "b c.exr"),
        ("https://h/", "input"),
        ("https://h/a/%2e%2e", "input"),
        ("https://h/a%2Fb", "b"),
        ("file:alice/in/50% done.txt", "50% done.txt"),
    ],
)
def test_an_input_has_the_name_of_its_file(url: str, name: str) -> None:
    assert input_name(url) == name


@given(
    st.sampled_from(["https", "http", "dav", "file", "x", "HTTP"]),
    st.sampled_from(["h.example", "h:81", "u@h", "", "[::1]"]),
    st.lists(
        st.sampled_from(
            ["a", "B-1.fits", ".", "..", "", "x y", "%2e", "%2F", "?q=/z", "#f", ";p", "\\", "\n", "~", "é"]
        )
    ),
)
def test_a_name_found_at_a_glance_is_the_one_found_by_taking_the_address_apart(
    scheme: str, host: str, parts: list[str]
) -> None:
    url = f"{scheme}://{host}/{'/'.join(parts)}"
    path = url.removeprefix("file:") if scheme == "file" else unquote(urlsplit(url).path)
    try:
        [name] = split_path(path.rpartition("/")[2])
    except BadPath:
        name = "input"
    assert input_name(url) == name


@given(
    st.sampled_from(["https", "http", "dav", "davs", "x", "HTTP"]),
    st.text("aZ0.-_:@[]", max_size=8),
    st.sampled_from(["", "/", "/a", "?/", "/@b:1/"]),
)
def test_an_origin_found_at_a_glance_is_the_one_of_the_address_taken_apart(scheme: str, place: str, rest: str) -> None:
    url = f"{scheme}://{place}{rest}"
    found = []
    # A fragment makes no ordinary address of it, and changes no origin.
    for each in (url, f"{scheme}://{place}#{rest}"):
        try:
            found.append(origin_of(each))
        except BadTarget:
            found.append("refused")
    assert found[0] == found[1]


@pytest.mark.parametrize("url", ["http://h:99999/x", "http://h:0/x", "http://h:x/", "http://[::1/x", "http:///x"])
def test_an_address_without_a_host_and_port_has_no_origin(url: str) -> None:
    with pytest.raises(BadTarget):
        origin_of(url)


def test_an_origin_is_host_and_port() -> None:
    assert origin_of("https://h.example/x") == "h.example:443"
    assert origin_of("http://[::1]:81/x") == "[::1]:81"
    assert origin_of("file:alice/x") is None
