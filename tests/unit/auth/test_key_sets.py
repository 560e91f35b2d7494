import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.util import int_to_base64

from broker.auth.key_sets import MAX_ID_CHARACTERS, MAX_KEYS, BadKeySet, read_keys

EC = ECKey.generate_key("P-256", {"kid": "ec"}).as_dict(private=False)
RSA = RSAKey.generate_key(2048, {"kid": "rsa"}).as_dict(private=False)


def ids(*keys: object) -> list[str | None]:
    return [key.kid for key in read_keys(json.dumps({"keys": [*keys]}).encode()).keys]


def test_keys_for_signatures_are_read() -> None:
    assert ids(EC, RSA, {**EC, "kid": "a", "use": "sig", "alg": "ES256", "key_ops": ["verify"]}) == ["ec", "rsa", "a"]


def unfit() -> dict[str, Any]:
    small = rsa.generate_private_key(65537, 1024).public_key()
    return {
        "for encryption": {**RSA, "use": "enc"},
        "for another operation": {**RSA, "key_ops": ["encrypt"]},
        "operations that are no list": {**RSA, "key_ops": "verify"},
        "for another algorithm": {**RSA, "alg": "PS256"},
        "for an algorithm of the other kind of key": {**RSA, "alg": "ES256"},
        "a shared secret": OctKey.generate_key(256).as_dict(),
        "another curve": ECKey.generate_key("P-384").as_dict(private=False),
        "Edwards": OKPKey.generate_key("Ed25519").as_dict(private=False),
        "of a kind to come": {"kty": "AKP", "alg": "ML-DSA-44", "pub": "x"},
        "a short modulus": _jwk(small),
        "a long modulus": {**RSA, "n": "v" * 1_400},
        "a long exponent": {**RSA, "e": "AQAB" * 100},
        "an exponent of one": {**RSA, "e": "AQ"},
        "an even exponent": {**RSA, "e": "Ag"},
        "no modulus": {"kty": "RSA", "e": "AQAB"},
        "a modulus that is no text": {**RSA, "n": 7},
        "a modulus that is no base64": {**RSA, "n": "é" * 400},
        "a point beside the curve": {**EC, "x": EC["y"], "y": EC["x"]},
        "an id that is no text": {**EC, "kid": 7},
        "a long id": {**EC, "kid": "x" * (MAX_ID_CHARACTERS + 1)},
        "no object": "key",
        "nothing": {},
        "a kind that is no text": {"kty": []},
    }


def _jwk(key: rsa.RSAPublicKey) -> dict[str, Any]:
    numbers = key.public_numbers()
    return {"kty": "RSA", "kid": "small", "n": int_to_base64(numbers.n), "e": int_to_base64(numbers.e)}


def test_what_is_of_no_use_is_left_out() -> None:
    for what, key in unfit().items():
        assert ids(key, EC) == ["ec"], what


def test_a_private_part_that_was_published_is_not_kept() -> None:
    (key,) = read_keys(json.dumps({"keys": [RSAKey.generate_key(2048).as_dict(private=True)]}).encode()).keys
    assert not key.is_private


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": []}',
        b'{"keys": [{"kty": "oct", "k": "eA"}]}',
        b'{"keys":' + b"[" * 100_000,
        b"\xff",
    ],
)
def test_what_is_no_key_set_is_refused(content: bytes) -> None:
    with pytest.raises(BadKeySet):
        read_keys(content)


def test_more_keys_than_any_issuer_has_are_refused() -> None:
    assert len(ids(*[EC] * MAX_KEYS)) == MAX_KEYS
    with pytest.raises(BadKeySet, match="more than"):
        ids(*[EC] * (MAX_KEYS + 1))
