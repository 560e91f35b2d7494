"""Tokens of people and launchers: JWTs signed with ES256 in the WLCG / SciTokens profile.

`decode` of the library checks the signature alone, so everything else is checked here: the header's type, issuer,
audience, and both ends of its life, without leeway, by the library's claims validator.

Source: RFC 7519, RFC 9068 (header `typ`), WLCG Common JWT Profiles 1.2, RFC 8725 (fixed algorithms).
"""

import hashlib
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwt import JWTClaimsRegistry

from broker.auth.keys import BrokerKeys
from broker.domain.errors import Rejected
from broker.domain.paths import BadPath
from broker.domain.scopes import Authority, Scopes, parse_scopes
from broker.wire.problems import ProblemCode

ALGORITHM = "ES256"
TYPE = "at+jwt"
_WLCG_VERSION = "1.0"
_MAX_TOKEN_BYTES = 8_192
_MAX_CACHED = 4_096


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a verified token speaks for, and what it allows. `subject` is a user's or a launcher's name.

    `labels` are a launcher's: what its site vouches for. A stream's secrets go only where one of them is trusted.
    """

    subject: str
    scopes: Scopes
    token_id: str
    expires_at_s: int
    labels: frozenset[str] = frozenset()

    def may(self, authority: Authority, *path: str) -> bool:
        return self.scopes.permit(authority, path)


class Tokens:
    """Issues the broker's tokens and verifies them; the verified are remembered by their hash until they end."""

    def __init__(self, keys: BrokerKeys, now_s: Callable[[], int] = lambda: int(time.time())) -> None:
        self._keys = keys
        self._now_s = now_s
        self._verified: OrderedDict[bytes, Principal] = OrderedDict()
        self._claims = JWTClaimsRegistry(
            now=now_s,
            iss={"essential": True, "value": keys.issuer},
            aud={"essential": True, "value": keys.issuer},
            sub={"essential": True},
            exp={"essential": True},
            nbf={"essential": True},
            jti={"essential": True},
        )

    def issue(self, subject: str, scopes: Scopes, life: timedelta, labels: Iterable[str] = ()) -> str:
        """Sign a token for `subject` that is good from now for `life`."""
        now_s = self._now_s()
        claims: dict[str, Any] = {
            "wlcg.ver": _WLCG_VERSION,
            "iss": self._keys.issuer,
            "aud": self._keys.issuer,
            "sub": subject,
            "iat": now_s,
            "nbf": now_s,
            "exp": now_s + int(life.total_seconds()),
            "jti": str(uuid.uuid4()),
            "scope": str(scopes),
        }
        if labels:
            claims["vmbroker_labels"] = sorted(labels)
        header = {"alg": ALGORITHM, "kid": self._keys.signing.kid}
        return jwt.encode(header, claims, self._keys.signing, algorithms=[ALGORITHM], default_type=TYPE)

    def verify(self, token: str) -> Principal:
        """Return whom a token speaks for.

        Raises:
            Rejected: `unauthenticated`; its sentence says what to do.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = self._verified.get(digest)
        if known is not None:
            if known.expires_at_s <= self._now_s():
                raise _expired()
            return known
        principal = self._check(token)
        self._verified[digest] = principal
        if len(self._verified) > _MAX_CACHED:
            self._verified.popitem(last=False)
        return principal

    def _check(self, token: str) -> Principal:
        if len(token) > _MAX_TOKEN_BYTES or not token.isascii():
            raise _refused("it is no token of this broker")
        try:
            decoded = jwt.decode(token, self._keys.verifying, algorithms=[ALGORITHM])
            if str(decoded.header.get("typ", "")).lower() != TYPE:
                raise _refused("it is a token of another kind")
            self._claims.validate(decoded.claims)
            claims = decoded.claims
            scopes = parse_scopes(str(claims.get("scope", "")))
        except ExpiredTokenError as error:
            raise _expired() from error
        except BadPath as error:
            raise _refused(str(error)) from error
        except (JoseError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            # What is no JWT fails before the library's own checks: in base64, in JSON, in a header like {"crit": null}.
            raise _refused("this broker did not issue it, or it was changed") from error
        labels = frozenset(claims.get("vmbroker_labels", ()))
        return Principal(claims["sub"], scopes, claims["jti"], int(claims["exp"]), labels)


def _refused(reason: str) -> Rejected:
    return Rejected(
        ProblemCode.UNAUTHENTICATED,
        f"the token is not accepted: {reason}; use the one that the broker you are calling gave (a researcher's: "
        "its login.json, or BEARER_TOKEN_FILE; a launcher's: its launcher.json, or --token-file)",
    )


def _expired() -> Rejected:
    return Rejected(
        ProblemCode.UNAUTHENTICATED,
        "the token has expired: get a new one (a broker writes them into login.json and launcher.json at each start)",
    )
