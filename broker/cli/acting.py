"""How every command acts: find the login, open one session, run, and turn what goes wrong into one sentence."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import typer

from broker.cli.exits import BadUsage, Exit, Failed, fail, tell
from broker.client.errors import ApiError, CallError
from broker.client.files import DownloadDiffers, Files
from broker.client.folders import Folders
from broker.client.login import LoginFile, NoLogin, find_login, kept_login
from broker.client.logins import Logins
from broker.client.renewal import Renewal
from broker.client.researcher import Researcher
from broker.client.session import Patience, Session, TokenSource
from broker.wire.names import BadName, ItemRef, OwnedName, parse_item, parse_owned
from broker.wire.problems import Problem

_PATIENCE = Patience(attempts=5, total_s=15.0)
"""A person waits: less than a program does."""
_UNAVAILABLE = 503
_SERVER_ERROR = 500
_SHOWN_CHARS = 100


@dataclass(frozen=True, slots=True)
class Acting:
    """A session with the broker, and who we are there."""

    session: Session
    researcher: Researcher
    files: Files
    user: str

    @property
    def kept(self) -> LoginFile | None:
        """What is kept on this machine of a login at this broker."""
        kept = kept_login()
        return kept.content if kept is not None and kept.content.url == self.session.base_url else None

    @property
    def folders(self) -> Folders:
        return Folders(self.session)

    def stream(self, text: str) -> OwnedName:
        """Read `JOB` or `USER/JOB`."""
        return parse_owned(text, self.user, "stream")

    def machine(self, text: str) -> OwnedName:
        """Read `NAME` or `USER/NAME`."""
        return parse_owned(text, self.user, "machine")

    def item(self, text: str) -> ItemRef:
        """Read `JOB/17` or `USER/JOB/17`."""
        return parse_item(text, self.user)


def act(work: Callable[[Acting], Coroutine[Any, Any, int | None]]) -> NoReturn:
    """Log in, do the work, and leave with the exit status it returns; whatever goes wrong is told on stderr."""
    run_to_end(_logged_in(work))


def run_to_end(work: Coroutine[Any, Any, int | None]) -> NoReturn:
    """Run what needs no login, and leave as `act` does."""
    raise typer.Exit(_run(work))


def _run(work: Coroutine[Any, Any, int | None]) -> int:
    try:
        return asyncio.run(work) or Exit.DONE
    except (BadUsage, BadName, NoLogin) as error:
        return fail(str(error), Exit.USAGE)
    except UnicodeEncodeError as error:
        return fail(_unwritable(error), Exit.USAGE)
    except ApiError as error:
        tell(error.problem.detail, *_more(error.problem), *_notes(error))
        return Exit.UNREACHABLE if error.status == _UNAVAILABLE else Exit.REFUSED
    except CallError as error:
        tell(f"{error}; is the broker running there?", *_notes(error))
        return Exit.UNREACHABLE
    except (Failed, DownloadDiffers) as error:
        return fail(str(error), Exit.FAILED)
    except BrokenPipeError:
        # Whoever read our output has enough; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    except OSError as error:
        return fail(f"{error.filename2 or error.filename or 'the local disk'}: {error.strerror}", Exit.FAILED)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


async def _logged_in(work: Callable[[Acting], Coroutine[Any, Any, int | None]]) -> int | None:
    async with _session() as acting:
        return await work(acting)


@asynccontextmanager
async def _session() -> AsyncIterator[Acting]:
    login = find_login()
    async with calling(login.url, None, login.ca_pem) as renewing:
        token = login.token if login.kept is None else Renewal(login.kept, Logins(renewing))
        async with calling(login.url, token, login.ca_pem) as session:
            researcher = Researcher(session)
            who = await researcher.whoami()
            yield Acting(session, researcher, Files(session), who.user)


def calling(url: str, token: str | TokenSource | None, ca_pem: str | None) -> Session:
    """Return a session as a person's command needs it; use it as a context.

    Raises:
        BadUsage: the address is none.
    """
    try:
        return Session(url, token=token, ca_pem=ca_pem, patience=_PATIENCE)
    except ValueError as error:
        raise BadUsage(str(error)) from error


def _unwritable(error: UnicodeEncodeError) -> str:
    shown = error.object[max(0, error.start - _SHOWN_CHARS) : error.end + _SHOWN_CHARS]
    if error.encoding.lower().startswith("utf"):
        return f"{shown!r} is no UTF-8 text: write it as such; a file with such a name must be renamed"
    return f"this terminal's encoding, {error.encoding}, cannot show {shown!r}: set LC_ALL=C.UTF-8"


def _notes(error: Exception) -> list[str]:
    """Return what the command added: how far it came, and how to go on."""
    return list(getattr(error, "__notes__", []))


def _more(problem: Problem) -> list[str]:
    lines = []
    for refusal in problem.refusals:
        where = refusal.get("path") or f"line {refusal.get('line', '?')}"
        lines.append(f"{where}: {refusal.get('reason', '')}; {refusal.get('remedy', '')}")
    if problem.status >= _SERVER_ERROR:
        lines.append(f"request id {problem.request_id}")
    return lines
