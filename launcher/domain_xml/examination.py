"""The input policy: what a researcher's XML may ask for, judged before anything is made of it."""

from collections.abc import Collection
from dataclasses import dataclass

from lxml import etree

from launcher.domain_xml import judge
from launcher.domain_xml.facts import Facts, read_facts, unfit
from launcher.domain_xml.findings import Change, Refusal, XmlRefused
from launcher.domain_xml.images import empty_drives, unmatched
from launcher.domain_xml.judge import Decision
from launcher.domain_xml.parsing import parse
from launcher.domain_xml.rules import Treatment


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """Everything there is to say about an XML, at once.

    `facts` is None only where the XML cannot be read, or its vcpus or memory cannot be told; `refusals` says so.
    """

    refusals: tuple[Refusal, ...]
    dropped: tuple[Change, ...] = ()
    put: tuple[Change, ...] = ()
    facts: Facts | None = None

    def accepted(self) -> Facts:
        """Return the facts of a machine that a node can run.

        Raises:
            XmlRefused: with all refusals.
        """
        if self.refusals or self.facts is None:
            raise XmlRefused(self.refusals)
        return self.facts


def examine(xml: bytes, disks_given: Collection[str]) -> Examination:
    """Judge `xml` with images given for the disk targets `disks_given`.

    Opens nothing that the XML names: a disk's source is replaced by the image given for its target, or refused by its
    target. Never raises for what the XML holds.
    """
    try:
        root = parse(xml)
    except XmlRefused as refused:
        return Examination(refusals=refused.refusals)
    return examine_tree(root, disks_given)[0]


def examine_tree(root: etree._Element, disks_given: Collection[str]) -> tuple[Examination, list[Decision]]:
    """Judge a parsed XML; return the decisions too, for `judge.prune`. Changes nothing."""
    if root.tag != "domain":
        reason = f"it is a <{etree.QName(root).localname}>, not a <domain>"
        refusal = Refusal("/", reason, "export the machine by `virsh dumpxml`")
        return Examination(refusals=(refusal,)), []
    decisions = [*judge.judge(root), *empty_drives(root, disks_given)]
    examination = Examination(
        refusals=(*unfit(root), *judge.refusals(decisions), *unmatched(root, disks_given)),
        dropped=tuple(judge.changes(decisions, Treatment.DROP)),
        put=tuple(judge.changes(decisions, Treatment.SET)),
        facts=read_facts(root),
    )
    return examination, decisions
