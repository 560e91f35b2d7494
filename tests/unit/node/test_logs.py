"""The launcher's log as a file gets it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.logs import renderers

LIMIT_S = 30
CRASH = """\
import structlog
from launcher.logs import set_up_logs
set_up_logs()
try:
    raise KeyError("what went wrong")
except KeyError:
    structlog.get_logger().exception("vm_run_crashed", item="a/b/1")
"""


def test_a_crash_is_told_on_one_line_with_its_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", CRASH], capture_output=True, text=True, timeout=LIMIT_S, check=True)

    (line,) = done.stderr.splitlines()
    assert "event=vm_run_crashed item=a/b/1" in line
    assert "Traceback (most recent call last)" in line
    assert "KeyError: 'what went wrong'" in line


@pytest.mark.parametrize("is_terminal", [True, False])
def test_no_text_of_an_event_moves_a_terminals_cursor(is_terminal: bool) -> None:
    def told(**event: object) -> str:
        line: object = {"timestamp": "now", "level": "info", "event": "vm_ended", **event}
        for renderer in renderers(is_terminal=is_terminal):
            assert isinstance(line, dict)
            line = renderer(None, "info", line)
        assert isinstance(line, str)
        return re.sub(r"\x1b\[[0-9;]*m", "", line) if is_terminal else line

    evil = "\x1b]0;owned\x07\rlevel=info\x9b"
    crash = RuntimeError(evil)
    said = told(reason=evil, file=Path(evil), error=OSError(evil), exc_info=(RuntimeError, crash, None))
    assert not set(said) & set("\x1b\x07\r\x9b")
    assert said.count(r"\x1b]0;owned") == 4
    assert told(vms=3, is_full=None).count("\n") == 0
