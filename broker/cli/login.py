"""`broker login` and `broker logout`."""

import base64
import secrets
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer
from yarl import URL

from broker.cli.acting import calling, run_to_end
from broker.cli.exits import BadUsage, tell
from broker.client.login import KeptLogin, LoginFile, kept_login, login_file
from broker.client.logins import Logins
from broker.client.session import Session
from broker.wire.logins import MAX_NAME_CHARS, LoggedIn, LogIn

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
) -> None:
    """Log in with a one-time code, which is asked for, or read from a pipe.

    The broker's address, the authority and a login that renews your tokens are kept in login.json, 0600, in
    $XDG_CONFIG_HOME/vmbroker. It is good for 90 days after it was used last.
    """
    run_to_end(_login(url, ca, name))


def logout() -> None:
    """Log out: revoke the login that is kept on this machine, and every token that was made of it."""
    run_to_end(_logout())


async def _login(url: str, ca: Path | None, name: str | None) -> None:
    _check_address(url)
    ca_pem = "" if ca is None else _authority(ca)
    request = LogIn(
        code=_code(), login_key=base64.b64encode(secrets.token_bytes(32)).decode(), name=name or _own_name()
    )
    async with calling(url, None, ca_pem or None) as session:
        given = await Logins(session).log_in(request)
        _keep(session, given, ca_pem)
    tell_done(f"logged in to {session.base_url} as {given.user}; kept in {login_file()}")


async def _logout() -> None:
    kept = kept_login()
    if kept is None:
        raise BadUsage(f"nobody is logged in on this machine: there is no {login_file()}")
    content = kept.content
    async with calling(content.url, content.token, content.ca_pem or None) as session:
        if content.login:
            await Logins(session).log_out(content.login)
    kept.file.unlink(missing_ok=True)
    tell_done(f"logged out of {content.url}")
    if not content.login:
        tell("the token was the broker's own for its machine, which it writes anew at its next start")


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


def tell_done(sentence: str) -> None:
    """Tell on stderr what was done: stdout is for what can be piped on."""
    typer.echo(sentence, err=True)
