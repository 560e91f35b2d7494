"""What strangers wrote is shown by commands: nothing of it acts on the terminal of whoever reads."""

import io
import json
import logging
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from broker.cli.commands import COMMANDS, app
from broker.telemetry import configure_logging
from tests.support.planted import HOSTILE, MARK, planted_broker

ALLOWED = {"\n", "\t"}
SHOWN = [
    "status render",
    "status render/1",
    "results render",
    "results render -o json",
    "results render -o jsonl",
    "results render -o csv",
    "why render",
    "why render/1",
    "console render/1",
    "logs render/1",
    "logs render/1 --console",
    "events",
    "events render",
    "events render -o jsonl",
    "launchers",
    "launchers -o json",
    "machine list",
    "machine show m",
    "machine show m --xml",
    "machine rm m --yes",
    "machine share m bob",
    "machine unshare m bob",
    "machine uploads",
    "stream list",
    "stream show render",
    "stream show render -o toml",
    "stream show render -o json",
    "stream revisions render",
    "stream add other --machine m --run x",
    "user show",
    "user set bob --weight 2",
    "user add bob",
    "user logout bob",
    "login {url}",
    "token create --name x",
    "token list",
    "token revoke x",
    "site add renci --users *",
    "site list",
    "site rm renci",
    "callback test render",
    "secret add x --file {file}",
    "secret list",
    "secret rm x",
    "callback list",
    "callback list --state dead -o json",
    "callback replay x",
    "whoami",
    "cancel render/1",
    "cancel render --all --no-wait",
    "hold render/1 --reason x",
    "release render/1",
    "pause render",
    "resume render",
    "purge render --yes",
    "push render http://h/x",
    "file put {file}",
    "file get x {folder}/there",
    "file get x/ {folder}/below",
    "file ls",
    "file ls x -o jsonl",
    "file rm x",
    "file share x",
]
OF_ONES_OWN = {
    "machine rm m --yes",
    "machine share m bob",
    "machine unshare m bob",
    "machine uploads",
    "stream list",
    "stream add other --machine m --run x",
    "user show",
    "user set bob --weight 2",
    "user logout bob",
    "login {url}",
    "token revoke x",
    "site rm renci",
    "secret add x --file {file}",
    "secret rm x",
    "cancel render/1",
    "cancel render --all --no-wait",
    "release render/1",
    "resume render",
    "purge render --yes",
    "push render http://h/x",
    "file get x {folder}/there",
    "file rm x",
    "file share x",
}
"""When nothing is refused, what these say is made of what was asked, and of names that were checked."""
NOT_SHOWING = {"serve", "callbacks", "check-config", "key", "logout"}
"""They show nothing of anybody else's."""
FOLLOWING = {"watch", "try"}
"""They go on until an item ends; what they print is printed by the same functions, and by the same console."""


@pytest.fixture(scope="module", params=[False, True], ids=["answers", "refusals"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with planted_broker(is_refusing=request.param) as url:
        yield url


@pytest.mark.parametrize("command", SHOWN)
def test_no_command_lets_a_strangers_text_act_on_the_terminal(url: str, command: str, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"x")
    words = command.format(file=file, folder=tmp_path, url=url).split()
    environment = {"VMBROKER_URL": url, "BEARER_TOKEN": "t", "XDG_CONFIG_HOME": str(tmp_path), "COLUMNS": "100"}

    ended = CliRunner().invoke(app, words, env={**environment, "NO_COLOR": "1"}, input="22222-22222-22222-22222-22222")

    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exc_info
    for text in (ended.stdout, ended.stderr):
        acting = {f"{char!a} in {text[max(0, at - 30) : at + 30]!a}" for at, char in enumerate(text) if _acts(char)}
        assert not acting
        assert "\U0001f525" not in text, "Rich read it as its own words"
    assert MARK in ended.stdout + ended.stderr or command in OF_ONES_OWN


def test_every_command_is_among_them() -> None:
    assert {words.split()[0] for words in SHOWN} | NOT_SHOWING | FOLLOWING == set(COMMANDS)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_line_of_the_log_acts_on_the_terminal(
    log_format: str, monkeypatch: pytest.MonkeyPatch, restored_logging: None
) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    configure_logging("json" if log_format == "json" else "text", "info")
    log = structlog.get_logger("hostile")

    log.info("client_gone", path=HOSTILE, plain="as it is", many=[HOSTILE])
    logging.getLogger("other").warning("said %s", HOSTILE)
    try:
        int(HOSTILE)
    except ValueError:
        log.exception("request_crashed", path=HOSTILE)

    text = written.getvalue()
    assert not [char for char in text if _acts(char)]
    assert MARK in text
    assert "as it is" in text
    if log_format == "json":
        assert json.loads(text.splitlines()[0])["path"] == HOSTILE


@pytest.fixture
def restored_logging() -> Iterator[None]:
    root, config = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**config)


def _acts(char: str) -> bool:
    return char not in ALLOWED and (unicodedata.category(char)[0] == "C" or char in "\u2028\u2029")
