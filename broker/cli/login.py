"""`broker login` and `broker logout`."""

import base64
import secrets
import socket
import sys
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import typer
from yarl import URL

from broker.cli import showing
from broker.cli.acting import calling, run_to_end
from broker.cli.exits import BadUsage, Failed, tell, tell_done
from broker.client.device_flow import DeviceFlow, LoginFailed, Prompt
from broker.client.errors import ApiError
from broker.client.login import KeptLogin, LoginFile, kept_login, login_file
from broker.client.logins import Logins
from broker.client.session import Session
from broker.wire.logins import MAX_NAME_CHARS, LoggedIn, LogIn, LoginMethods
from broker.wire.problems import ProblemCode

_CA_BYTES = 1_048_576
_CODE_CHARS = 200
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def login(
    url: Annotated[str, typer.Argument(metavar="URL", help="The broker's address, as its operator told it.")],
    ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="PEM file of an authority to trust there, beside the system's.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What to call this login in lists; default: this machine's name.")
    ] = None,
    institution: Annotated[
        bool, typer.Option("--institution", help="In place of a code: at your institution, in a browser anywhere.")
    ] = False,
    issuer: Annotated[
        str | None, typer.Option(metavar="URL", help="Which one, where the broker takes the word of several.")
    ] = None,
) -> None:
    """Log in with a one-time code, which is asked for, or read from a pipe.

    The broker's address, the authority and a login that renews your tokens are kept in login.json, 0600, in
    $XDG_CONFIG_HOME/vmbroker. It is good for 90 days after it was used last.
    """
    run_to_end(_login(url, ca, name, is_at_institution=institution or issuer is not None, issuer=issuer))


def logout() -> None:
    """Log out: revoke the login that is kept on this machine, and every token that was made of it."""
    run_to_end(_logout())


async def _login(url: str, ca: Path | None, name: str | None, *, is_at_institution: bool, issuer: str | None) -> None:
    _check_address(url)
    ca_pem = "" if ca is None else _authority(ca)
    request = LogIn(login_key=base64.b64encode(secrets.token_bytes(32)).decode(), name=name or _own_name())
    async with calling(url, None, ca_pem or None) as session:
        logins = Logins(session)
        if is_at_institution:
            word = await _word_of(await logins.methods(), issuer, ca_pem)
            request = msgspec.structs.replace(request, issuer=word.issuer, id_token=word.id_token)
        else:
            request = msgspec.structs.replace(request, code=_code())
        given = await logins.log_in(request)
        _keep(session, given, ca_pem)
    tell_done(f"logged in to {session.base_url} as {given.user}; kept in {login_file()}")


class _Word(NamedTuple):
    """An institution's word on who somebody is."""

    issuer: str
    id_token: str


async def _word_of(methods: LoginMethods, issuer: str | None, ca_pem: str) -> _Word:
    """Have the person log in at their institution.

    Raises:
        BadUsage: the broker takes no such institution's word; Failed: they did not log in there.
    """
    known = {each.issuer: each for each in methods.issuers}
    names = showing.plain(", ".join(sorted(known)))
    if not known:
        raise BadUsage("this broker takes no institution's word: ask who runs it for a one-time code")
    if issuer is None and len(known) > 1:
        raise BadUsage(f"this broker takes the word of several: add --issuer, one of {names}")
    chosen = known.get(issuer if issuer is not None else next(iter(known)))
    if chosen is None:
        raise BadUsage(f"this broker does not take the word of {issuer}, but of {names}")
    try:
        return _Word(chosen.issuer, await DeviceFlow(chosen.issuer, chosen.client_id, ca_pem or None).id_token(_ask))
    except LoginFailed as error:
        raise Failed(showing.plain(str(error))) from error  # with what an institution wrote in it


def _ask(prompt: Prompt) -> None:
    """Tell the person where to go; what an institution wrote is shown as it is, and does nothing to the terminal."""
    tell_done(
        f"open {showing.plain(prompt.verification_uri)} in any browser and type {showing.plain(prompt.user_code)}"
    )
    if prompt.verification_uri_complete:
        tell_done(f"or open {showing.plain(prompt.verification_uri_complete)}")


async def _logout() -> None:
    kept = kept_login()
    if kept is None:
        raise BadUsage(f"nobody is logged in on this machine: there is no {login_file()}")
    content = kept.content
    async with calling(content.url, content.token, content.ca_pem or None) as session:
        if content.login:
            await _end(session, content.login)
    kept.file.unlink(missing_ok=True)
    tell_done(f"logged out of {content.url}")
    if not content.login:
        tell("the token was the broker's own for its machine, which it writes anew at its next start")


async def _end(session: Session, login: str) -> None:
    """Revoke a login; one that is over already needs no end."""
    try:
        await Logins(session).log_out(login)
    except ApiError as error:
        if error.code is not ProblemCode.UNAUTHENTICATED:
            raise


def _keep(session: Session, given: LoggedIn, ca_pem: str) -> None:
    content = LoginFile(
        url=session.base_url,
        token=given.token,
        ends_at=given.ends_at,
        login=given.login,
        login_ends_at=given.login_ends_at,
        ca_pem=ca_pem,
    )
    KeptLogin(login_file(), content).write(content)


def _check_address(url: str) -> None:
    """Check that nothing secret would cross a network in the clear.

    Raises:
        BadUsage: it would, or the address is none.
    """
    try:
        address = URL(url)
    except ValueError:
        address = URL()
    if not address.host or address.scheme not in {"http", "https"}:
        raise BadUsage(
            f"{url!r} is no broker's address: write https://HOST, or http://127.0.0.1:PORT on its own machine"
        )
    if address.scheme == "http" and address.host not in _LOOPBACK:
        raise BadUsage(
            f"{url} has no TLS, so the code would cross the network in the clear: write https://{address.host}"
        )


def _authority(file: Path) -> str:
    with file.open("rb") as opened:
        content = opened.read(_CA_BYTES + 1)
    if len(content) > _CA_BYTES or b"-----BEGIN CERTIFICATE-----" not in content:
        raise BadUsage(f"{file} is no certificate in PEM form: ask who runs the broker for its authority's")
    return content.decode("ascii", "replace")


def _code() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("One-time code", err=True))
    code = sys.stdin.readline(_CODE_CHARS).strip()
    if not code:
        raise BadUsage("there is no one-time code on standard input: pipe it in, or run this in a terminal")
    return code


def _own_name() -> str:
    return socket.gethostname()[:MAX_NAME_CHARS]
