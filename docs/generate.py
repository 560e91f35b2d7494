"""Writes what of the docs follows from the code: `python -m docs.generate`; `--check` only compares.

Most pages of docs/reference are generated as a whole. Others are written by hand around generated blocks.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from docs.generator import (
    access,
    commands,
    domain_xml,
    events,
    health,
    http,
    lifecycle,
    settings,
    store_keys,
    stream_spec,
)
from docs.generator.layout import NoBlock, with_blocks

_DOCS = Path(__file__).parent

PAGES: dict[str, Callable[[], str]] = {
    "reference/http-routes.md": http.http_routes,
    "reference/problems.md": http.problems,
    "reference/who-may-do-what.md": access.who_may_do_what,
    "reference/cli.md": commands.broker_command,
    "reference/broker-settings.md": settings.broker_settings,
    "reference/node-health.md": health.node_health,
    "reference/launcher-cli.md": commands.launcher_command,
    "reference/launcher-settings.md": settings.launcher_settings,
    "reference/store-keys.md": store_keys.store_keys,
}
"""Pages that are generated as a whole."""

BLOCKS: dict[str, dict[str, Callable[[], str]]] = {
    "explanation/lifecycle.md": {
        "states": lifecycle.states,
        "diagram": lifecycle.diagram,
        "acts": lifecycle.acts,
        "verdicts": lifecycle.verdicts,
        "deadlines": lifecycle.deadline_table,
        "retries": lifecycle.retries,
    },
    "reference/events.md": {"types": events.event_types, "fields": events.event_fields},
    "reference/stream-spec.md": {"fields": stream_spec.spec_fields},
    "reference/domain-xml.md": {"rules": domain_xml.xml_rules},
}
"""Blocks, by name, of pages that are written by hand."""


def outdated() -> list[str]:
    """Return the names of the pages that do not say what the code says.

    Raises:
        NoBlock: a page written by hand lacks the marks of a block.
    """
    return [name for name, text in _texts().items() if _read(name) != text]


def main() -> int:
    """Write the pages, or compare them; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a page is out of date")
    try:
        if parser.parse_args().check:
            return _check()
        for name, text in _texts().items():
            (_DOCS / name).write_text(text, encoding="utf-8")
    except NoBlock as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _check() -> int:
    old = outdated()
    if old:
        print(f"out of date: {', '.join(old)}; run `python -m docs.generate`", file=sys.stderr)
    return 1 if old else 0


def _texts() -> dict[str, str]:
    """Return every page as it should be."""
    return {name: page() for name, page in PAGES.items()} | {name: _with_blocks(name) for name in BLOCKS}


def _with_blocks(name: str) -> str:
    try:
        return with_blocks(_read(name), {block: content() for block, content in BLOCKS[name].items()})
    except NoBlock as error:
        raise NoBlock(f"docs/{name}: {error}") from error


def _read(name: str) -> str:
    path = _DOCS / name
    return path.read_text(encoding="utf-8") if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
