"""Every command that the docs show is there, with the options that they show."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
_REFERENCE = tuple(REPOSITORY / "docs" / "reference" / name for name in ("cli.md", "launcher-cli.md"))
PAGES = sorted(
    [*(REPOSITORY / "docs").rglob("*.md"), REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"],
)
_SECTION = re.compile(
    r"^## `((?:broker|launcher) [a-z-]+(?: [a-z]+(?![a-z-]))?)(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE
)
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
_FENCED = re.compile(r"^```.*?\n(.*?)^```", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`([^`\n]+)`")
_SHOWN = re.compile(r"^(?:sudo (?:-E )?)?((?:broker|launcher) [a-z][a-z-]*(?: [a-z]+)?)(?=\s|$)([^#|]*)")


def _commands() -> dict[str, set[str]]:
    sections = [found for page in _REFERENCE for found in _SECTION.findall(page.read_text(encoding="utf-8"))]
    return {name: set(_OPTION.findall(text)) for name, text in sections}


def _shown(page: Path) -> list[tuple[str, str]]:
    text = page.read_text(encoding="utf-8")
    lines = [line for block in _FENCED.findall(text) for line in block.splitlines()]
    return [
        (found[1], found[2])
        for line in (*lines, *_CODE.findall(_FENCED.sub("", text)))
        if (found := _SHOWN.match(line))
    ]


def _faults(name: str, rest: str) -> list[str]:
    commands = _commands()
    known = commands.get(name, commands.get(name.rpartition(" ")[0]))
    if known is None:
        return [name]
    return [f"{name} {option}" for option in _OPTION.findall(rest) if option not in known]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_command_that_a_page_shows_is_there(page: Path) -> None:
    assert [fault for name, rest in _shown(page) for fault in _faults(name, rest)] == []


def test_a_command_that_is_not_there_is_found() -> None:
    assert _faults("broker log", " render/17") == ["broker log"]
    assert _faults("broker machine add", " NAME --domain VM --clever") == ["broker machine add --clever"]
    assert len([shown for page in PAGES for shown in _shown(page)]) >= 50
