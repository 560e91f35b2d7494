"""Paths below a user: of a scope, of a file. Compared by whole segments, refused when they could mean something else.

Nothing is normalised: a path that needs it is somebody's mistake or somebody's trick, and is refused with a sentence.
"""

from typing import NamedTuple

from broker.wire.names import BadName, UserName, check_name

MAX_PATH_BYTES = 1_024
MAX_SEGMENT_BYTES = 255
FILE_SCHEME = "file:"

Segments = tuple[str, ...]


class BadPath(ValueError):
    """A path that is refused; its text is a sentence for the person who wrote it."""


class FilePath(NamedTuple):
    """A file of the file service, written `USER/PATH`, as an address `file:USER/PATH`."""

    user: UserName
    segments: Segments

    @property
    def path(self) -> str:
        return "/".join(self.segments)

    @property
    def name(self) -> str:
        return self.segments[-1]

    @property
    def url(self) -> str:
        return f"{FILE_SCHEME}{self}"

    def __str__(self) -> str:
        return f"{self.user}/{self.path}"


class FolderPath(NamedTuple):
    """A folder of the file service: what is below a path, written `USER/PATH/`; `USER/` is all that is the user's."""

    user: UserName
    segments: Segments

    @property
    def prefix(self) -> str:
        """What the paths of its files begin with: '', or its own path and a slash."""
        return "".join(f"{each}/" for each in self.segments)

    def __str__(self) -> str:
        return f"{self.user}/{self.prefix}"


def split_path(text: str) -> Segments:
    """Split `a/b/c` into its segments.

    Raises:
        BadPath: an empty, `.` or `..` segment, an encoded slash, a backslash, a control character, or too long.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_PATH_BYTES:
        raise BadPath(f"a path of more than {MAX_PATH_BYTES} bytes is refused: shorten it")
    segments = tuple(text.split("/"))
    for segment in segments:
        fault = _fault(segment)
        if fault:
            raise BadPath(f"{text!r} is no path: {fault}")
    return segments


def parse_file_path(text: str) -> FilePath:
    """Read `USER/PATH`.

    Raises:
        BadPath: on any other shape.
    """
    user, slash, path = text.partition("/")
    if not slash:
        raise BadPath(f"{text!r} names no file: write USER/PATH")
    try:
        checked = UserName(check_name(user, "user"))
    except BadName as error:
        raise BadPath(str(error)) from error
    return FilePath(checked, split_path(path))


def parse_folder_path(text: str) -> FolderPath:
    """Read `USER/PATH/` or `USER/`.

    Raises:
        BadPath: on any other shape.
    """
    if not text.endswith("/"):
        raise BadPath(f"{text!r} names no folder: end it with a slash")
    if text.count("/") > 1:
        return FolderPath(*parse_file_path(text[:-1]))
    return FolderPath(parse_file_path(f"{text}x").user, ())


def parse_file_url(url: str) -> FilePath:
    """Read `file:USER/PATH`; the path is taken as it is, without percent-decoding.

    Raises:
        BadPath: on any other shape.
    """
    if not url.startswith(FILE_SCHEME) or url.startswith("file:/"):
        raise BadPath(f"{url!r} is no file of the broker: write file:USER/PATH")
    return parse_file_path(url.removeprefix(FILE_SCHEME))


def _fault(segment: str) -> str | None:
    if not segment:
        return "it has an empty part between two slashes"
    if segment in {".", ".."}:
        return f"the part {segment!r} is refused"
    if "\\" in segment or any(code in segment.lower() for code in ("%2f", "%5c")):
        return "backslashes and encoded slashes are refused"
    if any(ord(char) < 0x20 or ord(char) == 0x7F or 0xD800 <= ord(char) <= 0xDFFF for char in segment):
        return "control characters are refused"
    if len(segment.encode()) > MAX_SEGMENT_BYTES:
        return f"a part of more than {MAX_SEGMENT_BYTES} bytes is refused"
    return None
