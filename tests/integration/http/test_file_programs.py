"""The file service as curl, wget and rclone see it, and what a browser is sent."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.grid import REPOSITORY, Broker, Home, free_port

MIB = 1_048_576
HOSTILE = 'javascript:alert(1)"><script>x<&\u202e #?%41.html'


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(Home(tmp_path_factory.mktemp("b")), free_port())
    with broker.serving():
        yield broker


def run(folder: Path, *words: str, **environment: str) -> str:
    ended = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "HOME": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, f"{words}: {ended.stdout}{ended.stderr}"
    return ended.stdout


def curl(broker: Broker, folder: Path, *words: str) -> str:
    return run(folder, "curl", "-sS", "--fail-with-body", "-H", f"Authorization: Bearer {broker.token()}", *words)


def put(broker: Broker, folder: Path, name: str, content: bytes) -> None:
    (folder / "sent").write_bytes(content)
    curl(broker, folder, "-T", "sent", f"{broker.url}/v1/files/alice/{name}")


def rclone(broker: Broker, folder: Path, *words: str) -> str:
    remote = {
        "RCLONE_CONFIG_B_TYPE": "webdav",
        "RCLONE_CONFIG_B_VENDOR": "other",
        "RCLONE_CONFIG_B_URL": f"{broker.url}/v1/files/alice/",
        "RCLONE_CONFIG_B_BEARER_TOKEN": broker.token(),
        "RCLONE_CONFIG": str(folder / "none.conf"),
    }
    return run(folder, "rclone", "--retries", "1", "--low-level-retries", "1", *words, **remote)


def share(broker: Broker, name: str, **body: Any) -> str:
    return str(broker.call("POST", f"/v1/shares/alice/{name}", body, broker.token())["url"])


def test_rclone_copies_both_ways_lists_and_deletes(broker: Broker, tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    (there / "a/b").mkdir(parents=True)
    contents = {"one.txt": b"one", "a/two two.bin": os.urandom(2 * MIB), "a/b/ä&<3>.txt": b"", "a/b/4": b"4"}
    for name, content in contents.items():
        (there / name).write_bytes(content)

    rclone(broker, tmp_path, "copy", "there", "b:rc/in")
    rclone(broker, tmp_path, "copy", "there", "b:rc/in")
    rclone(broker, tmp_path, "copy", "b:rc/in", "back")

    assert {str(path.relative_to(back)): path.read_bytes() for path in back.rglob("*") if path.is_file()} == contents
    assert set(rclone(broker, tmp_path, "lsf", "-R", "b:rc").split("\n")) - {""} == {
        "in/",
        "in/a/",
        "in/a/b/",
        *(f"in/{name}" for name in contents),
    }
    rclone(broker, tmp_path, "mkdir", "b:rc/empty")
    rclone(broker, tmp_path, "deletefile", "b:rc/in/one.txt")
    rclone(broker, tmp_path, "sync", "back/a", "b:rc/in/a")
    rclone(broker, tmp_path, "delete", "b:rc/in/a/b")
    assert rclone(broker, tmp_path, "lsf", "-R", "--files-only", "b:rc").split() == ["in/a/two", "two.bin"]


def test_a_cut_download_goes_on_with_curl_and_with_wget(broker: Broker, tmp_path: Path) -> None:
    content = os.urandom(3 * MIB)
    put(broker, tmp_path, "big", content)
    for name in ("of-curl", "of-wget"):
        (tmp_path / name).write_bytes(content[:MIB])

    curl(broker, tmp_path, "-C", "-", "-o", "of-curl", f"{broker.url}/v1/files/alice/big")
    run(tmp_path, "wget", "-q", "-c", "-O", "of-wget", share(broker, "big"))

    assert (tmp_path / "of-curl").read_bytes() == (tmp_path / "of-wget").read_bytes() == content


def test_the_tag_is_the_digest_and_a_range_of_other_bytes_is_answered_whole(broker: Broker, tmp_path: Path) -> None:
    put(broker, tmp_path, "tagged", b"0123456789")
    url = f"{broker.url}/v1/files/alice/tagged"
    tag = f'"{hashlib.sha256(b"0123456789").hexdigest()}"'

    head = curl(broker, tmp_path, "--head", url).lower()

    assert f"etag: {tag}" in head
    assert "accept-ranges: bytes" in head
    assert "content-length: 10" in head
    assert "repr-digest: sha-256=:" in head
    assert "last-modified: " in head
    asked = ("-H", "Range: bytes=4-5")
    assert curl(broker, tmp_path, *asked, "-H", f"If-Range: {tag}", url) == "45"
    assert curl(broker, tmp_path, *asked, "-H", 'If-Range: "other"', url) == "0123456789"
    assert curl(broker, tmp_path, *asked, "-H", f"If-Range: W/{tag}", url) == "0123456789"
    beyond = ("-H", "Range: bytes=10-", "-H", 'If-Range: "other"')
    assert curl(broker, tmp_path, *beyond, url) == "0123456789"  # a larger file was replaced by this one
    assert curl(broker, tmp_path, *asked, "-H", f"If-Match: {tag}", url) == "45"
    code = ("-o", "answer", "-w", "%{http_code}")
    assert curl(broker, tmp_path, *code, "-H", f"If-None-Match: W/{tag}", url) == "304"
    modified = next(line for line in head.splitlines() if line.startswith("last-modified")).partition(": ")[2]
    assert curl(broker, tmp_path, *code, "-H", f"If-Modified-Since: {modified}", url) == "304"
    refused = subprocess.run(
        ["curl", "-sS", "-H", f"Authorization: Bearer {broker.token()}", "-H", 'If-Match: "other"', *code, url],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert refused.stdout == "412"


def test_a_listing_comes_in_pages_that_changes_do_not_shift(broker: Broker, tmp_path: Path) -> None:
    for name in ("pages/a", "pages/b/1", "pages/b/2", "pages/c", "pages/d"):
        put(broker, tmp_path, name, name.encode())

    def page(query: str) -> Any:
        return json.loads(curl(broker, tmp_path, f"{broker.url}/v1/files/alice/pages/{query}"))

    first = page("?limit=2")
    put(broker, tmp_path, "pages/A", b"before all")
    second = page(f"?limit=2&cursor={first['next_cursor']}")

    assert first["folder"] == "file:alice/pages/"
    assert [each["name"] for each in first["entries"]] == ["a", "b/"]
    assert [each["name"] for each in second["entries"]] == ["c", "d"]
    assert "next_cursor" not in second
    assert second["entries"][0]["size_bytes"] == 7
    assert [each["name"] for each in page("?recursive=1")["entries"]] == ["A", "a", "b/1", "b/2", "c", "d"]


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name == "href"]


def test_a_shared_folder_is_a_page_in_a_browser_on_which_nothing_runs(broker: Broker, tmp_path: Path) -> None:
    token = broker.token()
    put(broker, tmp_path, f"shown/{quote(HOSTILE, safe='')}", b"<script>alert(1)</script>")
    put(broker, tmp_path, "shown/below/x", b"x")
    url = share(broker, "shown/")

    head = run(tmp_path, "curl", "-sS", "-D", "-", "-o", "page.html", "-H", "Accept: text/html", url).lower()
    page = _Links()
    page.feed((tmp_path / "page.html").read_text())
    run(tmp_path, "wget", "-q", "-r", "-np", "-nH", "--cut-dirs=3", "-P", "got", "--header=Accept: text/html", url)

    assert "content-security-policy: default-src 'none'; sandbox allow-downloads" in head
    assert "x-content-type-options: nosniff" in head
    assert page.tags == {"meta", "title", "h1", "ul", "li", "a"}
    assert page.links
    assert all(link.startswith("./") for link in page.links)
    assert token not in (tmp_path / "page.html").read_text()
    got = {path.read_bytes() for path in (tmp_path / "got").rglob("*") if path.is_file()}
    assert {b"x", b"<script>alert(1)</script>"} <= got


def test_a_shared_address_makes_one_file_and_reads_no_other(broker: Broker, tmp_path: Path) -> None:
    (tmp_path / "sent").write_bytes(b"first")
    url = share(broker, "drop/one", is_write=True, life_s=60)

    run(tmp_path, "curl", "-sS", "--fail-with-body", "-T", "sent", url)
    (tmp_path / "sent").write_bytes(b"second")
    again = run(tmp_path, "curl", "-sS", "-T", "sent", url)
    read = run(tmp_path, "curl", "-sS", url)
    other = run(tmp_path, "curl", "-sS", "-T", "sent", url.replace("drop/one", "drop/two"))

    assert json.loads(again)["type"].endswith("already_exists")
    assert json.loads(read)["type"].endswith("forbidden")
    assert json.loads(other)["type"].endswith("forbidden")
    assert curl(broker, tmp_path, f"{broker.url}/v1/files/alice/drop/one") == "first"


def test_what_the_page_says_works_as_it_stands(broker: Broker, tmp_path: Path) -> None:
    page = (REPOSITORY / "docs/how-to/files.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    script = "\n".join(f"echo '== {number}'\n{block}" for number, block in enumerate(blocks))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    said = run(
        tmp_path,
        *("bash", "-euo", "pipefail", "-c", script),
        **{**broker.home.environment(), "PATH": path, "BROKER": broker.url, "USER_NAME": "alice"},
    )

    assert len(blocks) == 4
    assert said.count("a frame") == 1
    assert (tmp_path / "again/raw/1.dat").read_bytes() == b"1\n"
    assert (tmp_path / "w.txt").read_bytes() == b"a frame\n"
