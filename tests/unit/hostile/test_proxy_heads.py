"""Heads that a guest, or a server it calls, sends through the proxy: what is forwarded has one meaning to everybody."""

import asyncio
from typing import Any
from unittest.mock import Mock

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser
from hypothesis import example, given
from hypothesis import strategies as st

from broker.client.origins import Origin, why_refused
from launcher.exchange.errors import Refused
from launcher.exchange.http_head import HOP_BY_HOP, parse_request, parse_response
from tests.unit.hostile.inputs import blobs, fuzz, texts

_METHODS = [b"GET", b"POST", b"CONNECT", b"connect", b"G ET", b"", b"GET\t"]
_TARGETS = [
    b"http://h.example/a?b",
    b"http://h.example",
    b"HTTP://H.example:80?x",
    b"http://u:p@h.example/",
    b"http://h.example#f",
    b"http://h.example\\@i.example/",
    b"http://[::1]/",
    b"http://h.example:0/",
    b"http://h.example:99999/",
    b"http://h.example:\xb2/",
    b"h.example:443",
    b"[::1]:443",
    b"u@h:443",
    b"/",
    b"*",
    b"ftp://h/",
]
_NAMES = [
    b"Host",
    b"Content-Length",
    b"content-length",
    b"Transfer-Encoding",
    b"Transfer-Encoding ",
    b"Connection",
    b"Proxy-Authorization",
    b"Via",
    b"Expect",
    b"X",
    b" X",
    b"",
]
_VALUES = [
    b"",
    b"0",
    b"5",
    b"+5",
    b"5, 5",
    b"0x5",
    b"\xb2",
    b"chunked",
    b"Chunked",
    b"gzip, chunked",
    b"chunked\x0b",
    b"close, X, Content-Length",
    b"Transfer-Encoding, Host",
    b"Basic dm06cHc=",
    b"Basic \xff",
    b"h.example",
    b"a\0b",
    b"a\nX: b",
    b"a\rX: b",
    b"\xff\xfe",
]
_any_line = st.builds(
    lambda name, colon, value: name + colon + value,
    st.sampled_from(_NAMES),
    st.sampled_from([b": ", b":", b":\t ", b" : "]),
    st.one_of(st.sampled_from(_VALUES), blobs),
)
_usual_line = st.builds(
    lambda name, value: name + b": " + value,
    st.sampled_from([b"Host", b"Connection", b"Via", b"Expect", b"X", b"x-y", b"Upgrade", b"TE", b"Keep-Alive"]),
    st.sampled_from([b"", b"h.example", b"close", b"keep-alive, X", b"Host, Via", b"a:b", b"\xff", b"Content-Length"]),
)
_framing = st.sampled_from(
    [
        [],
        [b"Content-Length: 5"],
        [b"Content-Length: 5", b"content-length: 5"],
        [b"Content-Length: 5", b"Connection: Content-Length"],
        [b"Transfer-Encoding: chunked"],
        [b"transfer-encoding:\tCHUNKED "],
        [b"Transfer-Encoding: chunked", b"Connection: Transfer-Encoding"],
        [b"Transfer-Encoding: chunked", b"Content-Length: 5"],
    ]
)


def _head(method: bytes, target: bytes, version: bytes, lines: list[bytes], framing: list[bytes]) -> bytes:
    return b"\r\n".join([b" ".join((method, target, version)), *lines, *framing, b"", b""])


heads = st.one_of(
    st.builds(
        _head,
        st.sampled_from([b"GET", b"POST", b"CONNECT", b"PUT"]),
        st.sampled_from(_TARGETS),
        st.sampled_from([b"HTTP/1.1", b"HTTP/1.0"]),
        st.lists(_usual_line, max_size=3),
        _framing,
    ),
    st.builds(
        _head,
        st.sampled_from(_METHODS),
        st.one_of(st.sampled_from(_TARGETS), blobs),
        st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.1 ", b"http/1.1"]),
        st.lists(_any_line, max_size=4),
        _framing,
    ),
)


@fuzz
@given(st.one_of(heads, blobs.map(lambda raw: raw + b"\r\n\r\n")))
@example(b"POST http://h/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n")
@example(b"POST http://h/ HTTP/1.1\r\nConnection: Content-Length\r\nContent-Length: 5\r\n\r\n")
@example(b"GET http://h/ HTTP/1.1\r\nX: a\nHost: i\r\n\r\n")
async def test_a_forwarded_request_is_read_by_another_parser_as_the_same_and_only_one(head: bytes) -> None:
    try:
        request = parse_request(head)
    except Refused as refused:
        assert refused.args
        return
    assert request.origin.host
    assert 0 < request.origin.port < 65_536
    if request.forwarded_head is None:
        assert head.startswith(b"CONNECT ")
        return
    body = b"0\r\n\r\n" if request.body_bytes is None else b"x" * min(request.body_bytes, 1_000)
    [(message, _)], _, rest = _read(request.forwarded_head + body)
    assert message.method.encode() == head.split(b" ")[0].upper()
    assert message.path.startswith("/")
    assert message.headers.getall("Host") == [message.headers["Host"]], "one host, and it is the one that is called"
    assert Origin.parse(f"http://{message.headers['Host']}/") == request.origin
    assert message.chunked is (request.body_bytes is None)
    assert message.should_close
    assert not {name.lower() for name in message.headers} & {name.decode() for name in HOP_BY_HOP - {b"connection"}}
    assert rest == b""


@fuzz
@given(
    st.one_of(
        st.builds(
            lambda first, lines: b"\r\n".join([first, *lines, b"", b""]),
            st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.0 100", b"HTTP/1.1 101 X", b"HTTP/1.1 999 ", b"ICY 200 OK"]),
            st.lists(st.one_of(_usual_line, _any_line), max_size=4),
        ),
        blobs,
    )
)
def test_a_forwarded_answer_has_no_line_of_its_own_making(head: bytes) -> None:
    try:
        status, forwarded = parse_response(head)
    except Refused:
        return
    assert 100 <= status < 600
    assert forwarded.endswith(b"\r\n\r\n")
    lines = forwarded.removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert not any({b"\r"[0], b"\n"[0], 0} & set(line) for line in lines)
    assert all(b":" in line for line in lines[1:])


@fuzz
@given(st.one_of(texts, st.builds("http://{0}/".format, texts), st.builds("{0}:443".format, texts)))
@example("h:\u0663")
@example("[::1%25eth0]:1")
@example("http://h\u2044x/")
def test_an_origin_of_a_guest_is_read_or_refused(text: str) -> None:
    try:
        origin = Origin.parse(text)
    except ValueError:
        return
    assert origin.host == origin.host.lower()
    assert 0 < origin.port < 65_536
    assert Origin.parse(str(origin)) == origin


@fuzz
@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str))
def test_what_leads_to_the_node_or_its_neighbours_is_refused_however_it_is_wrapped(address: str) -> None:
    if why_refused(address) is None or ":" in address:
        return
    first, second, third, fourth = (int(part) for part in address.split("."))
    high, low = f"{first << 8 | second:x}", f"{third << 8 | fourth:x}"
    for wrapped in (f"::ffff:{address}", f"64:ff9b::{high}:{low}", f"2002:{high}:{low}::1"):
        assert why_refused(wrapped) is not None, wrapped


def _read(data: bytes) -> tuple[list[tuple[Any, Any]], bool, bytes]:
    loop = asyncio.get_running_loop()
    parser = HttpRequestParser(Mock(spec=BaseProtocol), loop, 65_536, max_line_size=65_536, max_field_size=65_536)
    return parser.feed_data(data)
