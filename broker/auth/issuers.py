"""Tokens of outside issuers, in the WLCG or SciTokens profile, and their ID tokens; given the issuer's keys.

The broker's own tokens are checked in `tokens`. These differ: other keys and algorithms, a header's type that varies,
clocks that differ a little, and scopes that count only within the paths the operator gave the issuer. The signature is
checked against that issuer's keys alone, by two fixed algorithms, so neither a key for another use nor a public key
taken for a shared secret verifies anything.

Source: WLCG Common JWT Profiles 1.2; SciTokens claims 2.0; RFC 7517, 7519, 8725, 9068; OpenID Connect Core, 3.1.3.7.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
from joserfc import jwt
from joserfc.errors import ExpiredTokenError, InvalidKeyIdError, JoseError
from joserfc.jwk import GuestProtocol, Key, KeySet
from joserfc.jws import JWSRegistry
from joserfc.jwt import ClaimsOption, JWTClaimsRegistry

from broker.auth.tokens import Principal
from broker.domain.errors import Rejected
from broker.domain.issuers import OutsideIssuer
from broker.domain.paths import BadPath
from broker.domain.scopes import Scopes, parse_scopes
from broker.wire.names import BadName, check_name
from broker.wire.problems import ProblemCode

KEY_TYPES: Final = {"RS256": "RSA", "ES256": "EC"}
"""The algorithms that are accepted, each with the type of its keys."""
SKEW_S: Final = 60
"""By so much an issuer's clock may be ahead: a token that begins then is good. None is good after its end."""
MAX_TOKEN_BYTES: Final = 8_192
_ACCESS_TYPES: Final = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})
_ID_TYPES: Final = frozenset({"", "jwt"})
_WLCG_VERSION: Final = "wlcg.ver"
_JWS: Final = JWSRegistry(algorithms=list(KEY_TYPES), strict_check_header=False)

_Claims = dict[str, Any]


class Named(NamedTuple):
    """Who is said to have issued a token, and by which key; nothing of it is verified."""

    issuer: str
    kid: str | None


class _Header(msgspec.Struct):
    """The library uses these before it checks them. What a header calls critical is not understood here, ever."""

    alg: str
    kid: str | None = None
    typ: str = ""
    crit: msgspec.UnsetType = msgspec.UNSET


class _Body(msgspec.Struct):
    iss: str


def named_in(token: str) -> Named | None:
    """Return what a token says of its origin, None when it is no token."""
    if len(token) > MAX_TOKEN_BYTES or not token.isascii() or token.count(".") != 2:
        return None
    header, body, _ = token.split(".")
    try:
        kid = msgspec.json.decode(_unfolded(header), type=_Header).kid
        return Named(msgspec.json.decode(_unfolded(body), type=_Body).iss, kid)
    except (msgspec.DecodeError, binascii.Error, UnicodeDecodeError, RecursionError):
        return None


def verify_token(token: str, issuer: OutsideIssuer, keys: KeySet, now_s: Callable[[], int]) -> Principal:
    """Return whom an outside issuer's token speaks for, and what of its scopes counts.

    Raises:
        Rejected: `unauthenticated`; its sentence says what to do.
    """
    refuse = _Refuse(issuer.issuer)
    audience: ClaimsOption = {"essential": True, "value": issuer.audience}
    claims = _claims(token, issuer, keys, now_s, _ACCESS_TYPES, {"aud": audience})
    if not str(claims.get(_WLCG_VERSION, "1.")).startswith("1."):
        raise refuse("it is of a version of the WLCG profile that is not known here")
    try:
        scopes = issuer.cut(_scopes(claims.get("scope", "")))
    except (BadPath, ValueError) as error:
        raise refuse(str(error)) from error
    user, token_id = _user(claims, issuer), _token_id(token, claims)
    return Principal(user, scopes, token_id, int(claims["exp"]), issuer=issuer.issuer)


