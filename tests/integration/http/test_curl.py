"""The page on curl says what works: its blocks, one after another, against a real broker."""

import os
import re
import subprocess
from pathlib import Path

from tests.support.api import XML
from tests.support.grid import REPOSITORY, Broker, Home, free_port

PAGE = REPOSITORY / "docs/how-to/curl.md"


def test_what_the_page_says_works_as_it_stands(tmp_path: Path) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) > 5
    (tmp_path / "m.xml").write_text(XML)
    broker = Broker(Home(tmp_path), free_port())
    with broker.serving():
        given = {"BROKER": broker.url, "OPERATOR": broker.token(), "DOMAIN_XML": str(tmp_path / "m.xml")}
        script = "\n".join(f"echo '== {number}'\n{block}" for number, block in enumerate(blocks))
        # As `set -e`, of every command of a pipe, too.
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env={**os.environ, **given},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "A FRAME" in ended.stdout
    assert "org.vmbroker.item.completed" in ended.stdout
    assert ended.stdout.count('{"revoked":1}') == 2  # the site's token, and the program's
