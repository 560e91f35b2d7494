"""The settings, the login, the broker."""

import ssl
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from broker.client.login import Login, NoLogin, find_launcher_login
from broker.client.session import ApiError, CallError, Patience, Session
from launcher.doctor.findings import Finding, fail, ok, warn
from launcher.doctor.node import CannotTell, Node

_PATIENCE: Final = Patience(attempts=2, total_s=15.0)
_CLOCK_WARN_S: Final = 5.0
_CLOCK_FAIL_S: Final = 300.0
"""Certificates and signed addresses are good for hours, and their times are looked at with the node's clock."""


async def settings(node: Node) -> Iterable[Finding]:
    """The settings, from the command line, the environment and the site's file."""
    if node.faults:
        return [
            fail(fault, "mend the setting; until then all the points below are of the defaults")
            for fault in node.faults
        ]
    given = sorted(node.settings.model_fields_set)
    return [ok(f"given: {', '.join(given)}" if given else "none given, the defaults hold")]


async def login(node: Node) -> Iterable[Finding]:
    """The broker's address and this launcher's token."""
    try:
        found = find_launcher_login(node.settings.broker, node.settings.token_file)
    except NoLogin as error:
        return [fail(str(error))]
    return [ok(f"a token for {found.url}")]


async def broker(node: Node) -> Iterable[Finding]:
    """The broker answers, takes the token, and its clock is ours."""
    async with Session(
        _login(node).url, token=_login(node).token, ca_pem=_authority(node), patience=_PATIENCE
    ) as session:
        try:
            reply = await session.send("GET", "/v1/whoami", timeout_s=10.0)
        except ApiError as error:
            if error.status == 401:
                mend = "get a token that is good now; `broker serve` writes one at each start"
                return [fail(f"{session.base_url} does not take the token: {error}", mend)]
            return [fail(f"{session.base_url} answers {error.status}: {error}", "is it a broker's address?")]
        except CallError as error:
            mend = (
                "start the broker, or let this node's firewall or proxy pass to it; with its own authority: --ca-file"
            )
            return [fail(str(error), mend)]
    return [ok(f"{session.base_url} answers and takes the token"), _clock(reply.headers.get("Date", ""))]


def _login(node: Node) -> Login:
    try:
        return find_launcher_login(node.settings.broker, node.settings.token_file)
    except NoLogin as error:
        raise CannotTell("depends on the login, see `login`") from error


def _authority(node: Node) -> str | None:
    file = node.settings.ca_file
    if file is None:
        return None
    try:
        pem = file.read_text(encoding="ascii")
        ssl.create_default_context().load_verify_locations(cadata=pem)
    except (OSError, ValueError) as error:
        raise CannotTell(f"{file} is no PEM file of an authority: {error}") from error
    return pem


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
