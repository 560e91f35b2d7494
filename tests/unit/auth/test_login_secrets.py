import pytest

from broker.auth.keys import MacKeys
from broker.auth.login_secrets import hash_code, is_login, make_code, make_login, verify_login
from broker.domain.errors import Rejected

KEYS = MacKeys("k2", {"k1": b"1" * 32, "k2": b"2" * 32})
LOGIN = "0e8f1a3c-1111-4222-8333-444455556666"


def test_codes_are_of_letters_that_are_not_mistaken_and_all_different() -> None:
    codes = {make_code() for _ in range(1_000)}

    assert len(codes) == 1_000
    assert not set("01ILOU-") & {char for code in codes for char in code.replace("-", "")}
    assert {len(code) for code in codes} == {29}


def test_a_code_is_known_however_it_was_typed_and_by_its_hash_alone() -> None:
    code = make_code()

    assert hash_code(code.lower()) == hash_code(code.replace("-", " ")) == hash_code(f" {code}\n")
    assert code.replace("-", "") not in hash_code(code).upper()
    for text in ("", code[:-1], f"{code}A", code * 2, "é" * 25):
        with pytest.raises(Rejected, match="no one-time code"):
            hash_code(text)


def test_a_login_is_derived_and_proves_itself() -> None:
    secret = make_login(KEYS, LOGIN)

    assert secret == make_login(KEYS, LOGIN)
    assert is_login(secret)
    assert verify_login(KEYS, secret) == LOGIN
    assert verify_login(KEYS, make_login(MacKeys("k1", KEYS.by_id), LOGIN)) == LOGIN


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1],
        lambda text: text.replace(LOGIN, "0e8f1a3c-1111-4222-8333-444455556667"),
        lambda text: text.replace(LOGIN, LOGIN.upper()),
        lambda text: text.replace(".k2.", ".k1."),
        lambda text: text.replace(".k2.", ".k3."),
        lambda text: text.replace("vr1", "vl1"),
        lambda text: f"{text}.x",
        lambda text: f"{text[:-1]}é",
        lambda _: "vr1",
        lambda _: "",
    ],
)
def test_a_login_that_was_changed_is_none(change: object) -> None:
    assert callable(change)
    with pytest.raises(Rejected, match="log in again"):
        verify_login(KEYS, change(make_login(KEYS, LOGIN)))
