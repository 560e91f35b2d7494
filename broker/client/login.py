"""Finding the broker and the token: never in a flag, always in the environment or in a 0600 file.

A researcher's: `VMBROKER_URL`; `BEARER_TOKEN`, then the file of `BEARER_TOKEN_FILE`; then `login.json`. A launcher's:
the file it was told of, then `launcher.json`. Both are in `$XDG_CONFIG_HOME/vmbroker`, as `broker serve` writes them.
The token that such a file keeps belongs to the address beside it and is given to no other.

Source: WLCG Bearer Token Discovery 1.0, for the variables' names and their order.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
from yarl import URL

_TOKEN = re.compile(r"[\x21-\x7e]+")
"""What an `Authorization` header can carry."""


_RESEARCHERS = "start one on this machine with `broker serve`, which writes"
_LAUNCHERS = "bring the broker's own launcher.json to this node, as"


class Login(NamedTuple):
    """Where the broker is, and the token to show there."""

    url: str
    token: str


class NoLogin(Exception):
    """Nothing was found, or it cannot be used; the text says what to do."""


class _LoginFile(msgspec.Struct):
    url: str
    token: str


class _Place(NamedTuple):
    """The file that keeps a login, the variable that names a token for another broker, and what brings the file."""

    file: Path
    variable: str
    mend: str


def find_login(environ: Mapping[str, str] = os.environ) -> Login:
    """Return the researcher's login.

    Raises:
        NoLogin: there is none for that broker.
    """
    place = _Place(_config_folder(environ) / "login.json", "BEARER_TOKEN_FILE", _RESEARCHERS)
    token = environ.get("BEARER_TOKEN", "").strip()
    if token:
        return _whole(environ.get("VMBROKER_URL"), _checked(token, "the token of BEARER_TOKEN"), place)
    return _whole(environ.get("VMBROKER_URL"), _from_file(environ.get(place.variable)), place)


def find_launcher_login(
    url: str | None = None, token_file: Path | None = None, environ: Mapping[str, str] = os.environ
) -> Login:
    """Return a launcher's login; `url` and `token_file` come before what the files say.

    Raises:
        NoLogin: there is none for that broker.
    """
    place = _Place(_config_folder(environ) / "launcher.json", "VMBROKER_LAUNCHER_TOKEN_FILE", _LAUNCHERS)
    token = _from_file(token_file or environ.get(place.variable))
    return _whole(url or environ.get("VMBROKER_URL"), token, place)


def _whole(url: str | None, token: str | None, place: _Place) -> Login:
    if url and token:
        return Login(url.rstrip("/"), token)
    kept = _read(place.file)
    if kept is None:
        lacking = "no token" if url else "neither an address nor a token"
        raise NoLogin(
            f"there is {lacking} for a broker: {place.mend} {place.file}, or set VMBROKER_URL and {place.variable}"
        )
    if token is None and url and _origin(url) != _origin(kept.url):
        raise NoLogin(f"there is no token for {url}: set {place.variable}; {place.file} keeps one for {kept.url} only")
    return Login((url or kept.url).rstrip("/"), token or _checked(kept.token, f"the token in {place.file}"))


def _origin(address: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port, the scheme's own port when none is written. Source: RFC 6454, section 4."""
    try:
        url = URL(address)
    except ValueError:
        url = URL()
    if not url.host:
        raise NoLogin(f"{address!r} is no broker's address: write http://HOST:PORT or https://HOST")
    return url.scheme, url.host, url.port


def _config_folder(environ: Mapping[str, str]) -> Path:
    named = environ.get("XDG_CONFIG_HOME")
    return (Path(named) if named else Path(environ.get("HOME") or Path.home()) / ".config") / "vmbroker"


def _read(file: Path) -> _LoginFile | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=_LoginFile)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise NoLogin(f"{file} cannot be used: {error}") from error


def _from_file(path: Path | str | None) -> str | None:
    if not path:
        return None
    try:
        token = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise NoLogin(f"the token file {path} cannot be read: {error}") from error
    if not token:
        raise NoLogin(f"the token file {path} is empty")
    return _checked(token, f"the token in {path}")


def _checked(token: str, what: str) -> str:
    if not _TOKEN.fullmatch(token):
        raise NoLogin(f"{what} cannot be one: a token is one line of ASCII letters, digits and signs, without spaces")
    return token
