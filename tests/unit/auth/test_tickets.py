import hashlib

import pytest

from broker.auth.keys import MacKeys
from broker.auth.tickets import (
    Ticket,
    hash_claim_key,
    hash_nonce,
    make_lease_token,
    make_nonce,
    make_ticket,
    parse_lease_token,
    verify_ticket,
)
from broker.domain.errors import Rejected
from broker.wire.names import DispatchId, ItemRef, StreamRef, UserName

KEYS = MacKeys("k2", {"k1": b"1" * 32, "k2": b"2" * 32})
DISPATCH = DispatchId("1a2b3c4d-5e6f-4a0b-8c0d-0123456789ab")


def test_a_ticket_is_derived_again_and_verified_by_itself() -> None:
    ticket = make_ticket(KEYS, DISPATCH)

    assert make_ticket(KEYS, DISPATCH) == ticket
    assert verify_ticket(KEYS, ticket) == Ticket(DISPATCH, "k2")


@pytest.mark.parametrize("change", [-1, 4, 20, 45])
def test_a_changed_ticket_is_none(change: int) -> None:
    ticket = list(make_ticket(KEYS, DISPATCH))
    ticket[change] = "0" if ticket[change] != "0" else "1"

    with pytest.raises(Rejected):
        verify_ticket(KEYS, "".join(ticket))


@pytest.mark.parametrize("text", ["", "vt1", "vt1.0.x.k2.m", f"vt1.0.{DISPATCH.upper()}.k2.m", "vl1.0.a/b/1.2.k.m"])
def test_another_text_is_no_ticket(text: str) -> None:
    with pytest.raises(Rejected):
        verify_ticket(KEYS, text)


def test_a_lease_is_the_tickets_keys_even_after_a_rotation() -> None:
    old = MacKeys("k1", {"k1": b"1" * 32})
    ticket = verify_ticket(KEYS, make_ticket(old, DISPATCH))

    claim_key_hash = hash_claim_key("c" * 43)
    assert make_nonce(KEYS, ticket, claim_key_hash) == make_nonce(old, ticket, claim_key_hash)
    assert make_nonce(KEYS, ticket, hash_claim_key("d" * 43)) != make_nonce(KEYS, ticket, claim_key_hash)


def test_a_lease_token_is_read_from_both_ends() -> None:
    item = ItemRef(StreamRef(UserName("a.b"), "c.d.e"), 17)
    token = make_lease_token(item, 3, "k2.the-mac")

    said = parse_lease_token(token)

    assert (said.item, said.fence) == (item, 3)
    assert said.nonce_hash == hash_nonce("k2.the-mac") == hashlib.sha256(b"the-mac").hexdigest()


@pytest.mark.parametrize(
    "token",
    ["", "vl1.0.a/b/1.2.k", "vl1.0.a/b/1.0.k.m", "vl1.0.a/b.2.k.m", "vl1.1.a/b/1.2.k.m", "vl1.0.a/b/1.2.k.\udce9"],
)
def test_another_text_is_no_lease_token(token: str) -> None:
    with pytest.raises(Rejected):
        parse_lease_token(token)


def test_a_claim_key_that_could_be_guessed_is_refused() -> None:
    with pytest.raises(Rejected):
        hash_claim_key("short")


def test_no_two_lists_of_parts_have_one_mac() -> None:
    assert KEYS.make("ab", "c") != KEYS.make("a", "bc")
