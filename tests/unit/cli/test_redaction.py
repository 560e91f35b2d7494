import pytest

from broker.cli.redaction import without_secrets, without_values

_DISPATCH = "0b0f8f4e-6d5a-4c8e-9b1e-2f6a7d3c9e10"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"ticket vt1.0.{_DISPATCH}.k1.AbC-_9", "ticket (left-out)"),
        ('"lease":"vl1.0.alice/my.render/17.3.k1.AbC-_9"', '"lease":"(left-out)"'),
        ("token=eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln-_", "token=(left-out)"),
        ("authorization: Bearer dmwxLjAuYWxpY2U=", "authorization: Bearer (left-out)"),
        ("http://vm-1:pass%40word@10.0.2.2:3128/", "http://(left-out)@10.0.2.2:3128/"),
        ("HTTPS://s3.example/b/k?X-Amz-Signature=abc&e=1 next", "HTTPS://s3.example/b/k?(left-out) next"),
        (
            "https://alice@host.example:8642/v1/files/a?signature=abc",
            "https://(left-out)@host.example:8642/v1/files/a?(left-out)",
        ),
    ],
)
def test_what_opens_a_door_is_left_out(text: str, kept: str) -> None:
    assert without_secrets(text.encode()) == kept.encode()


@pytest.mark.parametrize(
    "text",
    ["v1.2.3 of vt100", "file:alice/render/in?x", "https://host.example/a/b.txt, why?", "mail a@b.example", "\x1b[0m"],
)
def test_other_text_stays_as_it_was(text: str) -> None:
    assert without_secrets(text.encode()) == text.encode()


def test_bytes_that_are_no_text_stay_as_they_were() -> None:
    assert without_secrets(bytes(range(256))) == bytes(range(256))


def test_parameters_keep_their_names_alone() -> None:
    assert without_values({"password": "secret"}) == {"password": "(left-out: 6 characters)"}
