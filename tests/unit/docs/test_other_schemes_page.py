"""Every spec on the page of other schemes is one; its plugin is run by tests/integration/guest/test_globus.py."""

import re

import pytest

from broker.cli.spec_file import parse_document, read_spec
from broker.domain.specs import spec_faults
from broker.wire.names import StreamRef, UserName
from tests.support.grid import REPOSITORY

SPECS = re.findall(r"```toml\n(.*?)```", (REPOSITORY / "docs/how-to/other-schemes.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("text", SPECS)
def test_an_example_is_a_spec(text: str) -> None:
    stream = StreamRef(UserName("alice"), "render")
    assert spec_faults(read_spec(parse_document(text.encode(), "example"), stream), stream) == []


def test_there_are_examples() -> None:
    assert len(SPECS) == 2
