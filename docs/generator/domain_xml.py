"""The block of the page on domain XML: the launcher's table, rules with the same meaning on one line."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from docs.generator.layout import code, codes, table
from launcher.domain_xml import RULES
from launcher.domain_xml.rules import Rule, Treatment
from launcher.domain_xml.table_devices import CONTROLLERS, DISKS, DROPPED, INTERFACES, OURS, REFUSED
from launcher.domain_xml.table_domain import BOOT, CLOCK, FEATURES, IDENTITY, LIFECYCLE, RESOURCES

_GROUPS = {
    "Name and identity": IDENTITY,
    "Memory and processors": RESOURCES,
    "Boot and firmware": BOOT,
    "Features": FEATURES,
    "Clock": CLOCK,
    "Life and labels": LIFECYCLE,
    "Devices that are refused": REFUSED,
    "Disks": DISKS,
    "Network interfaces": INTERFACES,
    "Controllers": CONTROLLERS,
    "Console, video, random numbers and other devices": OURS,
    "Devices that are dropped": DROPPED,
}
_CONTAINER = "devices"


def xml_rules() -> str:
    """Return the tables of what becomes of each element and attribute."""
    grouped = {rule for rules in _GROUPS.values() for rule in rules}
    assert {rule.path for rule in set(RULES) - grouped} == {_CONTAINER}, "name a group for every rule"
    return "\n\n".join(f"## {title}\n\n{_group(rules)}" for title, rules in _GROUPS.items())


def _group(rules: Iterable[Rule]) -> str:
    rows = [_row(list(alike)) for _, alike in groupby(rules, _likeness)]
    return table(("becomes", "element or attribute", "when", "values, or why"), _joined(rows))


def _likeness(rule: Rule) -> tuple[object, ...]:
    """Return what rules on one line have in common: a kept element and its attributes, or one reason."""
    owner = _element(rule.path) if rule.treatment is Treatment.KEEP else ""
    return rule.treatment, owner, rule.when, rule.why, rule.remedy


def _row(rules: list[Rule]) -> tuple[str, ...]:
    first = rules[0]
    when = "; ".join(f"{name.removesuffix('()')} is {code(pattern)}" for name, pattern in first.when)
    if first.treatment is Treatment.KEEP:
        return first.treatment, code(_element(first.path)), when, "; ".join(_kept(rules))
    why = f"{first.why}: {first.remedy}" if first.remedy else first.why
    # Bare, an element's name would pass for HTML.
    return first.treatment, codes(rule.path for rule in rules), when, why.replace("<", "\\<")


def _kept(rules: Iterable[Rule]) -> Iterator[str]:
    """Yield what attributes and text must match, unless `when` says it."""
    rules = list(rules)
    required = {name for rule in rules for name in rule.required}
    for rule in rules:
        _, _, name = rule.path.partition("/@")
        if rule.values and (name, rule.values) not in rule.when:
            shown = f"@{name}" if name else "text"
            yield f"{shown} {code(rule.values)}{' (needed)' if name in required else ''}"


def _joined(rows: Iterable[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """Join neighbours of which there is nothing to say but their names."""
    for (treatment, when, values), alike in groupby(rows, lambda row: (row[0], row[2], row[3])):
        names = [row[1] for row in alike]
        if when or values:
            yield from ((treatment, name, when, values) for name in names)
        else:
            yield treatment, ", ".join(names), "", ""


def _element(path: str) -> str:
    return path.partition("/@")[0]
