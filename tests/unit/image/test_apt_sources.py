from pathlib import Path

import pytest

from deploy.image.builder.apt_sources import archive

DEB822 = """\
Types: deb deb-src
# where it came from
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://mirror.example/debian/ http://other.example/debian
Suites: bookworm
 bookworm-updates
Components: main contrib
"""


def write(etc_apt: Path, name: str, text: str) -> None:
    path = etc_apt / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_finds_the_archive_in_deb822_sources(tmp_path: Path) -> None:
    write(tmp_path, "sources.list.d/debian.sources", DEB822)
    assert archive(tmp_path) == "http://mirror.example/debian/"


@pytest.mark.parametrize(
    ("line", "uri"),
    [
        ("deb http://mirror.example/debian bookworm main", "http://mirror.example/debian"),
        ("deb [arch=amd64 signed-by=/k.gpg] http://m.example/debian trixie main # ours", "http://m.example/debian"),
        ("deb [ arch=amd64 ] http://m.example/debian trixie main", "http://m.example/debian"),
        ("deb mirror+file:/etc/apt/mirrors/debian.list trixie main", "mirror+file:/etc/apt/mirrors/debian.list"),
    ],
)
def test_finds_the_archive_in_one_line_sources(tmp_path: Path, line: str, uri: str) -> None:
    write(tmp_path, "sources.list", f"\n# a comment\n{line}\n")
    assert archive(tmp_path) == uri


@pytest.mark.parametrize(
    "line",
    [
        "deb-src http://mirror.example/debian bookworm main",
        "#deb http://mirror.example/debian bookworm main",
        "deb http://mirror.example/debian-security bookworm-security main",
        "deb http://mirror.example/debian bookworm-backports main",
        "deb http://mirror.example/debian bookworm contrib",
        "deb http://containers.example/linux/debian bookworm stable",
        "deb http://mirror.example/ubuntu noble main",
        "deb http://flat.example/debian ./",
    ],
)
def test_takes_no_other_source_for_the_archive(tmp_path: Path, line: str) -> None:
    write(tmp_path, "sources.list.d/other.list", line)
    assert archive(tmp_path) is None


def test_leaves_disabled_sources_alone(tmp_path: Path) -> None:
    write(tmp_path, "sources.list.d/debian.sources", f"{DEB822}Enabled: no\n")
    assert archive(tmp_path) is None
