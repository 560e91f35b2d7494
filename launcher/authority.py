"""The authority of the site's own that signed the broker's certificate, as a PEM file."""

import ssl
from pathlib import Path

from broker.client.login import Login

MAX_BYTES = 48 * 1024
"""A guest is told it in one line of its port, which has at most 64 KiB. Source: docs/reference/guest-protocol.md."""


class NoAuthority(Exception):
    """The file cannot be used; the text says why."""


def authority_of(file: Path | None, login: Login | None) -> str | None:
    """Return the PEM text of the broker's authority, checked: the file's, else the one kept with a login, if any.

    Raises:
        NoAuthority: it cannot be read, or is no PEM text of an authority.
    """
    if file is None and login is not None and login.ca_pem is not None:
        return _checked(login.ca_pem, "the authority (ca_pem) in launcher.json")
    return read_authority(file)


def read_authority(file: Path | None) -> str | None:
    """Return the PEM text of the broker's authority, checked; None without a file.

    Raises:
        NoAuthority: it cannot be read, or is no PEM file of an authority.
    """
    if file is None:
        return None
    what = f"ca_file: {file}"
    try:
        return _checked(file.read_text(encoding="ascii"), what)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise NoAuthority(f"{what} is no PEM file of an authority: {reason}") from error


def _checked(pem: str, what: str) -> str:
    if len(pem) > MAX_BYTES:
        raise NoAuthority(f"{what} has more than {MAX_BYTES} bytes: keep the one authority that is needed")
    try:
        ssl.create_default_context().load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError) as error:
        raise NoAuthority(f"{what} is no PEM file of an authority: {error}") from error
    return pem
