"""Finding the broker and the token: never in a flag, always in the environment or in a 0600 file.

A researcher's: `VMBROKER_URL`; `BEARER_TOKEN`, then the file of `BEARER_TOKEN_FILE`; then `login.json`, as `broker
login` writes it; then `bt_u$UID` in `$XDG_RUNTIME_DIR` and in `/tmp`. A launcher's: the file it was told of, then
`launcher.json`. Both are in `$XDG_CONFIG_HOME/vmbroker`; `broker serve` writes those of its own machine.
What such a file keeps belongs to the address beside it and is given to no other.

Source: WLCG Bearer Token Discovery 1.0, for the variables' names and their order.
"""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
from yarl import URL

from broker.client.private_files import write_private

_TOKEN = re.compile(r"[\x21-\x7e]+")
"""What an `Authorization` header can carry."""


_RESEARCHERS = "log in with `broker login URL`, or start one on this machine with `broker serve`; both write"
_LAUNCHERS = "bring the broker's own launcher.json to this node, as"


class Login(NamedTuple):
    """Where the broker is, and the token to show there.

    Attributes:
        ca_pem: whose certificates are trusted there, beside the system's.
        kept: the file that it is from, when that keeps a login that renews the token.
    """

    url: str
    token: str
    ca_pem: str | None = None
    kept: "KeptLogin | None" = None


class NoLogin(Exception):
    """Nothing was found, or it cannot be used; the text says what to do."""


class LoginFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """What `login.json` and `launcher.json` keep; `login` renews the token until `login_ends_at`."""

    url: str
    token: str
    ends_at: str = ""
    login: str = ""
    login_ends_at: str = ""
    ca_pem: str = ""


class KeptLogin(NamedTuple):
    """A login that is kept in a file."""

    file: Path
    content: LoginFile

    def write(self, content: LoginFile) -> "KeptLogin":
        """Replace what the file keeps, 0600, whole or not at all."""
        write_private(self.file, msgspec.json.format(msgspec.json.encode(content)).decode() + "\n")
        return self._replace(content=content)


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
    place = _Place(login_file(environ), "BEARER_TOKEN_FILE", _RESEARCHERS)
    token = environ.get("BEARER_TOKEN", "").strip()
    if token:
        return _whole(environ.get("VMBROKER_URL"), _checked(token, "the token of BEARER_TOKEN"), place)
    return _whole(environ.get("VMBROKER_URL"), _from_file(environ.get(place.variable)), place, _discovered(environ))


def login_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where a person's login is kept."""
    return _config_folder(environ) / "login.json"


def kept_login(environ: Mapping[str, str] = os.environ) -> KeptLogin | None:
    """Return the login that `broker login` wrote, whatever the environment names beside it; None without one.

    Raises:
        NoLogin: the file cannot be used.
    """
    file = login_file(environ)
    content = read_login(file)
    return None if content is None else KeptLogin(file, content)


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


def _whole(url: str | None, token: str | None, place: _Place, found: str | None = None) -> Login:
    """Put a login together; `found` is a token that lies where any service's may, for a broker that is named."""
    kept = read_login(place.file)
    is_kept_for_it = kept is not None and (not url or _origin(url) == _origin(kept.url))
    ca_pem = kept.ca_pem or None if kept is not None and is_kept_for_it else None
    if token is None and url and not is_kept_for_it:
        token = found
    if url and token:
        return Login(url.rstrip("/"), token, ca_pem)
    if kept is None:
        lacking = "no token" if url else "neither an address nor a token"
        raise NoLogin(
            f"there is {lacking} for a broker: {place.mend} {place.file}, or set VMBROKER_URL and {place.variable}"
        )
    if token is None and not is_kept_for_it:
        raise NoLogin(f"there is no token for {url}: set {place.variable}; {place.file} keeps one for {kept.url} only")
    renewable = KeptLogin(place.file, kept) if token is None and kept.login else None
    token = token or _checked(kept.token, f"the token in {place.file}")
    return Login((url or kept.url).rstrip("/"), token, ca_pem, renewable)


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


def _discovered(environ: Mapping[str, str]) -> str | None:
    """Return the token of `bt_u$UID`, where there is one that is ours alone; others could have put one into /tmp."""
    for folder in (environ.get("XDG_RUNTIME_DIR"), "/tmp"):  # noqa: S108 # where the profile has it
        file = Path(folder or "/nonexistent") / f"bt_u{os.getuid()}"
        try:
            found = file.lstat()
        except OSError:
            continue
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
            return _from_file(file)
    return None


def read_login(file: Path) -> LoginFile | None:
    """Return what a file keeps; None when there is none.

    Raises:
        NoLogin: it cannot be used.
    """
    try:
        return msgspec.json.decode(file.read_bytes(), type=LoginFile)
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
