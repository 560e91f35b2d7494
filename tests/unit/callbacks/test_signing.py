import base64
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from broker.callbacks.delivering import retry_after_s
from broker.callbacks.signing import BadKey, read_key, signature_of

BYTES = st.binary(min_size=24, max_size=64)
NOW_S = 1_790_000_000


def written(key: bytes) -> str:
    return f"whsec_{base64.b64encode(key).decode()}"


@given(key=BYTES, body=st.text().map(str.encode), timestamp_s=st.integers(0, 1 << 37))
def test_signatures_are_those_of_the_reference_library(key: bytes, body: bytes, timestamp_s: int) -> None:
    at = datetime.fromtimestamp(timestamp_s, UTC)
    theirs = Webhook(written(key)).sign("evt_1", at, body.decode())
    assert signature_of([key], "evt_1", timestamp_s, body) == theirs
    assert read_key(f" {written(key)}\n".encode()) == key


@given(
    text=st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{1,6} \d\d:\d\d:\d\d [+-]?\w{1,6}"),
    value=st.binary(),
)
def test_what_somebody_else_wrote_is_read_or_is_not(text: str, value: bytes) -> None:
    asked_s = retry_after_s(text, NOW_S)
    assert asked_s is None or asked_s >= 0
    with suppress(BadKey):
        read_key(b"whsec_" + value)


def test_each_key_signs_in_their_order() -> None:
    one, two = bytes(24), bytes(32)
    both = signature_of([one, two], "evt_1", 1, b"{}")
    assert both == f"{signature_of([one], 'evt_1', 1, b'{}')} {signature_of([two], 'evt_1', 1, b'{}')}"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"", "begins with whsec_"),
        (b"c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0", "begins with whsec_"),
        (b"whsec_not base64!", "is base64"),
        (written(bytes(23)).encode(), "24 to 64 bytes, this one 23"),
        (written(bytes(65)).encode(), "24 to 64 bytes, this one 65"),
        (b"\xff\xfe", "begins with whsec_"),
    ],
)
def test_what_is_no_key_is_told_without_quoting_it(value: bytes, said: str) -> None:
    with pytest.raises(BadKey) as refused:
        read_key(value)
    assert said in str(refused.value)
    assert "openssl rand" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "asked_s"),
    [
        ("120", 120),
        (" 0 ", 0),
        (format_datetime(datetime.fromtimestamp(NOW_S + 90, UTC), usegmt=True), 90),
        (format_datetime(datetime.fromtimestamp(NOW_S - 90, UTC), usegmt=True), 0),
        ("", None),
        ("-1", None),
        ("1e9", None),
        ("٣", None),
        ("9" * 100, None),
        ("soon", None),
        ("Mon, 99 Foo 2026 99:99:99 GMT", None),
        ("Fri, 01 Jan 99999 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, asked_s: float | None) -> None:
    assert retry_after_s(text, NOW_S) == asked_s
