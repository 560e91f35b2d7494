import re
from pathlib import Path

import pytest
import typer

from broker.cli.chunks import Chunk
from broker.cli.pushing import placed
from broker.cli.sources import BadSource, Source, Urls, count_listed, listed, named, one_by_one
from broker.cli.tally import Tally, half_way, sentence_of
from broker.wire.items import Pushed
from broker.wire.names import OwnedName, UserName
from broker.wire.problems import ProblemCode, problem


def test_a_list_is_cut_at_line_feeds_alone_and_each_line_keeps_its_number(tmp_path: Path) -> None:
    file = tmp_path / "list"
    item = '{"name": "x\u2028y\x85z"}'.encode()
    file.write_bytes(b"\r\nhttp://h/a\r\n\n" + item + b"\n")

    assert list(listed(str(file))) == [
        Source(f"line 2 of {file}", url="http://h/a", line=b"http://h/a"),
        Source(f"line 4 of {file}", json=item, line=item),
    ]
    assert count_listed(str(file)) == 2


@pytest.mark.parametrize(
    "text",
    [
        b"https://h/%d\n" * 3 % (1, 2, 3),
        b"https://h/a\nfile:alice/b",
        b"https://h/a\r\nhttps://h/b\n",
        b"https://h/a \nhttps://h/b\n\n",
        b'https://h/"a"\nhttps://h/\\b\n',
        "https://h/ä\n".encode(),
        b"https://h/\x7f\n",
    ],
)
def test_urls_that_come_together_are_those_that_come_one_by_one(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "list"
    file.write_bytes(text)
    lines = [(number, line.strip()) for number, line in enumerate(text.split(b"\n"), 1) if line.strip()]

    assert list(one_by_one(listed(str(file)))) == [
        Source(f"line {number} of {file}", url=line.decode(), line=line) for number, line in lines
    ]


def test_urls_are_kept_together_over_many_lines(tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_text("".join(f"https://h.example/{number:0100}\n" for number in range(5_000)))

    blocks = list(listed(str(file)))

    assert all(isinstance(block, Urls) for block in blocks)
    assert len(blocks) < 20
    assert [each.place for each in one_by_one(blocks) if isinstance(each, Source)] == [
        f"line {number} of {file}" for number in range(1, 5_001)
    ]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("/no/such/file", "line 3 of .*'/no/such/file' is neither a file here nor a URL"),
        ("w" * 300, "line 3 of .*'w{80}'… cannot be read: File name too long"),
        ("a\0b", "line 3 of .* is neither a file here nor a URL"),
    ],
)
def test_a_line_that_is_nothing_is_named_and_the_next_one_is_read(tmp_path: Path, line: str, sentence: str) -> None:
    file = tmp_path / "list"
    file.write_text(f"http://h/a\n\n{line}\nhttp://h/b\n")

    first, bad, last = listed(str(file))

    assert isinstance(bad, BadSource)
    assert re.match(sentence, str(bad))
    assert bad.line == line.encode()
    assert isinstance(first, Source)
    assert isinstance(last, Source)
    assert (first.url, last.url) == ("http://h/a", "http://h/b")


def test_a_line_longer_than_any_item_ends_the_reading(tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_text("{" + "x" * 131_072)
    with pytest.raises(typer.BadParameter, match=r"line 1 of .* has more than 131072 bytes"):
        list(listed(str(file)))


def test_a_name_that_is_no_utf_8_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(typer.BadParameter, match="no UTF-8 text: rename the file"):
        named("frame\udcff.txt")


def test_the_faults_of_a_chunk_are_named_by_where_their_items_were_given() -> None:
    said = problem(
        ProblemCode.BAD_ITEMS,
        "line 2: it has no url; give it a url",
        refusals=[{"line": line, "reason": "it has no url", "remedy": "give it a url"} for line in ("2", "99")],
    )

    chunk = Chunk()
    for place in ("line 7 of list", "line 9 of list"):
        chunk.add(Source(place), b"{}\n")
    told = placed(said, chunk)

    assert told.detail == "some items are not valid"
    assert [refusal.get("path") for refusal in told.refusals] == ["line 9 of list", None]


def chunk(first: int, last: int, *, repeated: bool) -> Pushed:
    accepted = last - first + 1
    return Pushed(stream="a/b", accepted=accepted, first=first, last=last, durability="fsync", repeated=repeated)


def tally(*pushed: Pushed) -> Tally:
    total = Tally(OwnedName(UserName("a"), "b"))
    for each in pushed:
        total.add(each)
    return total


def test_what_a_key_pushed_before_is_not_told_as_new() -> None:
    before, now = chunk(1, 500, repeated=True), chunk(501, 502, repeated=False)
    assert sentence_of(tally(before, now), is_asked_again=True) == (
        "2 of 502 items pushed, the others were before: a/b/1 to a/b/502"
    )
    assert sentence_of(tally(before), is_asked_again=True) == (
        "nothing was added, this key has pushed before: a/b/1 to a/b/500"
    )
    assert sentence_of(tally(now), is_asked_again=True) == "2 items pushed: a/b/501 to a/b/502"
    assert sentence_of(tally(before), is_asked_again=False) == "500 items pushed: a/b/1 to a/b/500"


def test_names_that_are_there_are_told() -> None:
    known = Pushed(stream="a/b", accepted=1, first=7, last=7, durability="fsync", duplicates=2)
    assert sentence_of(tally(known), is_asked_again=False) == (
        "1 item pushed: a/b/7; 2 items left out, whose names are there"
    )
    nothing = Pushed(stream="a/b", accepted=0, first=8, last=7, durability="fsync", duplicates=1)
    assert (
        sentence_of(tally(nothing), is_asked_again=True) == "nothing was added; 1 item left out, whose names are there"
    )
    assert half_way(tally(known), None, "K") == "1 item was pushed (a/b/7); push again with --key K to go on"
