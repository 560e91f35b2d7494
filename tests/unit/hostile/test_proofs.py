"""What proves a right: tickets, lease tokens, signed addresses, tokens. Only what the broker made is good."""

import base64
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from broker.auth.keys import BrokerKeys, MacKeys, load_keys
from broker.auth.tickets import (
    hash_claim_key,
    hash_nonce,
    make_lease_token,
    make_nonce,
    make_ticket,
    parse_lease_token,
    verify_ticket,
)
from broker.auth.tokens import Tokens
from broker.auth.urls import SignedUrls
from broker.domain.errors import Rejected
from broker.domain.scopes import scopes_of_user
from broker.wire.names import DispatchId, ItemRef, StreamRef, UserName
from broker.wire.problems import ProblemCode
from tests.unit.hostile.inputs import fuzz, json_values, texts

KEYS = MacKeys("k1", {"k1": b"x" * 32, "k0": b"y" * 32})
DISPATCH = DispatchId("0b0f8f4e-6d5a-4c8e-9b1e-2f6a7d3c9e10")
TICKET = make_ticket(KEYS, DISPATCH)
CLAIM_KEY = base64.b64encode(b"z" * 32).decode()
ITEM = ItemRef(StreamRef(UserName("a.l"), "r.1"), 17)
NOW_S = 1_000_000
PATH = "/v1/files/alice/out é.txt"
URLS = SignedUrls(KEYS, "https://b.example", lambda: NOW_S)
_HEADERS = {"alg": "ES256", "typ": "at+jwt"}
names = st.sampled_from(["a", "alice", "a.b", "a-b_c", "A" * 63, "1.2.3", "vl1.0"])


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> BrokerKeys:
    return load_keys(Path(tmp_path_factory.mktemp("keys")) / "keys")


def mangled(text: str) -> st.SearchStrategy[str]:
    """Return the text with something cut out, and something else in its place."""
    places = st.integers(0, len(text))
    return st.builds(lambda one, two, put: text[: min(one, two)] + put + text[max(one, two) :], places, places, texts)


def refusal_of(error: Rejected) -> ProblemCode:
    assert error.detail
    return error.code


@fuzz
@given(st.one_of(texts, mangled(TICKET)))
@example(TICKET.upper())
@example(TICKET + "\n")
@example(TICKET.replace(".k1.", ".k0."))
@example(f"vt1.0.{DISPATCH}.k1.\u0663")
@example(f"vt1.0.{DISPATCH}.k1.\udcff")
@example(f"vt1.0.{{{DISPATCH}}}.k1.x")
def test_a_ticket_is_one_that_was_made_to_the_last_character(text: str) -> None:
    try:
        ticket = verify_ticket(KEYS, text)
    except Rejected as error:
        assert refusal_of(error) is ProblemCode.UNAUTHENTICATED
        assert text != TICKET
        return
    assert text == TICKET
    assert ticket.dispatch == DISPATCH


@fuzz
@given(names, names, st.integers(1, 10**15 - 1), st.integers(1, 10**15 - 1))
def test_a_lease_token_is_read_as_it_was_made_whatever_dots_its_names_have(
    user: str, job: str, number: int, fence: int
) -> None:
    nonce = make_nonce(KEYS, verify_ticket(KEYS, TICKET), hash_claim_key(CLAIM_KEY))
    item = ItemRef(StreamRef(UserName(user), job), number)

    claim = parse_lease_token(make_lease_token(item, fence, nonce))

    assert claim == (item, fence, hash_nonce(nonce))


@fuzz
@given(st.one_of(texts, mangled(make_lease_token(ITEM, 3, "k1.abc"))))
@example("vl1.0.alice/r/1.1..")
@example("vl1.0.alice/r/\u0661.1.k.m")
def test_a_lease_token_names_what_is_written_in_it_or_is_refused(text: str) -> None:
    try:
        claim = parse_lease_token(text)
    except Rejected as error:
        assert refusal_of(error) is ProblemCode.UNAUTHENTICATED
        return
    assert text.startswith(f"vl1.0.{claim.item}.{claim.fence}.")
    assert len(claim.nonce_hash) == 64


@fuzz
@given(texts)
def test_a_claim_key_is_long_enough_or_refused(text: str) -> None:
    try:
        hash_claim_key(text)
    except Rejected as error:
        assert refusal_of(error) is ProblemCode.BAD_REQUEST
        return
    assert 40 <= len(text) <= 256
    assert text.isascii()


def _signed() -> dict[str, str]:
    query = URLS.sign("GET", PATH).partition("?")[2]
    return dict(pair.split("=", 1) for pair in query.split("&"))


@fuzz
@given(
    st.sampled_from(["GET", "PUT", "HEAD", "get", "DELETE", ""]),
    st.one_of(st.just(PATH), texts, mangled(PATH)),
    st.fixed_dictionaries({name: st.one_of(st.just(value), texts) for name, value in _signed().items()}),
)
@example("GET", PATH, {**_signed(), "expires": "9" * 30})
@example("GET", PATH, {**_signed(), "signature": "\udcff"})
@example("GET", PATH + "\udcff", _signed())
def test_a_signed_address_is_good_for_what_was_signed_alone(method: str, path: str, query: dict[str, str]) -> None:
    try:
        URLS.check(method, path, query)
    except Rejected as error:
        assert refusal_of(error) is ProblemCode.FORBIDDEN
        return
    assert (method, path, query) == ("GET", PATH, _signed())


@settings(fuzz, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_token_speaks_for_nobody_unless_it_was_signed(keys: BrokerKeys, data: st.DataObject) -> None:
    tokens = Tokens(keys, lambda: NOW_S)
    good = tokens.issue("alice", scopes_of_user("alice"), timedelta(hours=1))
    text = data.draw(st.one_of(texts, mangled(good), _made_up(good)))
    try:
        principal = tokens.verify(text)
    except Rejected as error:
        assert refusal_of(error) is ProblemCode.UNAUTHENTICATED
        return
    assert principal == tokens.verify(good)


@pytest.mark.parametrize("header", [[], None, 1, "x", {"crit": None}, {"crit": [None]}, {"kid": {}}, {"alg": []}])
def test_a_header_that_no_library_expects_is_refused(keys: BrokerKeys, header: Any) -> None:
    tokens = Tokens(keys, lambda: NOW_S)
    _, claims, signature = tokens.issue("alice", scopes_of_user("alice"), timedelta(hours=1)).split(".")
    made_up = {**_HEADERS, **header} if isinstance(header, dict) else header

    with pytest.raises(Rejected, match="did not issue it"):
        tokens.verify(f"{_encoded(made_up)}.{claims}.{signature}")


def _made_up(good: str) -> st.SearchStrategy[str]:
    """Return what has the parts of a JWT, with anything in them, and maybe with parts of a good one."""
    headers = st.one_of(
        json_values,
        st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jwk", "jku", "zip"]), json_values).map(
            lambda said: {**_HEADERS, **said}
        ),
        st.sampled_from(["none", "None", "HS256", "ES384", "", None, 1]).map(lambda alg: {**_HEADERS, "alg": alg}),
    )
    head, claims, signature = good.split(".")
    parts = (
        st.one_of(st.just(head), headers.map(_encoded)),
        st.one_of(st.just(claims), json_values.map(_encoded)),
        st.one_of(st.just(signature), st.just(""), st.binary(max_size=70).map(_base64)),
    )
    return st.tuples(*parts).map(".".join)


def _encoded(value: Any) -> str:
    return _base64(json.dumps(value).encode())


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
