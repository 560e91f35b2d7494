"""The settings, the login, the broker."""

from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from broker.client.login import Login, NoLogin, find_launcher_login
from broker.client.session import ApiError, CallError, Patience, Reply, Session
from broker.wire.accounts import WhoAmI
from launcher.authority import NoAuthority, authority_of
from launcher.doctor.findings import Finding, fail, ok, warn
from launcher.doctor.node import CannotTell, Node

_PATIENCE: Final = Patience(attempts=2, total_s=15.0)
_SCOPE: Final = "queue.dispatch"
_CLOCK_WARN_S: Final = 5.0
_CLOCK_FAIL_S: Final = 300.0
"""Certificates and signed addresses are good for hours, and their times are looked at with the node's clock."""


async def settings(node: Node) -> Iterable[Finding]:
    """The settings, from the command line, the environment and the site's file."""
    if node.faults:
        mend = "mend the setting; until then the points below are of the command line, and of the defaults"
        return [fail(fault, mend) for fault in node.faults]
    given = sorted(node.settings.model_fields_set)
    return [ok(f"given: {', '.join(given)}" if given else "none given, the defaults hold")]


async def login(node: Node) -> Iterable[Finding]:
    """The broker's address and this launcher's token."""
    try:
        found = find_launcher_login(node.settings.broker, node.settings.token_file)
    except NoLogin as error:
        return [fail(str(error))]
    return [ok(f"a token for {found.url}")]


async def authority(node: Node) -> Iterable[Finding]:
    """The authority of the site's own that signed the broker's certificate."""
    file = node.settings.ca_file
    try:
        found = authority_of(file, _kept_login(node))
    except NoAuthority as error:
        return [fail(str(error), "name the PEM file of the authority that signed the broker's certificate: --ca-file")]
    if found is None:
        return [ok("none of the site's own: the node's are asked")]
    return [ok(f"{file} is one" if file is not None else "one is kept with the login")]


async def broker(node: Node) -> Iterable[Finding]:
    """The broker answers, takes the token, and its clock is ours."""
    async with Session(
        _login(node).url, token=_login(node).token, ca_pem=_authority(node), patience=_PATIENCE
    ) as session:
        try:
            reply = await session.send("GET", "/v1/whoami", timeout_s=10.0)
        except ApiError as error:
            if error.status == 401:
                mend = "bring the broker's launcher.json to this node anew, or name its token with --token-file"
                return [fail(f"{session.base_url} does not take the token: {error}", mend)]
            return [fail(f"{session.base_url} answers {error.status}: {error}", "is it a broker's address?")]
        except CallError as error:
            mend = "let this node's firewall or proxy pass to the broker, if it runs; with its own authority: --ca-file"
            return [fail(str(error), mend)]
    return [_scope(reply, str(session.base_url)), _clock(reply.headers.get("Date", ""))]


def _scope(reply: Reply, url: str) -> Finding:
    """Tell whether the token, which the broker takes, is a launcher's."""
    try:
        who = msgspec.json.decode(reply.body, type=WhoAmI)
    except msgspec.DecodeError:
        return fail(f"{url} does not say whom the token speaks for", "is it a broker's address?")
    if not any(scope.partition(":")[0] == _SCOPE for scope in who.scopes):
        mend = "bring the broker's launcher.json to this node, or name a launcher's token with --token-file"
        return fail(f"{url} takes the token, which is {who.user}'s and no launcher's: it lacks {_SCOPE}", mend)
    return ok(f"{url} answers and takes the launcher's token")


def _kept_login(node: Node) -> Login | None:
    try:
        return _login(node)
    except CannotTell:
        return None  # which is a point of its own


def _login(node: Node) -> Login:
    try:
        return find_launcher_login(node.settings.broker, node.settings.token_file)
    except NoLogin as error:
        raise CannotTell("the login", "login") from error


def _authority(node: Node) -> str | None:
    try:
        return authority_of(node.settings.ca_file, _login(node))
    except NoAuthority as error:
        raise CannotTell("the authority", "authority") from error


def _clock(date: str) -> Finding:
    try:
        brokers = parsedate_to_datetime(date)
    except ValueError:
        return warn("the broker's answer tells no time to compare this node's clock with")
    off_s = (datetime.now(UTC) - brokers).total_seconds()
    found = f"this node's clock is {abs(off_s):.0f} s {'ahead of' if off_s > 0 else 'behind'} the broker's"
    if abs(off_s) >= _CLOCK_FAIL_S:
        return fail(found, "set the clock, and keep it by NTP: certificates and signed addresses are refused by it")
    if abs(off_s) >= _CLOCK_WARN_S:
        return warn(found, "keep both clocks by NTP")
    return ok("this node's clock agrees with the broker's")
