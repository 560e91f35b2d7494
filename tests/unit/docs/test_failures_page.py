import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]


def test_every_failure_in_the_list_names_a_test_that_exists() -> None:
    page = (REPOSITORY / "docs" / "reference" / "failures.md").read_text()
    named = re.findall(r"`(test_\w+)` \|$", page, flags=re.MULTILINE)
    files = (path for tier in ("acceptance", "vm") for path in (REPOSITORY / "tests" / tier).glob("test_*.py"))
    written = "\n".join(path.read_text() for path in files)
    assert len(named) >= 11
    assert [name for name in named if f"def {name}(" not in written] == []
