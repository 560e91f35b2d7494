"""Tokens of people and launchers: JWTs signed with ES256 in the WLCG / SciTokens profile.

`decode` of the library checks the signature alone, so everything else is checked here: the header's type, issuer,
audience, and both ends of its life, without leeway, by the library's claims validator. Whether it was revoked is asked
each time, of whoever knows.

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
from urllib.parse import urlsplit

from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwt import JWTClaimsRegistry

from broker.auth.keys import BrokerKeys
from broker.domain.bounds import Bound
from broker.domain.errors import Rejected
from broker.domain.paths import BadPath
from broker.domain.scopes import Authority, Scopes, parse_scopes
from broker.wire.problems import ProblemCode

ALGORITHM = "ES256"
TYPE = "at+jwt"
_WLCG_VERSION = "1.0"
_MAX_TOKEN_BYTES = 8_192
_MAX_CACHED = 4_096
_LABELS, _BY, _LAUNCHER, _MOST = "vmbroker_labels", "vmbroker_by", "vmbroker_launcher", "vmbroker_most"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a verified token speaks for, and what it allows. `subject` is a user's or a site's name.

    Attributes:
        labels: of a launcher's: what its site vouches for. A stream's secrets go only where one of them is trusted.
        by: ids of the logins and tokens that it was made with; it ends with each of them.
        launcher: the one launcher that it may speak as, or None.
        most_dispatches: how many dispatches its launchers may hold at once, all together, or None.
        issuer: the outside issuer whose word it is, or '' for the broker itself.
    """

    subject: str
    scopes: Scopes
    token_id: str
    expires_at_s: int
    labels: frozenset[str] = frozenset()
    by: tuple[str, ...] = ()
    launcher: str | None = None
    most_dispatches: int | None = None
    issuer: str = ""

    def may(self, authority: Authority, *path: str) -> bool:
        return self.scopes.permit(authority, path)

    @property
    def is_launcher(self) -> bool:
        """Whether it speaks for a site's launchers, and for no user; an outside issuer knows users alone."""
        return not self.issuer and self.scopes.name(Authority.DISPATCH)

    @property
    def party(self) -> str:
        """Under what its launchers are known: never what another issuer's are, whatever that calls its own."""
        return f"{self.subject}@{urlsplit(self.issuer).hostname}" if self.issuer else self.subject

    @property
    def bound(self) -> Bound | None:
        """How much its launchers may hold, together with those of all tokens that are made of the same one."""
        if self.most_dispatches is None:
            return None
        return Bound(self.by[-1] if self.by else self.token_id, self.most_dispatches)

    @property
    def ids(self) -> tuple[str, ...]:
        """All that may be revoked of it: itself, and what it was made with."""
        return (self.token_id, *self.by)


