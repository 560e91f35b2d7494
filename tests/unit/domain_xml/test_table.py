from collections.abc import Iterator

from launcher.domain_xml import RULES
from launcher.domain_xml.examination import examine_tree
from launcher.domain_xml.judge import Decision
from launcher.domain_xml.parsing import parse
from launcher.domain_xml.rules import Treatment
from tests.unit.domain_xml.cases import CASES
from tests.unit.domain_xml.hostile import DOMAINS


def test_every_row_of_the_table_decides_something_in_a_golden_or_a_hostile_xml() -> None:
    exercised = {decision.rule for decision in _decisions()}
    assert [rule for rule in RULES if rule not in exercised] == []


def test_every_row_says_why_and_a_refusal_what_to_do() -> None:
    for rule in RULES:
        assert bool(rule.why) == (rule.treatment is not Treatment.KEEP), rule
        assert bool(rule.remedy) == (rule.treatment is Treatment.REFUSE), rule


def test_no_row_stands_twice() -> None:
    assert len(set(RULES)) == len(RULES)


def _decisions() -> Iterator[Decision]:
    for case in CASES:
        yield from examine_tree(parse(case.input.read_bytes()), case.disks)[1]
    for hostile in DOMAINS:
        yield from examine_tree(parse(hostile.xml.encode()), ["vda"])[1]
