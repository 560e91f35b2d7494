"""Untrusted bytes become a tree, within bounds, or a refusal.

A first pass counts and builds nothing: it stops at the first document type, so no entity is ever declared, and at the
first element beyond a bound. Only what it let through is built into a tree.

Source: https://lxml.de/parsing.html#parser-options and, for the attacks, https://docs.python.org/3/library/xml.html
"""

from typing import Any

from lxml import etree

from launcher.domain_xml.findings import Refusal, XmlRefused

MAX_BYTES = 524_288
MAX_DEPTH = 64
# An export of a large machine has some hundreds; every rule is looked up once for each element.
MAX_ELEMENTS = 10_000
# No element of libvirt's has more than some fifteen; looking each one up takes time that grows with their square.
MAX_ATTRIBUTES = 64

_EXPORT_AGAIN = "export the machine again with `virsh dumpxml --inactive`"


def parse(xml: bytes) -> etree._Element:
    """Return the root element of `xml`, without comments, processing instructions and white space between elements.

    Nothing outside `xml` is read: no document type, entity, schema or XInclude is followed.

    Raises:
        XmlRefused: not well-formed, beyond the `MAX_…` bounds, or has a document type.
    """
    if len(xml) > MAX_BYTES:
        raise _refused(f"it has {len(xml):,} bytes, the limit is {MAX_BYTES:,}")
    try:
        etree.fromstring(xml, _parser(target=_Bounds()))
        root = etree.fromstring(xml, _parser(remove_comments=True, remove_pis=True))
    except etree.XMLSyntaxError as error:
        raise _refused(f"it is not well-formed XML ({error.msg})") from error
    for element in root.iter():
        _strip(element)
    return root


class _Bounds:
    """Parser target that builds nothing and stops at the first thing a domain's XML has no business with."""

    def __init__(self) -> None:
        self._depth = 0
        self._elements = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._elements += 1
        if self._depth > MAX_DEPTH:
            raise _refused(f"its elements are nested deeper than {MAX_DEPTH}")
        if self._elements > MAX_ELEMENTS:
            raise _refused(f"it has more than {MAX_ELEMENTS:,} elements")
        if len(attributes) > MAX_ATTRIBUTES:
            raise _refused(f"its element {tag[:40]!r} has more than {MAX_ATTRIBUTES} attributes")

    def end(self, _tag: str) -> None:
        self._depth -= 1

    def doctype(self, _name: str, _public_id: str | None, _system: str | None) -> None:
        raise _refused("it has a document type (DTD), which can define entities")

    def close(self) -> None:
        """Give the parser its result: none."""


def _strip(element: etree._Element) -> None:
    """Leave text only where a domain's XML has it: in elements without children, and nothing between elements."""
    element.tail = None
    element.text = (element.text or "").strip() or None if len(element) == 0 else None


def _parser(**options: Any) -> etree.XMLParser:
    return etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, **options)


def _refused(reason: str) -> XmlRefused:
    return XmlRefused([Refusal("/", reason, _EXPORT_AGAIN)])
