"""Text of a guest's, made fit for a log and a terminal."""


def printable(text: str, limit_characters: int) -> str:
    """Return one line of it: escape what would move a terminal's cursor or begin a line of its own, and cut."""
    head = text[: limit_characters + 1]
    line = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in head)
    return line if len(line) <= limit_characters else f"{line[: limit_characters - 1]}…"
