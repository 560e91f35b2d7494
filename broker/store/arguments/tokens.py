"""Logins, tokens, and what was revoked of them."""

from typing import NamedTuple


class LogIn(NamedTuple):
    login: str
    login_key: str
    name: str
    life_ms: int
    user: str
    scopes: str
    code_life_ms: int
    most: int


class RenewLogin(NamedTuple):
    login: str
    life_ms: int
    most_ms: int


class KeepToken(NamedTuple):
    owner: str
    token: str
    record: str
    ends_ms: int
    most: int


class Revoke(NamedTuple):
    unknown_until_ms: int
    most: int
    rest: tuple[str, ...]
