"""The first user and the first launcher: logged in by the broker's own start, on the broker's own machine."""

from datetime import timedelta
from pathlib import Path

from broker.auth.tokens import Tokens
from broker.client.login import KeptLogin, LoginFile, NoLogin, read_login
from broker.domain.scopes import scopes_of_launcher, scopes_of_operator

LOCAL_LIFE = timedelta(days=30)
LOCAL_LAUNCHER = "local"
"""The name of the launcher that launcher.json speaks for; any number of them on this machine may use it."""


def write_logins(tokens: Tokens, folder: Path, url: str, user: str) -> None:
    """Write `login.json` for `user`, who is the operator, and `launcher.json`, both 0600, into `folder`.

    Their tokens are made anew each time. A login at another broker that is kept there stays.
    """
    if not _is_kept_elsewhere(folder / "login.json", url):
        _write(folder / "login.json", url, tokens.issue(user, scopes_of_operator(user), LOCAL_LIFE))
    _write(folder / "launcher.json", url, tokens.issue(LOCAL_LAUNCHER, scopes_of_launcher(), LOCAL_LIFE))


def _write(path: Path, url: str, token: str) -> None:
    content = LoginFile(url=url, token=token)
    KeptLogin(path, content).write(content)


def _is_kept_elsewhere(path: Path, url: str) -> bool:
    """Tell whether somebody logged in at another broker; nobody can give that login back to them."""
    try:
        kept = read_login(path)
    except NoLogin:
        return False  # what cannot be used is no loss
    return kept is not None and bool(kept.login) and kept.url != url
