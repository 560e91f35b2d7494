"""The vocabulary of the table: what becomes of one element or attribute of a researcher's XML.

A path is written below `domain` (itself `.`), an attribute with `@`: `devices/disk/@device`. For each path the first
rule whose conditions hold decides; where there is none, the thing is unknown and dropped.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from lxml import etree


class Treatment(StrEnum):
    """Keep it as it is, put ours in its place, leave it out, or refuse the whole XML for it."""

    KEEP = "keep"
    SET = "set"
    DROP = "drop"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row of the table.

    `values` is what a kept attribute's value, or a kept element's text, must match; any other falls to the path's next
    rule. An element without `values` is kept without its text; one that lacks a `required` attribute is dropped whole,
    as is a second one unless `many` are known. Below a set or dropped element only refusals count.
    """

    path: str
    treatment: Treatment
    why: str = ""
    remedy: str = ""
    values: str = ""
    when: tuple[tuple[str, str], ...] = ()
    required: tuple[str, ...] = ()
    many: bool = False

    def decides(self, element: etree._Element, value: str) -> bool:
        """Say whether this rule is for `element`, or for the one of its attributes that has `value`."""
        if self.values and not matches(self.values, value):
            return False
        return all(matches(pattern, _subject(element, name)) for name, pattern in self.when)


def matches(pattern: str, text: str) -> bool:
    """Say whether the whole of `text` is what `pattern` describes."""
    return _compiled(pattern).fullmatch(text) is not None


def keep(
    path: str,
    *,
    text: str = "",
    when: Mapping[str, str] | None = None,
    required: tuple[str, ...] = (),
    many: bool = False,
    **attributes: str,
) -> tuple[Rule, ...]:
    """Keep an element, with those of its attributes that are named here and match."""
    conditions = _conditions(when)
    element = Rule(path=path, treatment=Treatment.KEEP, values=text, when=conditions, required=required, many=many)
    return (
        element,
        *(
            Rule(path=f"{path}/@{name}", treatment=Treatment.KEEP, values=values, when=conditions)
            for name, values in attributes.items()
        ),
    )


def put(paths: str, why: str) -> tuple[Rule, ...]:
    """Put ours in the place of the elements or attributes, several paths separated by spaces."""
    return tuple(Rule(path=path, treatment=Treatment.SET, why=why) for path in paths.split())


def drop(paths: str, why: str) -> tuple[Rule, ...]:
    """Leave out the elements or attributes, several paths separated by spaces."""
    return tuple(Rule(path=path, treatment=Treatment.DROP, why=why) for path in paths.split())


def refuse(paths: str, why: str, remedy: str, *, when: Mapping[str, str] | None = None) -> tuple[Rule, ...]:
    """Refuse the XML for the elements or attributes, several paths separated by spaces."""
    return tuple(
        Rule(path=path, treatment=Treatment.REFUSE, why=why, remedy=remedy, when=_conditions(when))
        for path in paths.split()
    )


def by_path(rules: Iterable[Rule]) -> Mapping[str, tuple[Rule, ...]]:
    """Index `rules`, keeping their order within a path."""
    index: dict[str, tuple[Rule, ...]] = {}
    for rule in rules:
        index[rule.path] = (*index.get(rule.path, ()), rule)
    return index


def _conditions(when: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    return tuple((when or {}).items())


def text_of(element: etree._Element) -> str:
    """Return the element's own text, empty where there is none."""
    return element.text or ""


def _subject(element: etree._Element, name: str) -> str:
    return text_of(element) if name == "text()" else element.get(name, "")


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
