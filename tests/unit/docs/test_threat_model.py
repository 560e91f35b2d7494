"""What the threat model says is shown by a test is shown by one that is there."""

import ast
import re

import pytest

from tests.support.grid import REPOSITORY

PAGE = REPOSITORY / "THREAT_MODEL.md"
NAMED = sorted(set(re.findall(r"`(tests/[\w/.]+(?:::\w+)?)`", PAGE.read_text())))


def test_every_defence_names_a_test() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    headed = [index for index, row in enumerate(rows) if row.startswith("| threat |")]
    tables = [rows[start + 2 : end] for start, end in zip(headed, [*headed[1:], len(rows)], strict=True)]
    defences = [row for table in tables for row in table]

    assert len(defences) > 20
    assert [row for row in defences if "`tests/" not in row] == []


@pytest.mark.parametrize("name", NAMED)
def test_a_test_that_is_named_is_there(name: str) -> None:
    path, _, function = name.partition("::")
    found = REPOSITORY / path

    assert found.exists()
    if function:
        tree = ast.parse(found.read_text())
        defined = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
        assert function in defined
