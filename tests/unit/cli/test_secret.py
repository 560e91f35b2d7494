import getpass
import sys

import pytest

from broker.cli.exits import BadUsage
from broker.cli.secret import _value
from broker.wire.secrets import SecretKind


def test_a_terminal_that_would_show_what_is_typed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """`fallback_getpass` is what Python takes where echo cannot be turned off: it warns, then shows."""
    monkeypatch.setattr(getpass, "getpass", getpass.fallback_getpass)  # type: ignore[attr-defined] # its stub has it not
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    with pytest.raises(BadUsage, match="this terminal would show what is typed: give --file FILE"):
        _value(None, SecretKind.FILE)
