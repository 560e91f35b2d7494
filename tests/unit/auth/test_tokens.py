import base64
import json
from datetime import timedelta
from pathlib import Path

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from broker.auth.key_files import BadKeys
from broker.auth.keys import BrokerKeys, load_keys
from broker.auth.tokens import Tokens
from broker.domain.errors import Rejected
from broker.domain.scopes import scopes_of_user

HOUR = timedelta(hours=1)
BROKEN_HEADERS: list[object] = [{"alg": "ES256", "crit": None}, {"alg": "ES256", "crit": [None]}, [], "x"]
"""The library uses parts of these before it looks at what they are."""


@pytest.fixture
def keys(tmp_path: Path) -> BrokerKeys:
    return load_keys(tmp_path / "keys")


def test_a_token_speaks_for_its_subject_until_its_end(keys: BrokerKeys) -> None:
    now = [1_000]
    tokens = Tokens(keys, lambda: now[0])
    token = tokens.issue("alice", scopes_of_user("alice"), HOUR)

    principal = tokens.verify(token)
    assert (principal.subject, principal.scopes) == ("alice", scopes_of_user("alice"))

    now[0] += 3_599
    assert tokens.verify(token) == principal
    now[0] += 1
    with pytest.raises(Rejected, match="expired"):
        tokens.verify(token)
    with pytest.raises(Rejected, match="expired"):
        Tokens(keys, lambda: now[0]).verify(token)


def test_a_token_is_not_good_before_its_time(keys: BrokerKeys) -> None:
    token = Tokens(keys, lambda: 2_000).issue("alice", scopes_of_user("alice"), HOUR)

    with pytest.raises(Rejected):
        Tokens(keys, lambda: 1_999).verify(token)


@pytest.mark.parametrize(
    ("header", "claims"),
    [
        ({"typ": "JWT"}, {}),
        ({}, {"iss": "urn:uuid:somebody-else"}),
        ({}, {"aud": "another-service"}),
        ({}, {"exp": None}),
        ({}, {"nbf": None}),
        ({}, {"jti": None}),
        ({}, {"scope": "queue.read:/alice/../bob"}),
    ],
)
def test_every_claim_is_checked(keys: BrokerKeys, header: dict[str, str], claims: dict[str, str | None]) -> None:
    good = {
        "iss": keys.issuer,
        "aud": keys.issuer,
        "sub": "alice",
        "exp": 2_000,
        "nbf": 1,
        "jti": "1",
        "scope": "queue.read:/alice",
    }
    whole = {"alg": "ES256", "typ": "at+jwt", "kid": keys.signing.kid}

    def made(header: dict[str, str], claims: dict[str, str | None]) -> str:
        kept = {name: value for name, value in {**good, **claims}.items() if value is not None}
        return jwt.encode({**whole, **header}, kept, keys.signing, algorithms=["ES256"])

    tokens = Tokens(keys, lambda: 1_000)
    assert tokens.verify(made({}, {})).subject == "alice"
    with pytest.raises(Rejected):
        tokens.verify(made(header, claims))


def test_a_token_of_another_key_or_algorithm_is_refused(keys: BrokerKeys) -> None:
    claims = {"iss": keys.issuer, "aud": keys.issuer, "sub": "a", "exp": 9_999_999_999, "nbf": 1, "jti": "1"}
    header = {"typ": "at+jwt", "kid": keys.signing.kid}
    other = ECKey.generate_key("P-256")
    shared = OctKey.generate_key(256)
    forged = (
        jwt.encode({**header, "alg": "ES256"}, dict(claims), other, algorithms=["ES256"]),
        jwt.encode({**header, "alg": "HS256"}, dict(claims), shared, algorithms=["HS256"]),
        *(f"{unsigned(head)}.e30.AAAA" for head in BROKEN_HEADERS),
        "a.b.c",
        "",
        "é" * 10,
    )
    for token in forged:
        with pytest.raises(Rejected):
            Tokens(keys).verify(token)


def unsigned(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def test_keys_are_made_once_private_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    first, second = load_keys(folder), load_keys(folder)

    assert (first.issuer, first.mac.current) == (second.issuer, second.mac.current)
    token = Tokens(first).issue("alice", scopes_of_user("alice"), HOUR)
    assert Tokens(second).verify(token).subject == "alice"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_keys_that_others_can_read_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    load_keys(folder)
    (folder / "mac.json").chmod(0o640)

    with pytest.raises(BadKeys, match="chmod 600"):
        load_keys(folder)


def test_a_second_key_verifies_what_the_first_one_made(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    old = load_keys(folder)
    made = old.mac.make("x")
    stored = json.loads((folder / "mac.json").read_text())
    stored["keys"]["new"] = stored["keys"][old.mac.current]
    (folder / "mac.json").write_text(json.dumps({**stored, "current": "new"}))

    assert load_keys(folder).mac.verify(old.mac.current, made, "x")
