"""Which Debian archive this machine uses, read from its own apt sources."""

from collections.abc import Iterable, Iterator
from pathlib import Path

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def archive(etc_apt: Path) -> str | None:
    """The URI of the first Debian main archive among the sources below `etc_apt`, or None.

    Source: sources.list(5).
    """
    folder = etc_apt / "sources.list.d"
    for path in [etc_apt / "sources.list", *sorted(folder.glob("*.list")), *sorted(folder.glob("*.sources"))]:
        if not path.is_file():
            continue
        text = path.read_text(errors="replace")
        entries = deb822_entries(text) if path.suffix == ".sources" else one_line_entries(text)
        for uri, suites, components in entries:
            if is_debian_archive(uri, suites, components):
                return uri
    return None


Entry = tuple[str, list[str], list[str]]


def one_line_entries(text: str) -> Iterator[Entry]:
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words or words[0] != "deb":
            continue
        words = words[1:]
        if words and words[0].startswith("["):
            end = next((index for index, word in enumerate(words) if word.endswith("]")), len(words))
            words = words[end + 1 :]
        if len(words) >= 3:
            yield words[0], [words[1]], words[2:]


def deb822_entries(text: str) -> Iterator[Entry]:
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    for stanza in "\n".join(lines).split("\n\n"):
        fields = _fields(stanza.splitlines())
        if "deb" not in fields.get("types", []) or fields.get("enabled", ["yes"]) == ["no"]:
            continue
        for uri in fields.get("uris", []):
            yield uri, fields.get("suites", []), fields.get("components", [])


def _fields(lines: Iterable[str]) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    name = ""
    for line in lines:
        if line[:1].isspace():
            fields.setdefault(name, []).extend(line.split())
        elif ":" in line:
            name, _, value = line.partition(":")
            name = name.lower()
            fields[name] = value.split()
    return fields


def is_debian_archive(uri: str, suites: list[str], components: list[str]) -> bool:
    """Whether a source is Debian's own main archive: not its security or back-ports suite, not a third party's."""
    # Debian's cloud images name a list of mirrors by file: mirror+file:/etc/apt/mirrors/debian.list
    last = uri.rstrip("/").rpartition("/")[2].removesuffix(".list")
    return last == "debian" and "main" in components and any("-" not in suite and "/" not in suite for suite in suites)
