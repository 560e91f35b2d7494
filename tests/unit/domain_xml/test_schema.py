"""The table against libvirt's own schema: nothing that a domain can hold is decided by oversight."""

import re
from collections.abc import Iterator
from pathlib import Path

from lxml import etree

from launcher.domain_xml import RULES
from launcher.domain_xml.rules import Treatment
from tests.unit.domain_xml.test_golden import SCHEMA

RNG = "{http://relaxng.org/ns/structure/1.0}"
DEEPEST = 6
LEFT_UNKNOWN = (
    # Of kinds of address that are dropped whole: only those of PCI and of drives are kept, with what they have.
    r"devices/(disk|controller|interface|rng|video|watchdog)/address/(@(base|iobase|irq|port|reg|cssid|ssid|devno)|zpci.*)",
    r"devices/(controller|interface|rng|video|watchdog)/address/@(controller|target|unit)",
)
TREATMENTS: dict[str, set[Treatment]] = {}
for _rule in RULES:
    TREATMENTS.setdefault(_rule.path, set()).add(_rule.treatment)


class Schema:
    """The elements and attributes below `domain` that libvirt's schema allows, of libvirt's own namespace."""

    def __init__(self, file: Path) -> None:
        self._definitions: dict[str, list[etree._Element]] = {}
        self._read: set[Path] = set()
        root = self._load(file)
        self.paths = set(self._walk(next(root.iter(f"{RNG}start")), "", frozenset()))

    def _load(self, file: Path) -> etree._Element:
        root = etree.parse(file).getroot()
        self._read.add(file)
        for definition in root.iter(f"{RNG}define"):
            self._definitions.setdefault(str(definition.get("name")), []).append(definition)
        for include in root.iter(f"{RNG}include"):
            included = file.with_name(str(include.get("href")))
            if included not in self._read:
                self._load(included)
        return root

    def _walk(self, node: etree._Element, path: str, met: frozenset[tuple[str, str]]) -> Iterator[str]:
        for child in node.iterchildren(etree.Element):
            name = child.get("name")
            if child.tag == f"{RNG}ref":
                if (str(name), path) not in met:
                    for definition in self._definitions[str(name)]:
                        yield from self._walk(definition, path, met | {(str(name), path)})
            elif child.tag == f"{RNG}attribute" and name is not None:
                yield f"{path}/@{name}"
            elif child.tag != f"{RNG}element":
                yield from self._walk(child, path, met)
            elif name is not None and child.get("ns") is None and path.count("/") < DEEPEST:
                below = f"{path}/{name}".lstrip("/")
                yield below
                yield from self._walk(child, below, met)


def test_every_element_and_attribute_of_libvirts_schema_has_a_rule_or_is_left_unknown_on_purpose() -> None:
    paths = {path.removeprefix("domain/") for path in Schema(SCHEMA).paths - {"domain"}}
    assert len(paths) > 2_000, "the schema was not read as it is written"
    undecided = {path for path in paths if not _is_decided(path)}
    left = {path for path in undecided if any(re.fullmatch(pattern, path) for pattern in LEFT_UNKNOWN)}
    assert sorted(undecided - left) == []
    assert [pattern for pattern in LEFT_UNKNOWN if not any(re.fullmatch(pattern, path) for path in left)] == []


def _is_decided(path: str) -> bool:
    """Say whether a rule names the path, or one names something above it without ever keeping that."""
    if path in TREATMENTS:
        return True
    above = path
    while "/" in above:
        above = above.rpartition("/")[0]
        if above in TREATMENTS:
            return Treatment.KEEP not in TREATMENTS[above]
    return False
