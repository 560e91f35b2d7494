import json
from urllib.parse import quote
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.cli.redaction import Redaction, without_values

_DISPATCH = "0b0f8f4e-6d5a-4c8e-9b1e-2f6a7d3c9e10"
_KEY = "MIIEpAIBAAKCAQEA7\r\nq2Zt+/9Xw==\r\n"
_PROXY = (
    "-----BEGIN CERTIFICATE-----\nMIIBpublic\n-----END CERTIFICATE-----\n"
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEprivate\nkey+/==\n-----END RSA PRIVATE KEY-----\n"
    "-----BEGIN CERTIFICATE-----\nMIICissuer\n-----END CERTIFICATE-----\n"
)
_VALUES = st.text(st.characters(codec="utf-8", exclude_characters="(left-ou)"), min_size=6, max_size=20)


def _without_secrets(text: str) -> str:
    return Redaction().of(text.encode()).decode()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"ticket vt1.0.{_DISPATCH}.k1.AbC-_9", "ticket (left-out)"),
        ('"lease":"vl1.0.alice/my.render/17.3.k1.AbC-_9"', '"lease":"(left-out)"'),
        ("token=eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln-_", "token=(left-out)"),
        ("said bearer dmwxLjAuYWxpY2U= twice", "said bearer (left-out) twice"),
        ("cloned with ghp_16C7e42F292c6912E7710c838347Ae178B4a.", "cloned with (left-out)."),
        ("http://vm-1:pass%40word@10.0.2.2:3128/", "http://(left-out)@10.0.2.2:3128/"),
        ("HTTPS://s3.example/b/k?X-Amz-Signature=abc&e=1 next", "HTTPS://s3.example/b/k?(left-out) next"),
        (r'{"url": "https:\/\/h\/p?sig=abc", "n": 1}', r'{"url": "https:\/\/h\/p?(left-out)", "n": 1}'),
        (
            "https://alice@host.example:8642/v1/files/a?signature=abc",
            "https://(left-out)@host.example:8642/v1/files/a?(left-out)",
        ),
    ],
)
def test_what_opens_a_door_is_left_out(text: str, kept: str) -> None:
    assert _without_secrets(text) == kept


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("> Authorization: Bearer dmwx\r\n> Host: h\r\n", "> Authorization: Bearer (left-out)\r\n> Host: h\r\n"),
        ("Authorization: Negotiate YIIJvwYGKw\n", "Authorization: Negotiate (left-out)\n"),
        ('proxy-authorization: Digest username="a", response="b"', "proxy-authorization: Digest (left-out)"),
        ("X-Api-Key: 0f3a\nnext", "X-Api-Key: (left-out)\nnext"),
        ("Set-Cookie: session=abc; Path=/\nnext", "Set-Cookie: (left-out)\nnext"),
        ("{'X-Api-Key': 'a b', 'Host': 'h'}", "{'X-Api-Key': '(left-out)', 'Host': 'h'}"),
        (r'"{\"password\": \"a b\", \"n\": 1}"', r'"{\"password\": \"(left-out)\", \"n\": 1}"'),
        ("AWS_SECRET_ACCESS_KEY=abc/def+ HOME=/root", "AWS_SECRET_ACCESS_KEY=(left-out) HOME=/root"),
        ("DB_PASSWORD='a b' run --token=xyz -v", "DB_PASSWORD='(left-out)' run --token=(left-out) -v"),
        ("CLIENT_SECRET = x", "CLIENT_SECRET = (left-out)"),
    ],
)
def test_the_value_of_a_header_or_setting_that_names_a_secret_is_left_out(text: str, kept: str) -> None:
    assert _without_secrets(text) == kept


def test_private_keys_of_a_grid_proxy_are_left_out_and_its_certificates_stay() -> None:
    certificate, _, rest = _PROXY.partition("-----BEGIN RSA")
    issuer = rest.partition("END RSA PRIVATE KEY-----\n")[2]

    assert _without_secrets(_PROXY) == f"{certificate}(left-out)\n{issuer}"
    assert _without_secrets(json.dumps(_PROXY)) == json.dumps(f"{certificate}(left-out)\n{issuer}")


@pytest.mark.parametrize("kind", ["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "])
def test_a_private_key_is_left_out_even_where_a_text_begins_or_ends_within_it(kind: str) -> None:
    begin, end = f"-----BEGIN {kind}PRIVATE KEY-----\r\n", f"-----END {kind}PRIVATE KEY-----"

    assert _without_secrets(f"a\n{begin}{_KEY}{end}\nb") == "a\n(left-out)\nb"
    assert _without_secrets(f"{_KEY}{end}\nb") == "(left-out)\nb"
    assert _without_secrets(f"a\n{begin}{_KEY}") == "a\n(left-out)"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("get https://h/p?sig=abc\r\ndef9 done\r\n", "get https://h/p?(left-out) done\r\n"),
        (f"https://h/p?{'a' * 60}\r\n{'b' * 80}\r\n{'c' * 9}\r\nlogin: ", "https://h/p?(left-out)\r\nlogin: "),
        ("https://h/p?sig=abc\r\n[    1.2] up", "https://h/p?(left-out)\r\n[    1.2] up"),
        (f"Authorization: Negotiate {'Y' * 60}\r\n{'Z' * 30}\r\n", "Authorization: Negotiate (left-out)\r\n"),
        ("https://h/p?sig=abc\nwhat a program wrote", "https://h/p?(left-out)\nwhat a program wrote"),
    ],
)
def test_a_secret_that_the_console_broke_into_lines_is_left_out_to_its_end(text: str, kept: str) -> None:
    assert _without_secrets(text) == kept


@pytest.mark.parametrize(
    "text",
    [
        "v1.2.3 of vt100",
        "file:alice/render/in?x",
        "https://host.example/a/b.txt, why?",
        "mail a@b.example",
        "\x1b[0m",
        "the token is not accepted: log in again",
        "monkey=3 keyboard: us, another claim key: taken back",
        "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
    ],
)
def test_other_text_stays_as_it_was(text: str) -> None:
    assert _without_secrets(text) == text


def test_bytes_that_are_no_text_stay_as_they_were() -> None:
    assert Redaction().of(bytes(range(256))) == bytes(range(256))


@given(_VALUES, st.text(), st.text())
def test_a_value_is_left_out_wherever_and_however_it_is_written(value: str, before: str, after: str) -> None:
    redaction = Redaction([value])
    written = [value, escape(value), json.dumps(value)[1:-1], quote(value), value.replace("\n", "\r\n")]

    for form in written:
        assert form.encode() not in redaction.of(f"{before} {form}\n{after}".encode())
    assert value not in redaction.of_builtins({"seen": [f"{before}{value}{after}"]})["seen"][0]


def test_a_value_does_not_hide_the_shape_of_a_secret_around_it() -> None:
    redaction = Redaction(["https://h", "Authorization", "short"])

    kept = redaction.of(b"https://h/p?sig=abc\nAuthorization: Negotiate YII\nshort")

    assert kept == b"(left-out)/p?(left-out)\n(left-out): Negotiate (left-out)\nshort"


def test_names_of_fields_and_values_that_are_no_text_stay() -> None:
    said = {"secret": "vt1.0.abc", "outputs": [{"size": 3, "url": None}]}

    kept = Redaction(["outputs"]).of_builtins(said)

    assert kept == {"secret": "(left-out)", "outputs": [{"size": 3, "url": None}]}


def test_parameters_keep_their_names_alone() -> None:
    assert without_values({"password": "secret"}) == {"password": "(left-out: 6 characters)"}
