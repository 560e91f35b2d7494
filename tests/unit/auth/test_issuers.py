"""Tokens of outside issuers, given their keys."""

import base64
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
import scitokens
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, Key, KeySet, RSAKey

from broker.auth.issuers import MAX_TOKEN_BYTES, SKEW_S, Named, named_in, verify_id_token, verify_token
from broker.auth.tokens import Principal
from broker.domain.errors import Rejected
from broker.domain.issuers import OutsideIssuer
from broker.domain.scopes import parse_scopes

IAM, BROKER, CLIENT = "https://iam.example/", "https://broker.example", "vmbroker-client"
NOW_S = 1_000_000
ISSUER = OutsideIssuer(issuer=IAM, audience=BROKER, prefixes=(("alice",), ("bob",)), client_id=CLIENT)

EC_KEY = ECKey.generate_key("P-256", {"kid": "ec"})
RSA_KEY = RSAKey.generate_key(2048, {"kid": "rsa"})
KEYS = KeySet([ECKey.import_key(EC_KEY.as_dict(private=False)), RSAKey.import_key(RSA_KEY.as_dict(private=False))])

CLAIMS: dict[str, Any] = {
    "wlcg.ver": "1.0",
    "iss": IAM,
    "aud": BROKER,
    "sub": "alice",
    "iat": NOW_S - 10,
    "nbf": NOW_S - 10,
    "exp": NOW_S + 600,
    "jti": "one",
    "scope": "queue.submit:/alice queue.read storage.read:/",
}
ID_CLAIMS: dict[str, Any] = {"iss": IAM, "aud": CLIENT, "sub": "alice", "iat": NOW_S - 10, "exp": NOW_S + 600}


def signed(claims: dict[str, Any], key: Key = EC_KEY, algorithm: str = "ES256", **header: Any) -> str:
    kept = {name: value for name, value in claims.items() if value is not None}
    whole = {"alg": algorithm, "kid": key.kid, **header}
    whole = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(whole, kept, key, algorithms=[algorithm], default_type=None)


def token(**claims: Any) -> str:
    return signed({**CLAIMS, **claims})


def id_token(**claims: Any) -> str:
    return signed({**ID_CLAIMS, **claims})


def verified(text: str, issuer: OutsideIssuer = ISSUER, keys: KeySet = KEYS, now_s: int = NOW_S) -> Principal:
    return verify_token(text, issuer, keys, lambda: now_s)


def identity(text: str, issuer: OutsideIssuer = ISSUER) -> str:
    return verify_id_token(text, issuer, KEYS, lambda: NOW_S)


def part(data: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(data).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("typ", [None, "JWT", "at+jwt", "application/at+jwt", "AT+JWT"])
@pytest.mark.parametrize(("key", "algorithm"), [(EC_KEY, "ES256"), (RSA_KEY, "RS256")])
def test_a_token_speaks_for_its_user_as_far_as_its_issuer_may(key: Key, algorithm: str, typ: str | None) -> None:
    principal = verified(signed(CLAIMS, key, algorithm, typ=typ))

    assert principal.subject == "alice"
    assert principal.scopes == parse_scopes("queue.submit:/alice queue.read:/alice queue.read:/bob")
    assert principal.expires_at_s == NOW_S + 600
    assert principal.labels == frozenset()


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": [BROKER]},
        {"aud": ["https://other.example", BROKER]},
        {"scope": ["queue.submit:/alice", "queue.read"]},
        {"nbf": None},
        {"nbf": NOW_S + SKEW_S},
        {"iat": NOW_S + SKEW_S},
        {"jti": None},
        {"wlcg.ver": None, "ver": "scitokens:2.0"},
        {"exp": NOW_S + 0.5 + 600},
        {"vmbroker_labels": ["trusted"]},
    ],
)
def test_what_differs_from_issuer_to_issuer_is_taken(claims: dict[str, Any]) -> None:
    principal = verified(token(**claims))

    assert principal.subject == "alice"
    assert principal.scopes.permit(*_SUBMIT)
    assert not principal.labels


_SUBMIT = next((scope.authority, scope.path) for scope in parse_scopes("queue.submit:/alice"))


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://iam.example"},
        {"iss": None},
        {"iss": [IAM]},
        {"aud": "https://other.example"},
        {"aud": f"{BROKER}/"},
        {"aud": ["https://wlcg.cern.ch/jwt/v1/any"]},
        {"aud": "ANY"},
        {"aud": []},
        {"aud": None},
        {"aud": {"x": BROKER}},
        {"exp": NOW_S},
        {"exp": NOW_S - SKEW_S + 1},
        {"exp": None},
        {"exp": str(NOW_S + 600)},
        {"exp": True},
        {"exp": float("nan")},
        {"exp": float("inf")},
        {"nbf": NOW_S + SKEW_S + 1},
        {"iat": NOW_S + SKEW_S + 1},
        {"sub": "carol"},
        {"sub": "alice2"},
        {"sub": None},
        {"sub": 7},
        {"sub": "../alice"},
        {"sub": "alice@iam.example"},
        {"sub": "a" * 64},
        {"scope": "queue.submit:/alice/../bob"},
        {"scope": "queue.submit:/alice%2f..%2fbob"},
        {"scope": "queue.submit:alice"},
        {"scope": ["queue.read", 7]},
        {"scope": {"queue.read": 1}},
        {"wlcg.ver": "2.0"},
    ],
)
def test_every_claim_is_checked(claims: dict[str, Any]) -> None:
    with pytest.raises(Rejected, match=r"https://iam\.example/ is not accepted") as refused:
        verified(token(**claims))

    assert refused.value.code == "unauthenticated"


