"""Finding the broker and the token: never in a flag, always in the environment or in a 0600 file.

A researcher's: `VMBROKER_URL`; `BEARER_TOKEN`, then the file of `BEARER_TOKEN_FILE`; then `login.json`. A launcher's:
the file it was told of, then `launcher.json`. Both are in `$XDG_CONFIG_HOME/vmbroker`, as `broker serve` writes them.

Source: WLCG Bearer Token Discovery 1.0, for the variables' names and their order.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec


class Login(NamedTuple):
    """Where the broker is, and the token to show there."""

    url: str
    token: str


class NoLogin(Exception):
    """Nothing was found, or it cannot be read; the text says what to do."""


class _LoginFile(msgspec.Struct):
    url: str
    token: str


def find_login(environ: Mapping[str, str] = os.environ) -> Login:
    """Return the researcher's login.

    Raises:
        NoLogin: there is none.
    """
    token = environ.get("BEARER_TOKEN", "").strip() or _from_file(environ.get("BEARER_TOKEN_FILE"))
    return _whole(environ.get("VMBROKER_URL"), token, _config_folder(environ) / "login.json")


def find_launcher_login(
    url: str | None = None, token_file: Path | None = None, environ: Mapping[str, str] = os.environ
) -> Login:
    """Return a launcher's login; `url` and `token_file` come before what the files say.

    Raises:
        NoLogin: there is none.
    """
    token = _from_file(token_file or environ.get("VMBROKER_LAUNCHER_TOKEN_FILE"))
    return _whole(url or environ.get("VMBROKER_URL"), token, _config_folder(environ) / "launcher.json")


def _whole(url: str | None, token: str | None, file: Path) -> Login:
    if url and token:
        return Login(url.rstrip("/"), token)
    kept = _read(file)
    if kept is None:
        lacking = "no token" if url else "neither an address nor a token"
        raise NoLogin(
            f"there is {lacking} for a broker: start one on this machine with `broker serve` (it writes {file}), "
            "or set VMBROKER_URL and BEARER_TOKEN_FILE"
        )
    return Login((url or kept.url).rstrip("/"), token or kept.token)


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
    return token
