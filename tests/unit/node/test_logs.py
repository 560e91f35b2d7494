"""The launcher's log as a file gets it."""

import subprocess
import sys

LIMIT_S = 30
CRASH = """\
import structlog
from launcher.commands import _set_up_logs
_set_up_logs()
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