def test_a_token_ends_though_clocks_differ() -> None:
    text = token(exp=NOW_S + 1)

    assert verified(text, now_s=NOW_S).subject == "alice"
    with pytest.raises(Rejected, match="expired"):
        verified(text, now_s=NOW_S + 1)


def test_the_operators_scope_counts_only_of_an_issuer_for_everybody() -> None:
    everybody = OutsideIssuer(issuer=IAM, audience=BROKER, prefixes=((),))
    text = token(scope="queue.admin queue.read:/carol", sub="carol")

    assert str(verified(text, everybody).scopes) == "queue.admin:/ queue.read:/carol"
    with pytest.raises(Rejected, match="may not speak for carol"):
        verified(text)
    assert not verified(token(scope="queue.admin")).scopes


def test_another_claim_may_name_the_user() -> None:
    issuer = OutsideIssuer(issuer=IAM, audience=BROKER, prefixes=(("alice",),), user_claim="preferred_username")

    assert verified(token(sub="6f1e", preferred_username="alice"), issuer).subject == "alice"
    with pytest.raises(Rejected, match="'preferred_username' is no name of a user here"):
        verified(token(sub="alice"), issuer)


@pytest.mark.parametrize("typ", ["logout+jwt", "secevent+jwt", "dpop+jwt", "JWE"])
def test_a_token_of_another_kind_is_refused(typ: str) -> None:
    with pytest.raises(Rejected, match="another kind"):
        verified(signed(CLAIMS, typ=typ))


def test_no_signature_but_the_issuers_counts() -> None:
    other = ECKey.generate_key("P-256", {"kid": "ec"})
    head, body, signature = token().split(".")
    forged = {
        "another key by the same id": signed(CLAIMS, other),
        "an unknown key": signed(CLAIMS, ECKey.generate_key("P-256", {"kid": "new"})),
        "none": f"{part({'alg': 'none', 'kid': 'ec'})}.{body}.",
        "None": f"{part({'alg': 'None'})}.{body}.",
        "HS256 by the public key": mac_by(RSA_KEY.as_pem(private=False), body, "rsa"),
        "HS256 by a key's id": mac_by(b"ec", body, "ec"),
        "a public key within": signed(CLAIMS, other, kid=None, jwk=other.as_dict(private=False)),
        "the other kind of key": signed(CLAIMS, EC_KEY, kid="rsa"),
        "no signature": f"{head}.{body}.",
        "another body": f"{head}.{part({**CLAIMS, 'sub': 'bob'})}.{signature}",
        "another algorithm": signed(CLAIMS, RSA_KEY, "PS256"),
        "a critical header": f"{part({'alg': 'ES256', 'kid': 'ec', 'crit': ['x'], 'x': 1})}.{body}.{signature}",
        "nothing that is critical": f"{part({'alg': 'ES256', 'kid': 'ec', 'crit': None})}.{body}.{signature}",
        "critical without a name": f"{part({'alg': 'ES256', 'kid': 'ec', 'crit': [None]})}.{body}.{signature}",
        "a header that is no object": f"{part(['ES256'])}.{body}.{signature}",
        "a list of algorithms": f"{part({'alg': ['ES256'], 'kid': 'ec'})}.{body}.{signature}",
        "a kid that is no text": f"{part({'alg': 'ES256', 'kid': {'x': 1}})}.{body}.{signature}",
        "a deep header": f"{base64.urlsafe_b64encode(b'[' * 5_000).decode()}.{body}.{signature}",
        "too long": signed({**CLAIMS, "x": "x" * MAX_TOKEN_BYTES}),
        "empty": "",
        "dots": "..",
        "not base64": "é.é.é",
    }
    for what, text in forged.items():
        with pytest.raises(Rejected):
            pytest.fail(f"{what} was taken: {verified(text)}")


def test_a_token_without_a_keys_id_is_taken_where_there_is_one_key_for_it() -> None:
    assert verified(signed(CLAIMS, kid=None)).subject == "alice"
    two = KeySet([*KEYS.keys, ECKey.generate_key("P-256", {"kid": "second"})])
    with pytest.raises(Rejected, match="no such key"):
        verified(signed(CLAIMS, kid=None), keys=two)


def test_the_id_of_a_token_is_its_own() -> None:
    elsewhere = OutsideIssuer(issuer="https://other.example", audience=BROKER, prefixes=((),))
    same = verified(token()).token_id

    assert verified(signed(CLAIMS, RSA_KEY, "RS256")).token_id == same
    assert verified(token(jti="two")).token_id != same
    assert verified(token(iss="https://other.example"), elsewhere).token_id != same
    nameless = token(jti=None)
    assert verified(_with_other_signature(nameless)).token_id == verified(nameless).token_id


