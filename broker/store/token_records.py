"""Logins and tokens as the store knows them: whose they are, and which were revoked before they ended.

A token proves itself by its signature; a record of it is there so that it can be listed and revoked. Only a login is
asked for each time it renews a token. Nothing here is secret: a code is kept as its hash, a login's secret is derived.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from broker.domain.errors import Conflict, Rejected
from broker.domain.limits import LIMITS
from broker.store.arguments import KeepToken, LogIn, RenewLogin, Revoke
from broker.store.reading import Reading
from broker.store.records import Hash, rfc3339
from broker.store.scripts import Word
from broker.wire.logins import TokenView
from broker.wire.names import UserName
from broker.wire.problems import ProblemCode


class Login(NamedTuple):
    """A login as it is now. `ends_ms`: of the epoch, by the store's clock."""

    login_id: str
    user: UserName
    scopes: str
    ends_ms: int


class NewRecord(NamedTuple):
    """A token to note: `owner` is `user/NAME` or `site/NAME`."""

    owner: str
    token_id: str
    kind: str
    name: str
    subject: str
    scopes: str
    ends_ms: int
    labels: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    launcher: str = ""
    most_dispatches: int | None = None


class TokenRecords(Reading):
    async def keep_code(self, code_hash: str, user: UserName, scopes: str, life_ms: int) -> int:
        """Note a one-time code that logs `user` in; return when it ends, in ms of the epoch."""
        key = self._keys.code(code_hash)
        now_ms = await self._now_ms()
        await self._server.commands(
            [("HSET", key, "user", user, "scopes", scopes), ("PEXPIREAT", key, now_ms + life_ms)], atomic=True
        )
        return now_ms + life_ms

    async def log_in(
        self,
        code_hash: str,
        login_id: str,
        login_key_hash: str,
        name: str,
        *,
        life_ms: int,
        known_as: UserName | None = None,
        scopes: str = "",
    ) -> Login:
        """Spend a code on a login; the same code and key again give the same login.

        With `known_as` the code is the hash of an issuer's word on that user, which `scopes` are given for.

        Raises:
            Rejected: `unauthenticated`: there is no such code, or no more; `quota_exceeded`.
            Conflict: `code_spent`: somebody else used it; their login was revoked.
        """
        most = LIMITS["tokens"]
        word, values = await self._server.act(
            LogIn(
                login=login_id,
                login_key=login_key_hash,
                name=name,
                life_ms=life_ms,
                user=known_as or "",
                scopes=scopes,
                code_life_ms=LIMITS["code_life_s"].default * 1_000,
                most=most.default,
            ),
            None,
            code=self._keys.code(code_hash),
            **self._token_keys(),
        )
        match word:
            case Word.MISSING:
                raise Rejected(
                    ProblemCode.UNAUTHENTICATED,
                    "there is no such one-time code, or no more: ask who runs the broker for another "
                    "(`broker user add`), and type it as it was printed",
                )
            case Word.SPENT:
                raise Conflict(
                    ProblemCode.CODE_SPENT,
                    "somebody else logged in with this code; that login is revoked now: tell who runs the broker, "
                    "and ask for another code",
                )
            case Word.FULL:
                raise Rejected(most.problem, _too_many(most.default))
        login, user, allowed, ends_ms = values
        return Login(str(login), UserName(user), str(allowed), int(ends_ms))

    async def renew_login(self, login_id: str, *, life_ms: int, most_ms: int) -> Login | None:
        """Let a login be good for `life_ms` from now, at most `most_ms` from its start; None when it is over."""
        word, values = await self._server.act(
            RenewLogin(login=login_id, life_ms=life_ms, most_ms=most_ms),
            token_of=self._keys.token_of,
            tokens_of=self._keys.tokens_of,
        )
        if word is Word.MISSING:
            return None
        user, scopes, ends_ms = values
        return Login(login_id, UserName(user), str(scopes), int(ends_ms))

    async def keep_token(self, record: NewRecord) -> None:
        """Note a token that was made, so that it can be listed and revoked.

        Raises:
            Rejected: `quota_exceeded`: its owner has too many.
        """
        most = LIMITS["tokens"]
        fields = {
            "kind": record.kind,
            "name": record.name,
            "subject": record.subject,
            "scopes": record.scopes,
            "labels": " ".join(record.labels),
            "by": " ".join(record.by),
            "launcher": record.launcher,
            "most_dispatches": "" if record.most_dispatches is None else str(record.most_dispatches),
        }
        said = {name: value for name, value in fields.items() if value or name in {"name", "scopes"}}
        word, _ = await self._server.act(
            KeepToken(
                owner=record.owner,
                token=record.token_id,
                record=msgspec.json.encode(said).decode(),
                ends_ms=record.ends_ms,
                most=most.default,
            ),
            token_of=self._keys.token_of,
            tokens_of=self._keys.tokens_of,
            sites=self._keys.sites,
        )
        if word is Word.FULL:
            raise Rejected(most.problem, _too_many(most.default))

    async def tokens_of(self, owner: str) -> list[TokenView]:
        """Return the logins and tokens of `user/NAME` or `site/NAME` that did not end and were not revoked."""
        ids = await self._server.command("ZRANGE", self._keys.tokens(owner), 0, LIMITS["tokens"].default, "REV")
        records = await self._server.commands([("HGETALL", self._keys.token(each)) for each in ids])
        return [_view(each, record) for each, record in zip(ids, records, strict=True) if record]

    async def sites(self) -> list[str]:
        """Return the names of the sites that were ever given a token."""
        return sorted(await self._server.command("SMEMBERS", self._keys.sites))

    async def owner_of(self, token_id: str) -> str | None:
        """Return whose a token is, or None when it is not listed."""
        owner: str | None = await self._server.command("HGET", self._keys.token(token_id), "owner")
        return owner

    async def revoke(self, token_ids: Sequence[str], *, unknown_until_ms: int = 0) -> int:
        """Revoke tokens and logins, and so all that was made with them; return how many there were. Idempotent.

        One that is not listed is revoked until `unknown_until_ms`, when that is given.

        Raises:
            Rejected: `quota_exceeded`: too many are revoked that did not end yet.
        """
        most = LIMITS["revoked"]
        word, values = await self._server.act(
            Revoke(unknown_until_ms=unknown_until_ms, most=most.default, rest=tuple(token_ids)),
            None,
            **self._token_keys(),
        )
        if word is Word.FULL:
            raise Rejected(
                most.problem,
                f"{most.default} tokens are revoked that did not end yet: replace the signing key in place of more "
                "(`broker key rotate --now`, then `broker key drop`)",
            )
        return int(values[0])

    async def revocations(self) -> int:
        """Return a number that grows whenever something is revoked."""
        return int(await self._server.command("GET", self._keys.revocations) or 0)

    async def revoked(self) -> set[str]:
        """Return the ids of all that is revoked and did not end yet."""
        return set(await self._server.command("ZRANGEBYSCORE", self._keys.revoked, await self._now_ms(), "+inf"))

    def _token_keys(self) -> dict[str, str]:
        return {
            "token_of": self._keys.token_of,
            "tokens_of": self._keys.tokens_of,
            "revoked": self._keys.revoked,
            "revocations": self._keys.revocations,
        }


def _view(token_id: str, record: Hash) -> TokenView:
    most = record.get("most_dispatches")
    return TokenView(
        id=token_id,
        kind=record["kind"],
        subject=record["subject"],
        name=record["name"],
        scopes=record["scopes"].split(),
        created_at=rfc3339(int(record["created_ms"])),
        ends_at=rfc3339(int(record["ends_ms"])),
        labels=record.get("labels", "").split(),
        by=record.get("by", "").split(),
        launcher=record.get("launcher"),
        most_dispatches=int(most) if most else None,
    )


def _too_many(most: int) -> str:
    return f"there are {most} logins and tokens already: revoke some first (`broker token list`, `broker token revoke`)"