class Tokens:
    """Issues the broker's tokens and verifies them; the verified are remembered by their hash until they end.

    `public_url` is the issuer's name where it is an https address, as the profile has it; without one the broker signs
    under a name of its own. `is_revoked` is asked for each token, each time.
    """

    def __init__(
        self,
        keys: BrokerKeys,
        now_s: Callable[[], int] = lambda: int(time.time()),
        *,
        public_url: str = "",
        is_revoked: Callable[[Principal], bool] = lambda _: False,
    ) -> None:
        self._keys = keys
        self.now_s = now_s
        self._is_revoked = is_revoked
        self.issuer = public_url if public_url.startswith("https://") else keys.issuer
        self._verified: OrderedDict[bytes, Principal] = OrderedDict()

    def issue(self, subject: str, scopes: Scopes, life: timedelta, labels: Iterable[str] = ()) -> str:
        """Sign a token for `subject` that is good from now for `life`."""
        ends_at_s = self.now_s() + int(life.total_seconds())
        return self.sign(Principal(subject, scopes, new_token_id(), ends_at_s, frozenset(labels)))

    def sign(self, principal: Principal) -> str:
        """Sign a token that says what the principal is, from now on."""
        now_s = self.now_s()
        claims: dict[str, Any] = {
            "wlcg.ver": _WLCG_VERSION,
            "iss": self.issuer,
            "aud": self.issuer,
            "sub": principal.subject,
            "iat": now_s,
            "nbf": now_s,
            "exp": principal.expires_at_s,
            "jti": principal.token_id,
            "scope": str(principal.scopes),
            **_own_claims(principal),
        }
        key = self._keys.signing
        header = {"alg": ALGORITHM, "kid": key.kid}
        return jwt.encode(header, claims, key, algorithms=[ALGORITHM], default_type=TYPE)

    def verify(self, token: str) -> Principal:
        """Return whom a token speaks for.

        Raises:
            Rejected: `unauthenticated`; its sentence says what to do.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        principal = self._verified.get(digest)
        if principal is None:
            principal = self._check(token)
            self._verified[digest] = principal
            if len(self._verified) > _MAX_CACHED:
                self._verified.popitem(last=False)
        elif principal.expires_at_s <= self.now_s():
            raise _expired()
        if self._is_revoked(principal):
            raise revoked()
        return principal

    def _check(self, token: str) -> Principal:
        if len(token) > _MAX_TOKEN_BYTES or not token.isascii():
            raise refused("it is no token of this broker")
        try:
            return self._decoded(token)
        except ExpiredTokenError as error:
            raise _expired() from error
        except BadPath as error:
            raise refused(str(error)) from error
        except (JoseError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            if self._keys.look_again():
                return self._check(token)
            # What is no JWT fails before the library's own checks: in base64, in JSON, in a header like {"crit": null}.
            raise refused("this broker did not issue it, or it was changed") from error

    def _decoded(self, token: str) -> Principal:
        decoded = jwt.decode(token, self._keys.verifying, algorithms=[ALGORITHM])
        if str(decoded.header.get("typ", "")).lower() != TYPE:
            raise refused("it is a token of another kind")
        self._registry().validate(decoded.claims)
        return _principal(decoded.claims)

    def _registry(self) -> JWTClaimsRegistry:
        own = [*self._keys.issuers, self.issuer]
        return JWTClaimsRegistry(
            now=self.now_s,
            iss={"essential": True, "values": own},
            aud={"essential": True, "values": own},
            sub={"essential": True},
            exp={"essential": True},
            nbf={"essential": True},
            jti={"essential": True},
        )


def new_token_id() -> str:
    """Return an id by which a token can be revoked."""
    return str(uuid.uuid4())


def refused(reason: str) -> Rejected:
    """Return what a token that is no good is answered with."""
    return Rejected(
        ProblemCode.UNAUTHENTICATED,
        f"the token is not accepted: {reason}; use the one that the broker you are calling gave (a researcher's: by "
        "`broker login`, or BEARER_TOKEN_FILE; a launcher's: its launcher.json, or --token-file)",
    )


def revoked() -> Rejected:
    """Return what a token is answered with that was good until somebody revoked it."""
    return Rejected(
        ProblemCode.UNAUTHENTICATED,
        "the token was revoked, or the login that it was made with: log in again (`broker login`), or ask whoever gave "
        "it to you for another one",
    )


def _expired() -> Rejected:
    return Rejected(
        ProblemCode.UNAUTHENTICATED,
        "the token has expired: get a new one (`broker login`; for its own machine a broker writes login.json and "
        "launcher.json at each start)",
    )


def _own_claims(principal: Principal) -> dict[str, Any]:
    """Return the claims that the profile does not know; those that say nothing are left out."""
    own: dict[str, Any] = {
        _LABELS: sorted(principal.labels),
        _BY: list(principal.by),
        _LAUNCHER: principal.launcher,
        _MOST: principal.most_dispatches,
    }
    return {name: value for name, value in own.items() if value}


def _principal(claims: dict[str, Any]) -> Principal:
    most = claims.get(_MOST)
    launcher = claims.get(_LAUNCHER)
    return Principal(
        str(claims["sub"]),
        parse_scopes(str(claims.get("scope", ""))),
        str(claims["jti"]),
        int(claims["exp"]),
        frozenset(claims.get(_LABELS, ())),
        tuple(claims.get(_BY, ())),
        None if launcher is None else str(launcher),
        None if most is None else int(most),
    )
