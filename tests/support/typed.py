"""A person's home whose `broker` commands run within the test.

Starting a program for each took most of the time of the tests that type them. What a process of its own is needed for
(a server, a signal, a terminal) is started as one: by `Home.running`, or a `Home` made for it.
"""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

from typer.testing import CliRunner, Result

from broker.cli.commands import app
from tests.support.grid import Home, Said

OF_THEIR_OWN = frozenset({"serve"})
"""Commands that are a process: they take signals, fork, or go on for ever."""


class Typed(Home):
    def run(self, *command: str, stdin: str | None = None, timeout_s: float = 120) -> Said:
        if command[0] != "broker" or command[1:2] in {(name,) for name in OF_THEIR_OWN}:
            return super().run(*command, stdin=stdin, timeout_s=timeout_s)
        ended = self._invoked(command[1:], stdin, timeout_s)
        assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exc_info
        return Said(ended.exit_code, ended.stdout, ended.stderr)

    def _invoked(self, words: tuple[str, ...], stdin: str | None, timeout_s: float) -> Result:
        def invoke() -> Result:
            return CliRunner().invoke(app, words, env=self._changes(), input=stdin)

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return invoke()
        # A command runs a loop of its own, which a thread that has one running cannot have.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(invoke).result(timeout_s)

    def _changes(self) -> dict[str, str | None]:
        """Return what of this process's environment is another one for the command, or not there."""
        wanted = self.environment()
        return {**dict.fromkeys(set(os.environ) - set(wanted)), **wanted}
