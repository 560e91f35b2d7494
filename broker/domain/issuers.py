"""What an outside issuer may say: for whom it speaks, and what of its tokens' scopes counts here.

An institution's issuer knows its own people and nothing of the broker's. So whatever it signs is cut down to the paths
that the operator gave it: a scope over more is narrowed to them, one beside them is nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from broker.domain.paths import Segments
from broker.domain.scopes import Authority, Scope, Scopes


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideIssuer:
    """An issuer that the operator trusts, as far as `prefixes` say; the prefix `()` is everybody.

    Attributes:
        issuer: The exact `iss` of its tokens, and where its keys are found.
        audience: Whom its tokens must be for.
        prefixes: Paths that it may speak for.
        user_claim: The claim whose value is the user's name.
        client_id: Whom its ID tokens must be for; None where people do not log in by it.
    """

    issuer: str
    audience: str
    prefixes: tuple[Segments, ...]
    user_claim: str = "sub"
    client_id: str | None = None

    def speaks_for(self, user: str) -> bool:
        """Tell whether it may name this user as whoever asks: all that is theirs lies within its paths."""
        return any(prefix in {(), (user,)} for prefix in self.prefixes)

    def cut(self, scopes: Scopes) -> Scopes:
        """Return what counts of the scopes of one of its tokens.

        `queue.admin` looks at the grid as a whole: it counts only from an issuer that speaks for everybody.
        """
        if () in self.prefixes:
            return scopes
        return Scopes(part for scope in scopes for part in self._within(scope))

    def _within(self, scope: Scope) -> Iterator[Scope]:
        if scope.authority is Authority.ADMIN:
            return
        for prefix in self.prefixes:
            if scope.covers(scope.authority, prefix):
                yield Scope(scope.authority, prefix)
            elif Scope(scope.authority, prefix).covers(scope.authority, scope.path):
                yield scope
