"""Every spec on the page of targets is one."""

import re

import pytest

from broker.cli.spec_file import parse_document, read_spec
from broker.wire.names import StreamRef, UserName
from tests.support.grid import REPOSITORY

PAGE = (REPOSITORY / "docs/how-to/targets.md").read_text()
SPECS = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("text", SPECS)
def test_an_example_is_a_spec(text: str) -> None:
    assert read_spec(parse_document(text.encode(), "example"), StreamRef(UserName("alice"), "render")).output.to in text


def test_there_are_examples() -> None:
    assert len(SPECS) == 5
