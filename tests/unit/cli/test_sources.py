from pathlib import Path

import pytest
import typer

from broker.cli.push import _placed, _sentence
from broker.cli.sources import Source, listed, named
from broker.wire.items import Pushed
from broker.wire.problems import ProblemCode, problem


def test_a_list_is_cut_at_line_feeds_alone_and_each_line_keeps_its_number(tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_bytes('\r\nhttp://h/a\r\n\n{"name": "x\u2028y\x85z"}\n'.encode())

    assert list(listed(str(file))) == [
        Source(f"line 2 of {file}", url="http://h/a"),
        Source(f"line 4 of {file}", json='{"name": "x\u2028y\x85z"}'),
    ]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("/no/such/file", "line 3 of .*'/no/such/file' is neither a file here nor a URL"),
        ("w" * 300, "line 3 of .*'w{80}'… cannot be read: File name too long"),
        ("{" + "x" * 131_072, "line 3 of .* has more than 131072 characters"),
    ],
)
def test_a_line_that_is_nothing_is_named(tmp_path: Path, line: str, sentence: str) -> None:
    file = tmp_path / "list"
    file.write_text(f"http://h/a\n\n{line}\n")

    with pytest.raises(typer.BadParameter, match=sentence):
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

    placed = _placed(said, ["line 7 of list", "line 9 of list"])

    assert placed.detail == "some items are not valid"
    assert [refusal.get("path") for refusal in placed.refusals] == ["line 9 of list", None]


def chunk(first: int, last: int, *, repeated: bool) -> Pushed:
    accepted = last - first + 1
    return Pushed(stream="a/b", accepted=accepted, first=first, last=last, durability="fsync", repeated=repeated)


def test_what_a_key_pushed_before_is_not_told_as_new() -> None:
    before, now = chunk(1, 500, repeated=True), chunk(501, 502, repeated=False)

    assert _sentence([before, now], is_asked_again=True) == (
        "2 of 502 items pushed, the others were before: a/b/1 to a/b/502"
    )
    assert _sentence([before], is_asked_again=True) == "nothing was added, this key has pushed before: a/b/1 to a/b/500"
    assert _sentence([now], is_asked_again=True) == "2 items pushed: a/b/501 to a/b/502"
    assert _sentence([before], is_asked_again=False) == "500 items pushed: a/b/1 to a/b/500"
