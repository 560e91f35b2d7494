from typing import Any

import msgspec
import pytest

from broker.domain.access import BadHeaderSecret, access_of, header_value
from broker.domain.specs import spec_faults
from broker.wire.names import StreamRef, UserName
from broker.wire.secrets import SecretKind
from broker.wire.streams import OriginAccess, StreamSpec

RENDER = StreamRef(UserName("alice"), "render")
HTTPS, ODD = OriginAccess(headers={"A": "1"}), OriginAccess(headers={"A": "2"})


def faults(**more: Any) -> list[str]:
    spec = msgspec.convert({"machine": "m", "run": "x", **more}, StreamSpec)
    return [str(fault) for fault in spec_faults(spec, RENDER)]


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://share.example/x", HTTPS),
        ("https://SHARE.example:443/x", HTTPS),
        ("davs://share.example/x", HTTPS),
        ("https://share.example:8443/x", ODD),
        ("https://share.example:8444/x", None),
        ("https://share.example.evil.example/x", None),
        ("s3://share.example/x", None),
        ("file:alice/x", None),
    ],
)
def test_headers_are_of_one_host_and_port(url: str, found: OriginAccess | None) -> None:
    assert access_of({"Share.example": HTTPS, "share.example:8443": ODD}, url) is found


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"Host": "x"}, "the client's own to send"),
        ({"content-type": "x"}, "the client's own to send"),
        ({"If-None-Match": "x"}, "the client's own to send"),
        ({"Transfer-Encoding": "x"}, "the client's own to send"),
        ({"a b": "x"}, "is no header's name"),
        ({"A": "x\r\nB: y"}, "no line of printable ASCII"),
        ({"A": ""}, "no line of printable ASCII"),
        ({"Authorization": "Basic x"}, "name the secret in secret_headers"),
        ({}, "has 0 headers"),
        ({f"A{number}": "x" for number in range(17)}, "has 17 headers"),
        ({"A": "1", "a": "2"}, "is there twice"),
    ],
)
def test_a_header_that_must_not_be_sent_is_refused(headers: dict[str, str], said: str) -> None:
    told = faults(access={"share.example": {"headers": headers}})
    assert len(told) == 1
    assert said in told[0]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"access": {"*.example": {"headers": {"A": "x"}}}}, "is no HOST or HOST:PORT"),
        ({"access": {"h.example:0": {"headers": {"A": "x"}}}}, "is no HOST or HOST:PORT"),
        ({"access": {"h": {"secret_headers": {"A": "token"}}}}, "trusts nobody"),
        (
            {
                "access": {"h:81": {"secret_headers": {"A": "token"}}},
                "trust": ["x"],
                "output": {"files": ["*"], "to": "http://h:81/{name}"},
            },
            "only https and davs keep secret",
        ),
        (
            {"access": {"h": {"secret_headers": {"A": "s"}}}, "trust": ["x"], "needs": {"exchange": "disk"}},
            "needs exchange network",
        ),
        ({"output": {"files": ["*"], "to": "s3://lab/{name}"}}, "the stream's spec has no s3"),
        ({"output": {"files": ["*"], "to": "osdf:///x/{name}"}}, "no plugin for osdf"),
        ({"output": {"files": ["*"], "to": "s3://{job}/{name}"}, "s3": {"secret": "c"}}, "no target"),
        ({"output": {"files": ["*"], "to": "davs://h/{name}?x={run}"}}, "only http and https have a query"),
        ({"inputs": {"a b": "https://h.example/x"}}, "is no input's name"),
        ({"inputs": {"a": "https://me:pw@h.example/x"}}, "carries a user or password"),
        ({"inputs": {"a": "s3://lab/x"}}, "the stream's spec has no s3"),
        ({"inputs": {f"a{number}": "https://h.example/x" for number in range(33)}}, "33 further inputs are too many"),
        ({"s3": {"secret": "c", "endpoint": "https://h/x"}}, "is no endpoint"),
        ({"s3": {"secret": "c", "region": "../x"}}, "is no region"),
        ({"plugins": {"https": "/x"}}, "https needs no plugin"),
        ({"plugins": {"osdf": "/x"}, "needs": {"exchange": "shared"}}, "has no network for a plugin to use"),
        ({"plugins": {"osdf": "plugin"}}, "is no absolute path"),
        ({"plugins": {"OSDF": "/plugin"}}, "is no scheme"),
    ],
)
def test_a_fault_of_a_spec_is_told_with_what_it_lacks(more: dict[str, Any], said: str) -> None:
    told = faults(**more)
    assert len(told) == 1, told
    assert said in told[0]


def test_a_secret_is_a_headers_value_if_it_is_one_line() -> None:
    assert header_value(SecretKind.BEARER_TOKEN, b"token\n") == "Bearer token"
    assert header_value(SecretKind.FILE, b"Basic eDp5\n") == "Basic eDp5"
    with pytest.raises(BadHeaderSecret) as told:
        header_value(SecretKind.FILE, b"one\r\nInjected: two")
    assert "one\r" not in str(told.value)
