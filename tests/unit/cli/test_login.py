"""What `broker login` shows of an institution's words."""

import pytest

from broker.cli import login
from broker.client.device_flow import Prompt

ESCAPE = "\x1b]0;owned\x07\u202e\r\nbroker: logged in"


def test_what_an_institution_wrote_does_nothing_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    address = f"https://x.example/{ESCAPE}"
    login._ask(Prompt("d", f"AB{ESCAPE}", address, 600, address))

    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["open", "or"]
    assert all(line.isprintable() for line in lines)
    assert "https://x.example/^[]0;owned^G" in lines[0]