def verify_id_token(token: str, issuer: OutsideIssuer, keys: KeySet, now_s: Callable[[], int]) -> str:
    """Return the name of the user whose login an ID token proves.

    Raises:
        Rejected: `unauthenticated`; its sentence says what to do.
    """
    refuse = _Refuse(issuer.issuer)
    if issuer.client_id is None:
        raise refuse("people do not log in by this issuer here")
    audience: ClaimsOption = {"essential": True, "value": issuer.client_id}
    claims = _claims(token, issuer, keys, now_s, _ID_TYPES, {"aud": audience, "iat": {"essential": True}})
    is_for_several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if claims.get("azp", None if is_for_several else issuer.client_id) != issuer.client_id:
        raise refuse("it was issued to another client")
    return _user(claims, issuer)


def _claims(
    token: str,
    issuer: OutsideIssuer,
    keys: KeySet,
    now_s: Callable[[], int],
    types: frozenset[str],
    options: dict[str, ClaimsOption],
) -> _Claims:
    refuse = _Refuse(issuer.issuer)
    wanted: dict[str, ClaimsOption] = {
        "iss": {"essential": True, "value": issuer.issuer},
        "exp": {"essential": True},
        **options,
    }
    if named_in(token) is None:
        raise refuse("it is longer than any of its tokens, or no token")
    try:
        decoded = jwt.decode(token, lambda signed: _key_of(signed, keys), registry=_JWS)
        if str(decoded.header.get("typ", "")).lower() not in types:
            raise refuse("it is a token of another kind")
        JWTClaimsRegistry(now=now_s, leeway=SKEW_S, **wanted).validate(decoded.claims)
    except ExpiredTokenError as error:
        raise refuse("it has expired") from error
    except InvalidKeyIdError as error:
        raise refuse("its issuer shows no such key; if it changed its keys just now, try again in a minute") from error
    except (JoseError, ValueError, RecursionError) as error:
        raise refuse(f"it was changed, or is none for this broker ({type(error).__name__})") from error
    if decoded.claims["exp"] <= now_s():
        raise refuse("it has expired")
    return decoded.claims


def _key_of(signed: GuestProtocol, keys: KeySet) -> Key:
    """Choose the key that a token names; one that names none is verified where there is no choice."""
    header = signed.headers()
    algorithm, kid = header["alg"], header.get("kid")
    fitting = [key for key in keys.keys if key.key_type == KEY_TYPES.get(algorithm)]
    if kid is not None:
        fitting = [key for key in fitting if key.kid == kid][:1]
    if len(fitting) != 1:
        raise InvalidKeyIdError("there is no such key, or more than one")
    return fitting[0]


def _scopes(claim: object) -> Scopes:
    """Read a `scope` claim: words with spaces between (RFC 8693), or a list of words, as some issuers write it.

    Raises:
        BadPath, ValueError: it cannot be read.
    """
    claimed: list[object] = claim if isinstance(claim, list) else [claim]
    words = [word for word in claimed if isinstance(word, str)]
    if len(words) < len(claimed):
        raise ValueError("its scopes are no words")
    return parse_scopes(" ".join(words))


def _user(claims: _Claims, issuer: OutsideIssuer) -> str:
    refuse = _Refuse(issuer.issuer)
    value = claims.get(issuer.user_claim)
    try:
        user = check_name(value if isinstance(value, str) else "", "user")
    except BadName as error:
        raise refuse(
            f"its claim {issuer.user_claim!r} is no name of a user here: the operator can name another claim, by "
            "`user_claim`"
        ) from error
    if not issuer.speaks_for(user):
        raise refuse(f"its issuer may not speak for {user}: the operator gives it that right, by `paths`")
    return user


def _token_id(token: str, claims: _Claims) -> str:
    """Return an id that is of this token alone, whatever other issuers call theirs.

    Without a `jti` it is of what was signed: of an ES256 signature there is a second, as good as the first.
    """
    jti = claims.get("jti")
    own = jti if isinstance(jti, str) and jti else token.rpartition(".")[0]
    digest = hashlib.sha256(f"{claims['iss']} {own}".encode("utf-8", "surrogatepass")).hexdigest()
    return f"outside:{digest[:32]}"


def _unfolded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


class _Refuse(NamedTuple):
    issuer: str

    def __call__(self, reason: str) -> Rejected:
        return Rejected(
            ProblemCode.UNAUTHENTICATED,
            f"the token of {self.issuer} is not accepted: {reason}; or get one of the broker's own by `broker login`",
        )