def mac_by(secret: bytes, body: str, kid: str) -> str:
    signing_input = f"{part({'alg': 'HS256', 'kid': kid})}.{body}"
    mac = base64.urlsafe_b64encode(hmac.digest(secret, signing_input.encode(), "sha256"))
    return f"{signing_input}.{mac.rstrip(b'=').decode()}"


def _with_other_signature(text: str) -> str:
    """Return the token with the second signature that follows from the first: (r, n - s)."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    signing_input, _, signature = text.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    other = raw[:32] + (order - int.from_bytes(raw[32:])).to_bytes(32)
    return f"{signing_input}.{base64.urlsafe_b64encode(other).rstrip(b'=').decode()}"


def test_an_id_token_proves_who_logged_in() -> None:
    assert identity(id_token()) == "alice"
    assert identity(id_token(aud=[CLIENT])) == "alice"
    assert identity(id_token(aud=[CLIENT, "other"], azp=CLIENT)) == "alice"
    assert identity(signed(ID_CLAIMS, RSA_KEY, "RS256", typ="JWT")) == "alice"


@pytest.mark.parametrize(
    "text",
    [
        lambda: id_token(aud="other"),
        lambda: id_token(aud=BROKER),
        lambda: id_token(aud=[CLIENT, "other"]),
        lambda: id_token(aud=[CLIENT, "other"], azp="other"),
        lambda: id_token(azp="other"),
        lambda: id_token(exp=NOW_S),
        lambda: id_token(exp=None),
        lambda: id_token(iat=None),
        lambda: id_token(iat=NOW_S + SKEW_S + 1),
        lambda: id_token(iss="https://other.example"),
        lambda: id_token(sub="carol"),
        lambda: id_token(sub=None),
        lambda: signed(ID_CLAIMS, typ="at+jwt"),
        token,
    ],
)
def test_what_does_not_prove_it_is_refused(text: Callable[[], str]) -> None:
    with pytest.raises(Rejected):
        identity(text())


def test_nobody_logs_in_by_an_issuer_without_a_client() -> None:
    issuer = OutsideIssuer(issuer=IAM, audience=BROKER, prefixes=((),))
    with pytest.raises(Rejected, match="do not log in"):
        identity(id_token(), issuer)


def test_an_id_token_is_no_token() -> None:
    with pytest.raises(Rejected):
        verified(id_token())


@pytest.mark.parametrize(
    "make", [lambda: rsa.generate_private_key(65537, 2048), lambda: ec.generate_private_key(ec.SECP256R1())]
)
def test_what_the_scitokens_library_issues_is_taken(make: Callable[[], Any]) -> None:
    key = make()
    made = scitokens.SciToken(key=key, key_id="theirs")
    made.update_claims({"scope": "queue.submit:/alice file.read:/alice/in", "aud": BROKER, "sub": "alice"})
    text = made.serialize(issuer=IAM, lifetime=600).decode()
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    kind = RSAKey if isinstance(key, rsa.RSAPrivateKey) else ECKey
    keys = KeySet([kind.import_key(pem, {"kid": "theirs"})])

    principal = verify_token(text, ISSUER, keys, lambda: _issued_at_s(text))

    assert str(principal.scopes) == "file.read:/alice/in queue.submit:/alice"
    assert principal.expires_at_s == _issued_at_s(text) + 600


def _issued_at_s(text: str) -> int:
    return int(json.loads(base64.urlsafe_b64decode(text.split(".")[1] + "=="))["iat"])


def test_who_issued_a_token_is_read_before_it_is_verified() -> None:
    assert named_in(token()) == Named(IAM, "ec")
    assert named_in(signed(CLAIMS, kid=None)) == Named(IAM, None)


@pytest.mark.parametrize(
    "text",
    ["", "a.b.c", "..", "a", "é.é.é", "a" * (MAX_TOKEN_BYTES + 1), f"{part({})}.{part({'iss': 7})}.",
     f"{part({'kid': 7})}.{part({'iss': IAM})}.", f"{part({})}.{part([])}.", f"{part({})}.a.",
     f"{part({})}.{base64.urlsafe_b64encode(b'[' * 5_000).decode()}."],
)  # fmt: skip
def test_what_is_no_token_names_nobody(text: str) -> None:
    assert named_in(text) is None


@given(text=st.text(max_size=200) | st.builds(lambda *parts: ".".join(parts), *[st.text(max_size=60)] * 3))
def test_no_text_is_taken_for_a_token(text: str) -> None:
    with pytest.raises(Rejected):
        verified(text)


@given(
    header=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "zip"]), inner, max_size=4)
        ),
    )
)
def test_no_header_is_taken_with_a_wrong_signature(header: object) -> None:
    _, body, signature = token().split(".")
    with pytest.raises(Rejected):
        verified(f"{part(header)}.{body}.{signature}")
