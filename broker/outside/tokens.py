"""Whom a token of a trusted outside issuer speaks for.

A verified token is remembered for minutes, and not to its end: a key that its issuer withdrew stops being good when the
keys are got the next time, in about an hour.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from broker.auth.issuers import named_in, verify_id_token, verify_token
from broker.auth.tokens import Principal
from broker.domain.errors import Rejected
from broker.domain.issuers import OutsideIssuer
from broker.outside.keys import IssuerKeys, unknown_issuer
from broker.wire.problems import ProblemCode

REMEMBERED_S: Final = 300
MAX_REMEMBERED: Final = 4_096


class _Remembered(NamedTuple):
    principal: Principal
    until_s: int


class OutsideTokens:
    """Verifies tokens and ID tokens of the issuers that the operator trusts."""

    def __init__(
        self,
        issuers: Iterable[OutsideIssuer],
        keys: IssuerKeys,
        now_s: Callable[[], int] = lambda: int(time.time()),
    ) -> None:
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        self._keys = keys
        self._now_s = now_s
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()

    def knows(self, token: str) -> bool:
        """Tell whether a token says that it is of one of the issuers; nothing of it is verified."""
        if not self._issuers:
            return False
        named = named_in(token)
        return named is not None and named.issuer in self._issuers

    @property
    def login_issuers(self) -> list[OutsideIssuer]:
        """Those by which people may log in."""
        return [issuer for issuer in self._issuers.values() if issuer.client_id is not None]

    async def verify(self, token: str) -> Principal:
        """Return whom a token speaks for, and what of its scopes counts.

        Raises:
            Rejected: `unauthenticated`; its sentence says what to do.
            Unavailable: `issuer_unavailable`: the issuer's keys cannot be had now.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = self._remembered.get(digest)
        if known is not None and self._now_s() < known.until_s:
            return known.principal
        issuer, kid = self._origin(token)
        principal = verify_token(token, issuer, await self._keys.keys(issuer.issuer, kid), self._now_s)
        self._remember(digest, principal)
        return principal

    async def verify_identity(self, issuer: str, id_token: str) -> str:
        """Return the name of the user who logged in at an issuer, as its ID token proves.

        Raises:
            Rejected: `unauthenticated`; its sentence says what to do.
            Unavailable: `issuer_unavailable`: the issuer's keys cannot be had now.
        """
        named, kid = self._origin(id_token)
        if named.issuer != issuer:
            raise Rejected(
                ProblemCode.UNAUTHENTICATED, f"the ID token is not accepted: it is not of {issuer}, which was asked"
            )
        return verify_id_token(id_token, named, await self._keys.keys(issuer, kid), self._now_s)

    def _origin(self, token: str) -> tuple[OutsideIssuer, str | None]:
        named = named_in(token)
        issuer = None if named is None else self._issuers.get(named.issuer)
        if named is None or issuer is None:
            raise unknown_issuer()
        return issuer, named.kid

    def _remember(self, digest: bytes, principal: Principal) -> None:
        until_s = min(principal.expires_at_s, self._now_s() + REMEMBERED_S)
        self._remembered[digest] = _Remembered(principal, until_s)
        self._remembered.move_to_end(digest)
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)
