import base64

import pytest

from broker.client.origins import Origin
from launcher.exchange.errors import Refused
from launcher.exchange.http_head import parse_request, parse_response


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode()


def test_connect_names_an_origin_and_forwards_nothing() -> None:
    request = parse_request(head("CONNECT Share.Example:443 HTTP/1.1", "Host: share.example:443"))
    assert (request.origin, request.forwarded_head) == (Origin("share.example", 443), None)


def test_an_absolute_request_is_forwarded_in_origin_form_without_what_was_for_the_proxy() -> None:
    request = parse_request(
        head(
            "GET http://share.example:8080/a?b=%20c HTTP/1.1",
            "Host: elsewhere.example",
            "Range: bytes=5-",
            "Proxy-Authorization: Basic dm06cHc=",
            "Proxy-Connection: keep-alive",
            "Connection: keep-alive, X-Mine",
            "X-Mine: 1",
            "Upgrade: websocket",
            "Accept: */*",
        )
    )
    assert request.forwarded_head == head(
        "GET /a?b=%20c HTTP/1.1",
        "Host: share.example:8080",
        "Range: bytes=5-",
        "Accept: */*",
        "Via: 1.1 vmbroker",
        "Connection: close",
    )
    assert request.credentials == ("vm", "pw")


def test_a_url_without_a_path_asks_for_the_root() -> None:
    forwarded = parse_request(head("GET http://share.example?x=1 HTTP/1.1")).forwarded_head
    assert forwarded is not None
    assert forwarded.startswith(b"GET /?x=1 HTTP/1.1\r\nHost: share.example\r\n")


@pytest.mark.parametrize(
    ("headers", "body_bytes"),
    [([], 0), (["Content-Length: 12"], 12), (["Transfer-Encoding: chunked"], None)],
)
def test_the_body_is_framed_by_its_headers(headers: list[str], body_bytes: int | None) -> None:
    assert parse_request(head("PUT http://share.example/a HTTP/1.1", *headers)).body_bytes == body_bytes


@pytest.mark.parametrize(
    "lines",
    [
        ["GET /a HTTP/1.1", "Host: share.example"],
        ["GET https://share.example/a HTTP/1.1"],
        ["GET http://user:pw@share.example/a HTTP/1.1"],
        ["GET http://share.example/a#b HTTP/1.1"],
        ["GET http:///a HTTP/1.1"],
        ["GET http://share.example/a b HTTP/1.1"],
        ["GET http://share.example/a HTTP/2.0"],
        ["GET  http://share.example/a HTTP/1.1"],
        ["CONNECT share.example HTTP/1.1"],
        ["CONNECT share.example:443/a HTTP/1.1"],
        ["GET http://share.example/a HTTP/1.1", "Header : value"],
        ["GET http://share.example/a HTTP/1.1", " folded"],
        ["GET http://share.example/a HTTP/1.1", "A: b\nC: d"],
        ["PUT http://share.example/a HTTP/1.1", "Content-Length: 1", "Content-Length: 2"],
        ["PUT http://share.example/a HTTP/1.1", "Content-Length: -1"],
        ["PUT http://share.example/a HTTP/1.1", "Content-Length: " + "9" * 5000],
        ["PUT http://share.example/a HTTP/1.1", "Content-Length: 1", "Transfer-Encoding: chunked"],
        ["PUT http://share.example/a HTTP/1.1", "Transfer-Encoding: gzip, chunked"],
    ],
)
def test_a_malformed_or_ambiguous_request_is_refused_with_400(lines: list[str]) -> None:
    with pytest.raises(Refused) as refused:
        parse_request(head(*lines))
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "value",
    ["Bearer x", "Basic ???", "Basic " + base64.b64encode(b"no-colon").decode(), "Basic /w==", "Basic"],
)
def test_unreadable_credentials_are_none(value: str) -> None:
    assert parse_request(head("CONNECT a.example:1 HTTP/1.1", f"Proxy-Authorization: {value}")).credentials is None


def test_an_answer_keeps_its_framing_and_says_that_the_connection_closes() -> None:
    status, forwarded = parse_response(
        head("HTTP/1.1 206 Partial Content", "Connection: keep-alive", "Keep-Alive: timeout=5", "Content-Length: 3")
    )
    assert status == 206
    assert forwarded == head(
        "HTTP/1.1 206 Partial Content", "Content-Length: 3", "Via: 1.1 vmbroker", "Connection: close"
    )


def test_an_interim_answer_passes_as_it_is() -> None:
    assert parse_response(head("HTTP/1.1 100 Continue")) == (100, head("HTTP/1.1 100 Continue"))


@pytest.mark.parametrize("line", ["HTTP/1.1 101 Switching Protocols", "SSH-2.0-OpenSSH", "HTTP/1.1 999 ?"])
def test_an_answer_that_is_not_plain_http_is_refused_with_502(line: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_response(head(line))
    assert refused.value.status == 502
