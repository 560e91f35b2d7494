import base64
import secrets
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.masking import LEAST_BYTES, MASK, mask

KEY = base64.encodebytes(bytes(range(200))).decode()
PEM = f"-----BEGIN PRIVATE KEY-----\n{KEY}-----END PRIVATE KEY-----\n".encode()
TOKEN = b"eyJhbGciOi+/JFUzI1NiJ9.e30.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    "shown",
    [
        TOKEN,
        base64.b64encode(TOKEN),
        base64.urlsafe_b64encode(TOKEN),
        base64.b64encode(TOKEN).rstrip(b"="),
        quote(TOKEN, safe="").encode(),
        quote_plus(TOKEN).encode(),
    ],
    ids=["whole", "base64", "base64url", "without padding", "quoted", "quoted for a form"],
)
def test_each_way_in_which_a_token_is_printed_is_masked(shown: bytes) -> None:
    masked = mask(b"before " + shown + b" after, and once more: " + shown, [TOKEN])
    assert masked.startswith(b"before " + MASK)
    assert shown.rstrip(b"=") not in masked
    assert b" after, and once more: " in masked


def test_each_line_of_a_key_is_masked_wherever_it_stands() -> None:
    lines = [line for line in KEY.encode().splitlines() if len(line) >= LEAST_BYTES]
    said = b"".join(b"openssl: " + line + b"\r\n" for line in reversed(lines))
    assert mask(said, [PEM]) == b"openssl: [secret]\r\n" * len(lines)


@pytest.mark.parametrize("wrap", [64, 76], ids=["as PEM wraps", "as base64(1) wraps"])
def test_a_file_in_base64_is_masked_however_it_is_wrapped(wrap: int) -> None:
    text = base64.b64encode(PEM)
    lines = [text[at : at + wrap] for at in range(0, len(text), wrap)]
    masked = mask(b"\n".join(lines), [PEM])
    assert [line for line in lines if line.rstrip(b"=") in masked and len(line) > LEAST_BYTES] == []


def test_a_whole_file_is_one_mask() -> None:
    assert mask(b"<" + PEM + b">", [PEM]) == b"<" + MASK + b">"


@pytest.mark.parametrize("cut", [1, 7, len(TOKEN) - LEAST_BYTES])
def test_what_is_left_of_a_secret_at_the_start_of_a_cut_tail_is_masked(cut: int) -> None:
    assert mask(TOKEN[cut:] + b"\nthe rest", [TOKEN]) == MASK + b"\nthe rest"


def test_what_is_no_secret_stays_as_it_is() -> None:
    said = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n" + secrets.token_bytes(65_000)
    assert mask(said, [PEM, TOKEN]) == said
    assert mask(said, []) == said
    assert mask(b"short", [TOKEN]) == b"short"


@given(
    st.lists(st.binary(min_size=LEAST_BYTES, max_size=40), min_size=1, max_size=4),
    st.lists(st.binary(max_size=20), min_size=5, max_size=5),
)
def test_of_any_secrets_in_any_words_none_is_left(hidden: list[bytes], between: list[bytes]) -> None:
    said = between[0] + b"".join(secret + words for secret, words in zip(hidden, between[1:], strict=False))
    masked = mask(said, hidden)
    assert [secret for secret in hidden if secret in masked and secret not in MASK] == []
