"""Logging in and out, and tokens: one method for each route."""

from urllib.parse import quote

from broker.client.session import Session
from broker.wire.logins import (
    CodeGiven,
    LoggedIn,
    LogIn,
    LoginMethods,
    NewCode,
    NewSiteToken,
    NewToken,
    Renewed,
    Revoked,
    TokenGiven,
    TokenPage,
    TokenView,
)


class Logins:
    """Every method raises `ApiError` when the broker refuses and `Unreachable` when no answer came."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def methods(self) -> LoginMethods:
        """Return how one can log in, beside a one-time code."""
        return await self._session.call("GET", "/v1/login", answer=LoginMethods)

    async def log_in(self, request: LogIn) -> LoggedIn:
        """Spend a one-time code on a login; the same request again has the same answer."""
        return await self._session.call("POST", "/v1/login", body=request, answer=LoggedIn)

    async def renew(self, login: str) -> Renewed:
        """Return a new token of a login."""
        return await self._session.call("POST", "/v1/login/token", answer=Renewed, token=login)

    async def log_out(self, login: str) -> None:
        """Revoke a login, and every token that was made of it."""
        await self._session.send("DELETE", "/v1/login", token=login)

    async def make_token(self, new: NewToken, by: str | None = None) -> TokenGiven:
        """Make a token of no more than the scopes and the life of the session's, or of a login or token `by`."""
        return await self._session.call("POST", "/v1/tokens", body=new, answer=TokenGiven, token=by)

    async def tokens(self, user: str | None = None, site: str | None = None) -> list[TokenView]:
        """Return the logins and tokens of a user or a site; one's own without either."""
        named = {"user": user, "site": site}
        query = {name: value for name, value in named.items() if value is not None}
        return (await self._session.call("GET", "/v1/tokens", answer=TokenPage, query=query or None)).tokens

    async def revoke(self, token_id: str) -> int:
        """Revoke a login or a token and what was made with it; return how many there were."""
        path = f"/v1/tokens/{quote(token_id, safe='')}"
        return (await self._session.call("DELETE", path, answer=Revoked)).revoked

    async def make_code(self, user: str, new: NewCode) -> CodeGiven:
        """Make a one-time code with which the user logs in."""
        return await self._session.call("POST", f"/v1/users/{quote(user, safe='')}/codes", body=new, answer=CodeGiven)

    async def log_out_everywhere(self, user: str) -> int:
        """Revoke every login and token of a user; return how many there were."""
        return (await self._session.call("DELETE", f"/v1/users/{quote(user, safe='')}/tokens", answer=Revoked)).revoked

    async def make_site_token(self, site: str, new: NewSiteToken) -> TokenGiven:
        """Make a token for a site's launchers."""
        return await self._session.call("POST", f"/v1/sites/{quote(site, safe='')}/tokens", body=new, answer=TokenGiven)

    async def sites(self) -> list[TokenView]:
        """Return the tokens of all sites."""
        return (await self._session.call("GET", "/v1/sites", answer=TokenPage)).tokens

    async def revoke_site(self, site: str) -> int:
        """Revoke every token of a site; return how many there were."""
        return (await self._session.call("DELETE", f"/v1/sites/{quote(site, safe='')}", answer=Revoked)).revoked
