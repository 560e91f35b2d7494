"""The table applied: every element and attribute of a researcher's XML gets the one rule that decides it."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lxml import etree

from launcher.domain_xml.findings import Change, Refusal
from launcher.domain_xml.rules import Rule, Treatment, by_path, text_of
from launcher.domain_xml.table_devices import DEVICE_RULES
from launcher.domain_xml.table_domain import DOMAIN_RULES
from launcher.domain_xml.tree import remove

RULES: tuple[Rule, ...] = (*DOMAIN_RULES, *DEVICE_RULES)
"""Keep, set, drop, refuse: the one table. Within a path the first rule whose conditions hold decides."""

UNKNOWN = Rule(path="*", treatment=Treatment.DROP, why="vmbroker does not know it")
NOT_THE_FIRST = Rule(path="*", treatment=Treatment.DROP, why="a vm has only one of these")
INCOMPLETE = Rule(path="*", treatment=Treatment.DROP, why="an attribute that it needs is missing or not known")
FOREIGN = Rule(
    path="*",
    treatment=Treatment.REFUSE,
    why="it belongs to another XML namespace, which can reach past libvirt (as `qemu:commandline` does)",
    remedy="remove the element or attribute",
)

_BY_PATH = by_path(RULES)


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one element, or of one of its attributes; `path` is how it is shown to its owner."""

    path: str
    rule: Rule
    element: etree._Element
    attribute: str | None = None


def judge(root: etree._Element) -> list[Decision]:
    """Decide everything in the tree below `root`, in its order. Changes nothing."""
    shown = f"/{root.tag}"
    return [
        Decision(shown, _rule_for(".", root, ""), root),
        *_attributes(root, "", shown),
        *_children(root, "", shown),
    ]


def refusals(decisions: Iterable[Decision]) -> list[Refusal]:
    """Return the decisions that refuse the XML."""
    return [
        Refusal(decision.path, decision.rule.why, decision.rule.remedy)
        for decision in decisions
        if decision.rule.treatment is Treatment.REFUSE
    ]


def changes(decisions: Iterable[Decision], treatment: Treatment) -> list[Change]:
    """Return the decisions that drop, or that set, something."""
    return [Change(decision.path, decision.rule.why) for decision in decisions if decision.rule.treatment is treatment]


def prune(decisions: Iterable[Decision]) -> None:
    """Take out of the tree what is dropped, and empty what is to be set: nothing of it can stay by oversight.

    What is emptied keeps its place; an empty value that no step fills does not pass the output policy.
    """
    for decision in decisions:
        match decision.rule.treatment, decision.attribute:
            case Treatment.KEEP, None if not decision.rule.values:
                decision.element.text = None
            case Treatment.KEEP, _:
                pass
            case Treatment.SET, None:
                decision.element.clear()
            case Treatment.SET, str(attribute):
                decision.element.set(attribute, "")
            case _, None:
                remove(decision.element)
            case _, str(attribute):
                del decision.element.attrib[attribute]


def _children(parent: etree._Element, path: str, shown: str) -> Iterator[Decision]:
    totals = Counter(child.tag for child in parent)
    met: Counter[str] = Counter()
    for child in parent:
        met[child.tag] += 1
        numbered = path == "devices" or totals[child.tag] > 1
        child_shown = f"{shown}/{_name(child)}" + (f"[{met[child.tag]}]" if numbered else "")
        child_path = f"{path}/{child.tag}" if path else child.tag
        yield from _element(child, child_path, child_shown, is_first=met[child.tag] == 1)


def _element(element: etree._Element, path: str, shown: str, *, is_first: bool) -> Iterator[Decision]:
    rule = FOREIGN if element.tag.startswith("{") else _rule_for(path, element, text_of(element))
    if rule.treatment in {Treatment.KEEP, Treatment.SET} and not rule.many and not is_first:
        rule = NOT_THE_FIRST
    attributes = list(_attributes(element, path, shown)) if rule.treatment is Treatment.KEEP else []
    if not _has_required(rule, attributes):
        rule = INCOMPLETE
    yield Decision(shown, rule, element)
    if rule.treatment is Treatment.KEEP:
        yield from attributes
        yield from _children(element, path, shown)
    elif rule.treatment is not Treatment.REFUSE:
        yield from _refused_below(element, path, shown)


def _attributes(element: etree._Element, path: str, shown: str) -> Iterator[Decision]:
    for name, value in element.attrib.items():
        name, value = str(name), str(value)
        rule = FOREIGN if name.startswith("{") else _rule_for(f"{path}/@{name}".lstrip("/"), element, value)
        yield Decision(f"{shown}/@{etree.QName(name).localname}", rule, element, name)


def _refused_below(element: etree._Element, path: str, shown: str) -> Iterator[Decision]:
    """What is taken out may still ask for the host in a way that the guest depends on."""
    for decision in (*_attributes(element, path, shown), *_children(element, path, shown)):
        if decision.rule.treatment is Treatment.REFUSE and decision.rule is not FOREIGN:
            yield decision


def _has_required(rule: Rule, attributes: Iterable[Decision]) -> bool:
    kept = {decision.attribute for decision in attributes if decision.rule.treatment is Treatment.KEEP}
    return kept.issuperset(rule.required)


def _rule_for(path: str, element: etree._Element, value: str) -> Rule:
    return next((rule for rule in _BY_PATH.get(path, ()) if rule.decides(element, value)), UNKNOWN)


def _name(element: etree._Element) -> str:
    return f"{element.prefix}:{etree.QName(element).localname}" if element.prefix else element.tag
