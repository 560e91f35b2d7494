"""The parts of a push: its lines, cut as they come."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from broker.domain.errors import Rejected
from broker.http.call import limit
from broker.wire.problems import ProblemCode


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the lines of a push. `lines` are the numbers of those that hold something, from 1 over the request."""

    body: bytes
    first_line: int = 1
    number: int = 0
    """Which of the request's parts it is."""
    is_last: bool = False

    def lines(self) -> list[tuple[int, bytes]]:
        numbered = enumerate(self.body.split(b"\n"), self.first_line)
        return [(number, line) for number, line in numbered if line.strip()]


async def parts_of(chunks: AsyncIterator[bytes]) -> AsyncIterator[Part]:
    """Cut lines into parts: always the same for the same lines, however they come."""
    most, most_lines = limit("push_bytes"), limit("push_items")
    first_line, number, rest, lines = 1, 0, bytearray(), 0
    async for chunk in chunks:
        rest += chunk
        lines += chunk.count(b"\n")
        # Counted, so that a part that comes in pieces is not looked through for each of them.
        while lines >= most_lines or len(rest) > most:
            end = _end_of_part(rest)
            part = Part(bytes(rest[:end]), first_line, number)
            of_part = part.body.count(b"\n")
            first_line, number, lines = first_line + of_part, number + 1, lines - of_part
            del rest[:end]
            yield part
    yield Part(bytes(rest), first_line, number, is_last=True)


def _end_of_part(body: bytearray) -> int:
    """Return where the first part ends, of what has more lines or bytes than one.

    Raises:
        Rejected: TOO_LARGE: one line is longer than any item.
    """
    most, most_lines = limit("push_bytes"), limit("push_items")
    # One call: to look for each line feed costs more than to copy the lines.
    *lines, rest = body.split(b"\n", most_lines)
    if len(lines) == most_lines and len(body) - len(rest) <= most:
        return len(body) - len(rest)
    end = body.rfind(b"\n", 0, most) + 1
    if not end:
        raise Rejected(ProblemCode.TOO_LARGE, f"one line has more than {most} bytes: no item is that long")
    return end
