"""`broker file …` against a real broker."""

import json
import os
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.support.grid import Broker, Home

MIB = 1_048_576


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with a file that goes up in four parts, one in one, and small ones."""
    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "large").write_bytes(os.urandom(65 * MIB))
    (tree / "a/middle").write_bytes(os.urandom(17 * MIB))
    (tree / "a/b/small ä").write_bytes(b"small")
    (tree / "a/b/none").write_bytes(b"")
    return tree


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_goes_up_is_listed_comes_down_and_is_removed(
    broker: Broker, home: Home, tree: Path, tmp_path: Path
) -> None:
    names = ["a/b/none", "a/b/small ä", "a/middle", "large"]

    said = home.ok("broker", "file", "put", str(tree), "--to", "kept")
    again = home.ok("broker", "file", "put", str(tree), "--to", "kept")
    home.ok("broker", "file", "get", "kept/tree/", str(tmp_path / "back"))

    assert sorted(said.splitlines()) == sorted(again.splitlines()) == [f"file:alice/kept/tree/{each}" for each in names]
    assert contents(tmp_path / "back") == contents(tree)
    assert broker.call("GET", "/v1/uploads", token=broker.token()) == []
    listed = [
        json.loads(line) for line in home.ok("broker", "file", "ls", "kept/tree", "-r", "-o", "jsonl").splitlines()
    ]
    assert [each["name"] for each in listed] == names
    assert [each["name"] for each in json.loads(home.ok("broker", "file", "ls", "kept/tree/", "-o", "json"))] == [
        "a/",
        "large",
    ]
    assert "65.0 MiB" in home.ok("broker", "file", "ls", "kept/tree")
    refused = home.run("broker", "file", "rm", "kept/tree")
    assert (refused.status, "add --recursive" in refused.err) == (4, True)
    assert home.ok("broker", "file", "rm", "-r", "kept/tree/a").splitlines() == [
        f"file:alice/kept/tree/{each}" for each in names[:3]
    ]
    gone = home.run("broker", "file", "rm", "kept/nothing", "kept/tree/large")
    assert (gone.status, gone.out) == (4, "file:alice/kept/tree/large\n")
    assert home.run("broker", "file", "ls", "kept").status == 4


def test_a_download_that_was_cut_goes_on_and_what_is_there_is_not_asked_for(
    broker: Broker, home: Home, tmp_path: Path
) -> None:
    content = os.urandom(20 * MIB)
    (tmp_path / "sent").write_bytes(content)
    home.ok("broker", "file", "put", str(tmp_path / "sent"), "cut/one")
    digest = json.loads(home.ok("broker", "file", "ls", "cut", "-o", "json"))[0]["digest"].removeprefix("sha256:")
    part, marks = tmp_path / f".{digest[:32]}.part", tmp_path / f".{digest[:32]}.blocks"
    # As a process that was killed left it: of three blocks two are there, and the second one is wrong.
    part.write_bytes(content[: 8 * MIB] + bytes(8 * MIB) + bytes(4 * MIB))
    marks.write_bytes(b"11\0")

    differs = home.run("broker", "file", "get", "cut/one", str(tmp_path / "got"))
    part.write_bytes(content[: 16 * MIB] + bytes(4 * MIB))
    marks.write_bytes(b"11\0")
    home.ok("broker", "file", "get", "cut/one", str(tmp_path / "got"))

    assert (differs.status, "nothing was kept" in differs.err) == (1, True)
    assert (tmp_path / "got").read_bytes() == content
    assert not part.exists()
    assert not marks.exists()


def test_a_share_is_for_whoever_has_it(home: Home, broker: Broker, tmp_path: Path) -> None:
    (tmp_path / "sent").write_bytes(b"shared")
    home.ok("broker", "file", "put", str(tmp_path / "sent"), "shared/one")

    url = home.ok("broker", "file", "share", "shared/one", "--life", "1h").strip()

    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.read() == b"shared"
    with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10) as answer:
        assert answer.headers["Content-Length"] == "6"
    made = home.ok("broker", "file", "share", "shared/two", "--write").strip()
    with urllib.request.urlopen(urllib.request.Request(made, b"made", method="PUT"), timeout=10) as answer:
        assert answer.status == 201
    home.ok("broker", "file", "rm", "shared/one")
    with pytest.raises(urllib.error.HTTPError) as gone:
        urllib.request.urlopen(url, timeout=10)
    assert gone.value.code == 404
    for words, sentence in (
        (("shared/two", "--life", "31d"), "30 days"),
        (("shared/none",), "there is no file file:alice/shared/none"),
        (("shared/", "--write"), "name the file"),
    ):
        said = home.run("broker", "file", "share", *words)
        assert (said.status, sentence in said.err) == (4, True), said


def test_what_could_be_meant_otherwise_is_asked_for(home: Home, broker: Broker, tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / name).write_bytes(name.encode())

    for words in ((str(tmp_path),), tuple(str(tmp_path / name) for name in ("one", "two", "three"))):
        said = home.run("broker", "file", "put", *words)
        assert (said.status, "say --to FOLDER" in said.err) == (2, True), said
    missing = home.run("broker", "file", "get", "no/such", str(tmp_path / "none"))
    assert (missing.status, "a folder is named with a slash at its end: no/such/" in missing.err) == (4, True)
