from pathlib import Path

import pytest

from launcher.domain_xml import XmlRefused, check_output, examine, identity_of
from launcher.domain_xml.parsing import MAX_ATTRIBUTES, MAX_BYTES, MAX_DEPTH, MAX_ELEMENTS, parse
from tests.unit.domain_xml.cases import ALLOWED
from tests.unit.domain_xml.hostile import machine

LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
BILLION_LAUGHS = f'<!DOCTYPE domain [<!ENTITY l0 "lol">{LAUGHS}]><domain type="&l11;"><name>&l11;</name></domain>'


def refusal_of(xml: bytes) -> str:
    with pytest.raises(XmlRefused) as refused:
        parse(xml)
    (refusal,) = refused.value.refusals
    assert examine(xml, {"vda"}).refusals == (refusal,)
    return refusal.reason


@pytest.mark.parametrize(
    "xml",
    [
        BILLION_LAUGHS,
        '<!DOCTYPE domain [<!ENTITY x SYSTEM "file:///etc/passwd">]><domain><name>&x;</name></domain>',
        '<!DOCTYPE domain [<!ENTITY % x SYSTEM "http://127.0.0.1:9/x.dtd"> %x;]><domain/>',
        '<!DOCTYPE domain SYSTEM "http://127.0.0.1:9/x.dtd"><domain/>',
        "<!DOCTYPE domain><domain/>",
    ],
    ids=["billion-laughs", "external-entity", "parameter-entity", "external-dtd", "empty-doctype"],
)
def test_a_document_type_is_refused_before_anything_of_it_is_read(xml: str) -> None:
    assert "document type" in refusal_of(xml.encode())
    assert "document type" in refusal_of(xml.encode("utf-16"))


def test_xinclude_is_never_followed(tmp_path: Path) -> None:
    (tmp_path / "included").write_text("seen")
    include = f"<xi:include xmlns:xi='http://www.w3.org/2001/XInclude' parse='text' href='{tmp_path}/included'/>"
    root = parse(f"<domain><metadata>{include}</metadata></domain>".encode())
    assert "seen" not in "".join(map(str, root.itertext()))


def test_size_is_bounded() -> None:
    fitting = machine() + " " * (MAX_BYTES - len(machine()))
    assert parse(fitting.encode()).tag == "domain"
    assert refusal_of((fitting + " ").encode()) == "it has 524,289 bytes, the limit is 524,288"


def test_depth_is_bounded() -> None:
    assert parse(("<a>" * MAX_DEPTH + "</a>" * MAX_DEPTH).encode()).tag == "a"
    deeper = ("<a>" * (MAX_DEPTH + 1) + "</a>" * (MAX_DEPTH + 1)).encode()
    assert refusal_of(deeper) == f"its elements are nested deeper than {MAX_DEPTH}"


def test_the_number_of_elements_is_bounded() -> None:
    assert parse(f"<a>{'<b/>' * (MAX_ELEMENTS - 1)}</a>".encode()).tag == "a"
    assert refusal_of(f"<a>{'<b/>' * MAX_ELEMENTS}</a>".encode()) == "it has more than 10,000 elements"


def test_the_number_of_attributes_is_bounded() -> None:
    attributes = [f"a{number}='1'" for number in range(MAX_ATTRIBUTES + 1)]
    assert parse(f"<a {' '.join(attributes[1:])}/>".encode()).tag == "a"
    assert refusal_of(f"<a {' '.join(attributes)}/>".encode()) == "its element 'a' has more than 64 attributes"


@pytest.mark.parametrize("xml", [b"", b"not xml", b"<domain>", b"<domain>&x;</domain>", b"<a>\xff</a>", b"<a/><b/>"])
def test_what_is_not_xml_is_refused_with_the_parsers_reason(xml: bytes) -> None:
    assert refusal_of(xml).startswith("it is not well-formed XML (")


def test_comments_processing_instructions_and_stray_text_do_not_reach_the_tree() -> None:
    root = parse(b"<?xml-stylesheet href='x'?><!-- a --><a>\n stray <b> text </b> stray <?php x ?><!-- b --></a>")
    assert [child.tag for child in root] == ["b"]
    assert "".join(map(str, root.itertext())) == "text"


def test_the_output_policy_parses_within_the_same_bounds() -> None:
    with pytest.raises(XmlRefused):
        check_output(BILLION_LAUGHS, ALLOWED)


def test_a_domain_of_somebody_else_is_nobodys_vm() -> None:
    assert identity_of(machine()) is None
