"""Scopes: what a token allows, and over which path.

`queue.read:/alice/render` allows reading that stream; `queue.read:/alice` everything of alice's; `queue.read` or
`queue.read:/` everybody's. A scope covers its path and all below it, by whole segments: `/alice` does not cover
`/alice2`.

Source: WLCG Common JWT Profiles 1.2, section "Scope-based Authorization"; RFC 6749, section 3.3.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from broker.domain.paths import BadPath, Segments, split_path


class Authority(StrEnum):
    SUBMIT = "queue.submit"
    READ = "queue.read"
    MODIFY = "queue.modify"
    CANCEL = "queue.cancel"
    DISPATCH = "queue.dispatch"
    ADMIN = "queue.admin"
    SECRET_USE = "secret.use"  # noqa: S105 # the name of an authority
    FILE_READ = "file.read"
    FILE_WRITE = "file.write"


OF_A_USER = (
    Authority.SUBMIT,
    Authority.READ,
    Authority.MODIFY,
    Authority.CANCEL,
    Authority.SECRET_USE,
    Authority.FILE_READ,
    Authority.FILE_WRITE,
)
"""What a user may do below their own name."""


class Scope(NamedTuple):
    authority: Authority
    path: Segments = ()

    def covers(self, authority: Authority, path: Segments) -> bool:
        return self.authority == authority and path[: len(self.path)] == self.path

    def __str__(self) -> str:
        return f"{self.authority}:/{'/'.join(self.path)}"


class Scopes(frozenset[Scope]):
    """All scopes of one token."""

    def permit(self, authority: Authority, path: Segments) -> bool:
        return any(scope.covers(authority, path) for scope in self)

    def name(self, authority: Authority) -> bool:
        """Tell whether the authority is held over any path."""
        return any(scope.authority == authority for scope in self)

    def __str__(self) -> str:
        return " ".join(sorted(str(scope) for scope in self))


def parse_scopes(text: str) -> Scopes:
    """Read a token's `scope` claim; authorities that are none of the broker's are left out.

    Raises:
        BadPath: one of the broker's authorities has a path that is refused; the whole token is then no good.
    """
    return Scopes(scope for word in text.split(" ") if word and (scope := _parse(word)) is not None)


def scopes_of_user(user: str) -> Scopes:
    """Return what a user's own token allows."""
    return _over(OF_A_USER, (user,))


def scopes_of_operator(user: str) -> Scopes:
    """Return what the token of a user allows who runs the broker: their own, and to look at the grid as a whole."""
    return Scopes(scopes_of_user(user) | _over((Authority.ADMIN,), ()))


def scopes_of_launcher(users: Iterable[str] | None = None) -> Scopes:
    """Return what a launcher's token allows: to serve the named users, or everybody."""
    if users is None:
        return _over((Authority.DISPATCH,), ())
    return Scopes(Scope(Authority.DISPATCH, (user,)) for user in users)


def _over(authorities: Iterable[Authority], path: Segments) -> Scopes:
    return Scopes(Scope(authority, path) for authority in authorities)


def _parse(word: str) -> Scope | None:
    name, colon, path = word.partition(":")
    if name not in Authority.__members__.values():
        return None
    if colon and not path.startswith("/"):
        raise BadPath(f"the scope {word!r} is refused: its path must begin with a slash")
    rest = path.removeprefix("/")
    return Scope(Authority(name), split_path(rest) if rest else ())
